package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockPatience = 10 * time.Second
	lockPause    = 10 * time.Millisecond
)

// ErrBusy: another command changes limits, and does not end.
var ErrBusy = errors.New("another ctwatch changes the limits")

// Lock waits, some ten seconds at most, until no other command changes limits, and keeps others from it. The kernel gives
// it back however the process ends.
func Lock(root string) (release func(), err error) { return lock(root, lockPatience) }

func lock(root string, patience time.Duration) (release func(), err error) {
	dir := filepath.Join("/", root, dirName)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(lockPause) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("lock %s: %w", f.Name(), err)
			break
		}
		if time.Now().After(deadline) {
			err = ErrBusy
			break
		}
	}
	return nil, errors.Join(err, f.Close())
}
