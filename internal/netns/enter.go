package netns

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrGone: what stood at the path is no longer there, or is no longer the namespace that was meant.
var ErrGone = errors.New("network namespace is gone")

// home is the namespace that this process runs in, held open: that pins no other one.
type home struct {
	fd    int
	inode uint64
}

// openHome opens the namespace of the calling thread. It is not /proc/self's, which is that of the first thread: that
// one may be stuck elsewhere, for the runtime cannot destroy it (see enter). /proc/thread-self is newer than CentOS 7.
func openHome() (home, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, inode, err := open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		return home{}, fmt.Errorf("open own network namespace: %w", err)
	}
	return home{fd, inode}, nil
}

// enter runs f on a thread that is in the namespace of that inode at path. The namespace is held while f runs, and no
// longer. The error is f's own, ErrGone, or why the namespace cannot be entered.
//
// f runs on a goroutine of its own, locked to its thread. Should the way back fail, for want of a capability dropped
// meanwhile, the goroutine ends locked, and the runtime destroys the thread rather than give it other work.
func (h home) enter(path string, inode uint64, f func() error) error {
	if inode == h.inode {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		back, err := h.enterLocked(path, inode, f)
		if back {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// enterLocked needs a locked thread and reports whether the thread is at home afterwards.
func (h home) enterLocked(path string, inode uint64, f func() error) (back bool, err error) {
	fd, found, err := open(path)
	if err != nil {
		return true, fmt.Errorf("enter network namespace: %w", err)
	}
	defer unix.Close(fd)
	if found != inode {
		return true, ErrGone
	}
	switch err := unix.Setns(fd, unix.CLONE_NEWNET); err {
	case nil:
	case unix.EINVAL: // the file of that inode is no network namespace
		return true, ErrGone
	default:
		return true, fmt.Errorf("enter network namespace: %w", err)
	}
	err = f()
	if errBack := unix.Setns(h.fd, unix.CLONE_NEWNET); errBack != nil {
		return false, errors.Join(err, fmt.Errorf("leave network namespace: %w", errBack))
	}
	return true, err
}

// open opens a namespace file. O_NONBLOCK, lest something else by that name makes us wait.
func open(path string) (fd int, inode uint64, err error) {
	fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ESRCH:
		return -1, 0, ErrGone
	default:
		return -1, 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	return fd, st.Ino, nil
}

// cookie returns the cookie of the calling thread's namespace; ENOPROTOOPT where the kernel has none (before 5.14).
func cookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
}
