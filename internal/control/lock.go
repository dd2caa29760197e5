package control

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockPatience = 10 * time.Second
	runPatience  = 100 * time.Millisecond // Running holds the lock of a run for a moment
	lockPause    = 10 * time.Millisecond
)

// ErrBusy: another command changes limits, and does not end.
var ErrBusy = errors.New("another ctwatch changes the limits")

// RunningError: another instance runs.
type RunningError struct{ PID string } // untrusted text; "" is not known

// Error says so.
func (e *RunningError) Error() string { return "another instance is running" }

// Lock waits, some ten seconds at most, until no other command changes limits, and keeps others from it. The kernel gives
// it back however the process ends.
func Lock(root string) (release func(), err error) { return lock(root, lockPatience) }

func lock(root string, patience time.Duration) (release func(), err error) {
	f, held, err := hold(root, lockName, patience)
	if held {
		return nil, errors.Join(ErrBusy, f.Close())
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// LockRun is held while a daemon runs: two would count the same packets, and heal twice.
func LockRun(root string) (release func(), err error) {
	f, held, err := hold(root, runName, runPatience)
	if held {
		return nil, errors.Join(&RunningError{readPID(f)}, f.Close())
	}
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid()) // for messages only
	}
	return func() { _ = f.Close() }, nil
}

// Running reports whether a daemon holds its lock, and its pid as it noted it, which is untrusted text. It fails where we
// may not look.
func Running(root string) (running bool, pid string, err error) {
	d, err := openDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return false, "", nil
	}
	if err != nil {
		return false, "", err
	}
	defer d.Close()
	f, err := d.open(runName, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, "", nil
	}
	if err != nil {
		return false, "", err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return false, "", nil
	}
	return true, readPID(f), nil
}

func readPID(f *os.File) string {
	text := make([]byte, 32)
	n, _ := f.ReadAt(text, 0)
	return strings.TrimSpace(string(bytes.ToValidUTF8(text[:n], nil)))
}

// hold takes a lock, and waits for it. Where others held it all the time, the file is returned as well.
func hold(root, name string, patience time.Duration) (f *os.File, held bool, err error) {
	d, err := makeDir(root)
	if err != nil {
		return nil, false, err
	}
	defer d.Close()
	if f, err = d.open(name, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, false, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(lockPause) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, false, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, false, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		if time.Now().After(deadline) {
			return f, true, nil
		}
	}
}
