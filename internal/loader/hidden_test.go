package loader

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// hiddenNamespace makes a namespace that only a file descriptor keeps alive, until free is called.
func hiddenNamespace(t *testing.T) (cookie uint64, free func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(err)
	defer unix.Close(home)
	must(unix.Unshare(unix.CLONE_NEWNET))
	defer func() { must(unix.Setns(home, unix.CLONE_NEWNET)) }()
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(err)
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	defer unix.Close(s)
	cookie, err = unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	must(err)
	return cookie, func() { unix.Close(fd) }
}
