package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockPath is held while `ctwatch run` runs: two would count the same packets and, once they heal, heal twice.
const lockPath = "/run/ctwatch/lock"

// runningError: another instance holds the lock.
type runningError struct{ holder string }

func (e runningError) Error() string { return "another instance is running" + e.holder }

// lock takes the lock, which the kernel gives back however we end. Who may not write there may not count either, so
// that is no error.
func lock(root string) (release func(), err error) {
	path := filepath.Join("/", root, lockPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return lockFailed(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return lockFailed(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		pid := make([]byte, 32)
		n, _ := f.Read(pid)
		if s := strings.TrimSpace(string(pid[:n])); s != "" {
			return nil, runningError{fmt.Sprintf(" (pid %s)", printable(s))}
		}
		return nil, runningError{}
	}
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid()) // only for the message above
	}
	return func() { _ = f.Close() }, nil
}

func lockFailed(err error) (func(), error) {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return func() {}, nil
	}
	return nil, fmt.Errorf("take the lock: %w", err)
}
