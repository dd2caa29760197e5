package journal

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockTries = 20
	lockPause = 10 * time.Millisecond
)

// relock takes the lock of the directory that is there now, if there was another, or none, when it was taken last. It is
// the goroutine's, and may wait for the disk.
func (w *Writer) relock() {
	there, err := os.Lstat(w.o.Dir)
	if err != nil {
		return
	}
	w.mu.Lock()
	had := w.lock
	w.mu.Unlock()
	if had != nil {
		if info, err := had.Stat(); err != nil || os.SameFile(info, there) {
			return
		}
	}
	held, err := lock(w.o.Dir)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed { // who closed had the old one
		_ = held.Close()
		return
	}
	w.lock = held
	if had != nil {
		_ = had.Close()
	}
}

// lock keeps others from writing to the directory, and tells readers that somebody writes, for as long as the file is open.
// The kernel gives it back however the process ends. If the directory is removed meanwhile, the lock goes with it.
func lock(dir string) (*os.File, error) {
	f, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || try == lockTries {
			break
		}
		time.Sleep(lockPause) // a reader holds it for a moment to see whether somebody else does
	}
	if err != nil {
		err = errors.Join(err, f.Close())
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: another ctwatch writes to %s", ErrRefused, dir)
		}
		return nil, err
	}
	return f, nil
}

// Written reports whether somebody writes to the journal in a directory now. Where that cannot be told, nobody does.
func Written(dir string) bool {
	f, err := openDir(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func openDir(dir string) (*os.File, error) {
	return os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}
