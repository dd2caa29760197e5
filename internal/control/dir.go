package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// dir is the directory with our files. Below a root of its own, which may be an image that somebody else has filled, no
// link leads out of it.
type dir struct {
	*os.File
}

func openDir(root string) (dir, error) { return reach(root, false) }

func makeDir(root string) (dir, error) { return reach(root, true) }

func reach(root string, create bool) (dir, error) {
	path := filepath.Join("/", root, dirName)
	if root = filepath.Join("/", root); root == "/" {
		if create {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return dir{}, err
			}
		}
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
		return dir{f}, err
	}
	below, err := os.OpenRoot(root)
	if err != nil {
		return dir{}, err
	}
	defer below.Close()
	if create {
		err = below.MkdirAll(dirName, 0o755)
	}
	if err == nil {
		var f *os.File
		if f, err = below.OpenFile(dirName, os.O_RDONLY|unix.O_DIRECTORY, 0); err == nil {
			return dir{f}, nil
		}
	}
	// os.Root tells the way only from the root on.
	if p := new(fs.PathError); errors.As(err, &p) {
		err = p.Err
	}
	return dir{}, fmt.Errorf("open %s: %w", path, err)
}

// open opens a file of the directory, and no link in its place.
func (d dir) open(name string, flag int, mode fs.FileMode) (*os.File, error) {
	path := filepath.Join(d.Name(), name)
	fd, err := unix.Openat(int(d.Fd()), name, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, uint32(mode))
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// replace puts a file in the place of another. The caller holds the lock.
func (d dir) replace(name string, text []byte) (err error) {
	temporary := "." + name + ".new"
	// What a killed command left is in the way.
	if err := d.remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.open(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close()) // whatever the umask: everybody may read it
	if err == nil {
		if err = unix.Renameat(int(d.Fd()), temporary, int(d.Fd()), name); err != nil {
			err = &os.LinkError{Op: "rename", Old: f.Name(), New: filepath.Join(d.Name(), name), Err: err}
		}
	}
	if err != nil {
		return errors.Join(err, d.remove(temporary))
	}
	return nil
}

func (d dir) remove(name string) error {
	if err := unix.Unlinkat(int(d.Fd()), name, 0); err != nil {
		return &fs.PathError{Op: "remove", Path: filepath.Join(d.Name(), name), Err: err}
	}
	return nil
}
