package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockPath is held while `ctwatch run` runs: two would count the same packets and, once they heal, heal twice.
const lockPath = "/run/ctwatch/lock"

const (
	lockTries = 10
	lockPause = 10 * time.Millisecond
)

// runningError: another instance holds the lock.
type runningError struct{ holder string }

func (e runningError) Error() string { return "another instance is running" + e.holder }

// errNoLock: the lock could not be tried, for want of a place to keep it. That is no reason not to count.
var errNoLock = errors.New("no lock could be taken, so a second instance would not be noticed")

// lock takes the lock, which the kernel gives back however we end.
func lock(root string) (release func(), err error) {
	path := filepath.Join("/", root, lockPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoLock, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoLock, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for try := 0; errors.Is(err, unix.EWOULDBLOCK) && try < lockTries; try++ {
		time.Sleep(lockPause) // `limit show` holds it for a moment to see whether somebody else does
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %w", errNoLock, err)
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
