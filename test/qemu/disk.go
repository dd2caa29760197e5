package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// WriteDisk writes the image of a disk with an ext4 file system of root's, without a partition: a tree, but for what
// matches one of the patterns in without, and these files, which replace those of the tree. stage is a directory to make on
// the file system of the tree.
func WriteDisk(ctx context.Context, image, stage, tree string, without []string, files []File) error {
	omitted := map[string]bool{}
	for _, pattern := range without {
		names, err := filepath.Glob(filepath.Join(tree, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			omitted[name] = true
		}
	}
	err := filepath.WalkDir(tree, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if omitted[p] && d.IsDir() {
			return fs.SkipDir
		} else if omitted[p] {
			return nil
		}
		rel, err := filepath.Rel(tree, p)
		if err != nil {
			return err
		}
		to := filepath.Join(stage, rel)
		if !d.IsDir() {
			return os.Link(p, to)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		return os.Chmod(to, info.Mode()) // whatever the umask is
	})
	if err != nil {
		return fmt.Errorf("stage %s: %w", tree, err)
	}
	for _, f := range files {
		if err := f.place(stage); err != nil {
			return fmt.Errorf("stage %s: %w", f.Name, err)
		}
	}
	if err := errors.Join(os.WriteFile(image, nil, 0o644), os.Truncate(image, diskSize)); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-d", stage, image)
	if uid := os.Getuid(); uid != 0 {
		// The files are this user's; in a namespace of its own they are root's.
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: uid, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	}
	_, err = Output(cmd)
	return err
}

// diskSize is how many bytes a disk has; of the file on this machine most are holes.
const diskSize = 512 << 20

// place writes a file below a directory of this machine. What is there already may be linked to what must not be changed.
func (f File) place(dir string) error {
	name := filepath.Join(dir, f.Name)
	if f.Mode.IsDir() {
		return os.MkdirAll(name, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch {
	case f.Mode.Type() == fs.ModeSymlink:
		return os.Symlink(f.Contents, name)
	case f.Mode.Type() != 0:
		return fmt.Errorf("no way to place a file of mode %v", f.Mode)
	case f.Source != "":
		contents, err := os.ReadFile(f.Source)
		if err != nil {
			return err
		}
		f.Contents = string(contents)
	}
	return errors.Join(os.WriteFile(name, []byte(f.Contents), f.Mode), os.Chmod(name, f.Mode))
}

// Overlay makes a disk that is another one until it is written to. The guest may believe that what it flushed is on it,
// and nothing else: QEMU itself keeps where new blocks are until then, and loses that when it is killed.
func Overlay(ctx context.Context, disk, over string) error {
	_, err := Output(exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", over, disk))
	return err
}
