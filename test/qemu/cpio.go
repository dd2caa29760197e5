package qemu

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// File is one of an archive or a disk: of contents, or a link, or a device.
type File struct {
	Name   string      // relative, with slashes
	Mode   fs.FileMode // type and permissions; nothing else of it is kept
	Source string      // where its contents are on this machine, if not in Contents
	// Contents are the file's bytes, or where the link points.
	Contents     string
	Major, Minor uint32 // of a device
}

// cpioTypes are the S_IF numbers of include/uapi/linux/stat.h.
func cpioType(m fs.FileMode) (uint32, error) {
	switch m.Type() {
	case 0:
		return 0o100000, nil
	case fs.ModeDir:
		return 0o040000, nil
	case fs.ModeSymlink:
		return 0o120000, nil
	case fs.ModeDevice | fs.ModeCharDevice:
		return 0o020000, nil
	}
	return 0, fmt.Errorf("no way to archive a file of mode %v", m)
}

// writeCPIO writes a newc archive, the format of Documentation/driver-api/early-userspace/buffer-format.rst: owned by
// root, without times, parents made as they are needed. Of two files of one name the last one counts.
func writeCPIO(w io.Writer, files []File) error {
	c := cpio{w: w, made: map[string]bool{".": true}}
	for _, f := range files {
		if err := c.parents(path.Dir(f.Name)); err != nil {
			return err
		}
		if f.Mode.IsDir() {
			if err := c.parents(f.Name); err != nil {
				return err
			}
			continue
		}
		if err := c.file(f); err != nil {
			return fmt.Errorf("archive %s: %w", f.Name, err)
		}
	}
	if err := c.entry("TRAILER!!!", 0, nil, 0, 0); err != nil {
		return err
	}
	// What loads an initramfs likes a round size.
	return c.pad(512)
}

type cpio struct {
	w     io.Writer
	at    int
	inode uint32
	made  map[string]bool
}

// parents makes a directory and those it is in, each once.
func (c *cpio) parents(name string) error {
	if c.made[name] {
		return nil
	}
	c.made[name] = true
	if err := c.parents(path.Dir(name)); err != nil {
		return err
	}
	return c.entry(name, 0o040755, nil, 0, 0)
}

func (c *cpio) file(f File) error {
	kind, err := cpioType(f.Mode)
	if err != nil {
		return err
	}
	contents := []byte(f.Contents)
	if f.Source != "" {
		if contents, err = os.ReadFile(f.Source); err != nil {
			return err
		}
	}
	return c.entry(f.Name, kind|uint32(f.Mode.Perm()), contents, f.Major, f.Minor)
}

func (c *cpio) entry(name string, mode uint32, contents []byte, major, minor uint32) error {
	c.inode++
	links := 1
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", c.inode, mode,
		0, 0, links, 0, len(contents), 0, 0, major, minor, len(name)+1, 0)
	if err := c.write([]byte(header + name + "\x00")); err != nil {
		return err
	}
	if err := c.pad(4); err != nil {
		return err
	}
	if err := c.write(contents); err != nil {
		return err
	}
	return c.pad(4)
}

func (c *cpio) pad(to int) error {
	return c.write(bytes.Repeat([]byte{0}, (to-c.at%to)%to))
}

func (c *cpio) write(b []byte) error {
	n, err := c.w.Write(b)
	c.at += n
	return err
}

// Tree is every file below a directory of this machine, as it shall be found below another in the archive.
func Tree(from, to string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		f := File{Name: path.Join(to, filepath.ToSlash(rel)), Mode: info.Mode(), Source: p}
		if info.Mode().Type() == fs.ModeSymlink {
			f.Source = ""
			if f.Contents, err = os.Readlink(p); err != nil {
				return err
			}
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

// Text is a file of these contents.
func Text(name, contents string, mode fs.FileMode) File {
	return File{Name: strings.TrimPrefix(name, "/"), Mode: mode, Contents: contents}
}
