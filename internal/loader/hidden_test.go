package loader

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// hiddenNamespace makes a namespace that only a file descriptor keeps alive, until free is called.
func hiddenNamespace(t *testing.T) (cookie uint64, free func()) {
	t.Helper()
	type made struct {
		fd     int
		cookie uint64
		err    error
	}
	done := make(chan made)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		var m made
		defer func() { done <- m }()
		if m.err = unix.Unshare(unix.CLONE_NEWNET); m.err != nil {
			return
		}
		if m.fd, m.err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); m.err != nil {
			return
		}
		s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if m.err = err; err != nil {
			return
		}
		defer unix.Close(s)
		m.cookie, m.err = unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	}()
	m := <-done
	if m.err != nil {
		t.Fatal(os.NewSyscallError("make a network namespace", m.err))
	}
	return m.cookie, func() { unix.Close(m.fd) }
}
