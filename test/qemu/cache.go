// Package qemu makes virtual machines out of the distribution's packages, and runs them under QEMU's software emulation,
// one at a time. It needs no KVM, no root and no image.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Cache is a directory outside the project, of one run at a time: what was downloaded, and the consoles.
type Cache struct {
	dir  string
	lock *os.File
}

// OpenCache waits for another run to end: two emulated machines on few CPUs would slow each other down until tests fail.
func OpenCache(ctx context.Context) (*Cache, error) {
	dir, err := cacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := await(ctx, lock); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Cache{dir, lock}, nil
}

func cacheDir() (string, error) {
	if dir := os.Getenv("CTWATCH_VM_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir() // $XDG_CACHE_HOME or $HOME/.cache
	if err != nil {
		return "", fmt.Errorf("where to cache kernels: %w", err)
	}
	return filepath.Join(dir, "ctwatch-vm"), nil
}

func await(ctx context.Context, lock *os.File) error {
	for told := false; ; told = true {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if !told {
			fmt.Printf("vm: waiting for the run that holds %s\n", lock.Name())
		}
		// A blocking flock would not end with ctx.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Close lets the next run in.
func (c *Cache) Close() { _ = c.lock.Close() }

// Path is where the cache has a file of its users, such as a console.
func (c *Cache) Path(name string) string { return filepath.Join(c.dir, name) }

// Work is an empty directory for this run. The next run empties it, however this one ends.
func (c *Cache) Work() (string, error) {
	dir := c.Path("work")
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.Mkdir(dir, 0o755)
}

// make makes a file or directory of the cache, unless it is there, at a temporary name that it has until it is whole.
func (c *Cache) make(name string, fill func(path string) error) (string, error) {
	path := c.Path(name)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	part := path + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	if err := fill(part); err != nil {
		return "", errors.Join(err, os.RemoveAll(part))
	}
	return path, os.Rename(part, path)
}
