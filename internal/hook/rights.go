package hook

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// bare runs f on a goroutine and a thread of its own without capabilities, and returns at once. The thread is given no
// other work afterwards: it ends with f.
func bare(f func(error)) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f(dropRights())
			return
		}
		// The process's first thread cannot end: the runtime would keep it, as it is, for ever. While we hold it
		// locked, another goroutine gets another thread.
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			f(dropRights())
		}()
		<-done
		runtime.UnlockOSThread()
	}()
}

// dropRights takes all capabilities from the calling thread, and from what it runs also if that is root's.
//
// A program that root runs gets all capabilities of the bounding set, and the ambient and inheritable ones. The bounding set
// can be emptied with CAP_SETPCAP only. But with no_new_privs (Linux 3.5) no program gets what its thread does not have
// (cap_bprm_creds_from_file), and this one has nothing; nor does a setuid program or one with file capabilities.
func dropRights() error {
	// Nor is a hook in a hurry, however this process may be scheduled.
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr}, 0); err != nil {
		return fmt.Errorf("schedule as others: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	// Before Linux 4.3 there are no ambient capabilities.
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) { // no more capabilities; no CAP_SETPCAP
			break
		}
		if err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
		}
	}
	none := [2]unix.CapUserData{}
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		return fmt.Errorf("give capabilities up: %w", err)
	}
	// The umask is shared by all threads until one has its own.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare umask: %w", err)
	}
	unix.Umask(0o027)
	return nil
}

// closeOnExec marks what this process inherited from who started it, so that no hook inherits it. What the process opens
// itself is marked already.
func closeOnExec() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("open hook: %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd) // one that is gone meanwhile needs no mark
		}
	}
	return nil
}

// tryOut finds out whether a hook could be called.
func tryOut(path string) error {
	result := make(chan error)
	bare(func(err error) {
		var p program
		if err == nil {
			p, err = openProgram(path)
		}
		if err == nil {
			p.close()
		}
		result <- err
	})
	return <-result
}
