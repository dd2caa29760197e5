package main

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

// file is one of an archive: of contents, or a link, or a device.
type file struct {
	name   string      // relative, with slashes
	mode   fs.FileMode // type and permissions; nothing else of it is kept
	source string      // where its contents are on this machine, if not in contents
	// contents are the file's bytes, or where the link points.
	contents     string
	major, minor uint32 // of a device
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
func writeCPIO(w io.Writer, files []file) error {
	c := cpio{w: w, made: map[string]bool{".": true}}
	for _, f := range files {
		if err := c.parents(path.Dir(f.name)); err != nil {
			return err
		}
		if f.mode.IsDir() {
			if err := c.parents(f.name); err != nil {
				return err
			}
			continue
		}
		if err := c.file(f); err != nil {
			return fmt.Errorf("archive %s: %w", f.name, err)
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

func (c *cpio) file(f file) error {
	kind, err := cpioType(f.mode)
	if err != nil {
		return err
	}
	contents := []byte(f.contents)
	if f.source != "" {
		if contents, err = os.ReadFile(f.source); err != nil {
			return err
		}
	}
	return c.entry(f.name, kind|uint32(f.mode.Perm()), contents, f.major, f.minor)
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

// tree is every file below a directory of this machine, as it shall be found below another in the archive.
func tree(from, to string) ([]file, error) {
	var files []file
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
		f := file{name: path.Join(to, filepath.ToSlash(rel)), mode: info.Mode(), source: p}
		if info.Mode().Type() == fs.ModeSymlink {
			f.source = ""
			if f.contents, err = os.Readlink(p); err != nil {
				return err
			}
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

// text is a file of these contents.
func text(name, contents string, mode fs.FileMode) file {
	return file{name: strings.TrimPrefix(name, "/"), mode: mode, contents: contents}
}
