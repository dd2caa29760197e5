package netns

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain runs the tests in a mount namespace of their own with an empty /run, so that the network namespaces they make
// end with them, however they end, and meet no others.
func TestMain(m *testing.M) {
	const inside = "NETNS_TEST_INSIDE"
	if os.Geteuid() == 0 && os.Getenv(inside) == "" {
		runtime.LockOSThread()
		err := os.Setenv(inside, "1")
		if err == nil {
			err = unix.Unshare(unix.CLONE_NEWNS)
		}
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("test", "/run", "tmpfs", 0, "")
		}
		if err == nil {
			err = unix.Exec("/proc/self/exe", os.Args, os.Environ())
		}
		fmt.Fprintln(os.Stderr, "make mount namespace:", err)
		os.Exit(1)
	}
	// Tests leave threads in other namespaces, to die with their goroutine. The first thread cannot die: it is kept out.
	runtime.LockOSThread()
	os.Exit(m.Run())
}
