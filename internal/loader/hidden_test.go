package loader

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// hiddenNamespace makes a namespace that only a file descriptor keeps alive, until free is called.
func hiddenNamespace(t *testing.T) (inode uint64, free func()) {
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
	var st unix.Stat_t
	must(unix.Fstat(fd, &st))
	return st.Ino, func() { unix.Close(fd) }
}
