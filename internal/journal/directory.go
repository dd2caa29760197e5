package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// directory is where the daily files are.
type directory struct {
	disk  disk
	path  string
	dirty []string // directories with new entries that are not synced
}

func (d *directory) file(day string) string { return filepath.Join(d.path, day+suffix) }

// makeReady makes the directory, if need be, and refuses one that others may write to or that is elsewhere.
func (d *directory) makeReady() error {
	info, err := d.disk.Lstat(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d.make(d.path, 0o750)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%w: %s is a symbolic link (name the directory itself)", ErrRefused, d.path)
	case !info.IsDir():
		return fmt.Errorf("%w: %s is no directory", ErrRefused, d.path)
	case info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("%w: everybody can write to %s (chmod o-w %[2]s)", ErrRefused, d.path)
	}
	return nil
}

func (d *directory) make(path string, perm fs.FileMode) error {
	err := d.disk.Mkdir(path, perm)
	parent := filepath.Dir(path)
	if errors.Is(err, fs.ErrNotExist) && parent != path {
		if err := d.make(parent, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		err = d.disk.Mkdir(path, perm)
	}
	if err == nil {
		d.dirty = append(d.dirty, parent)
	}
	return err
}

// open opens a day's file, or makes it.
func (d *directory) open(day string, create bool) (file, error) {
	flag := openFlags
	if create {
		flag |= os.O_CREATE | os.O_EXCL
	}
	path := d.file(day)
	f, err := d.disk.OpenFile(path, flag, 0o640)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%w: %s is a symbolic link", ErrRefused, path)
	}
	if err != nil {
		return nil, err
	}
	if create {
		d.dirty = append(d.dirty, d.path)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s is no regular file", ErrRefused, path)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// sync has the disk keep which files and directories were made. One that is gone has none.
func (d *directory) sync() error {
	for len(d.dirty) > 0 {
		if err := d.syncOne(d.dirty[0]); err != nil && !missing(err) {
			return err
		}
		d.dirty = d.dirty[1:]
	}
	return nil
}

func (d *directory) syncOne(path string) error {
	f, err := d.disk.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// days returns the daily files, oldest first. Nothing else in the directory is ours, nor what only has the name of one.
func (d *directory) days() ([]dayFile, error) {
	entries, err := d.disk.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var files []dayFile
	for _, e := range entries { // by name, which is by day
		day, ok := dayIn(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		info, err := d.disk.Lstat(filepath.Join(d.path, e.Name()))
		if missing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, dayFile{day, info.Size()})
	}
	return files, nil
}

func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
