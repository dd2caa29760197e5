package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

// namespacePath is where the namespaces of labs are mounted. Only a lab makes files there, so whoever holds
// the lock may delete them all.
func namespacePath(name string) string { return filepath.Join(netnsDir, "ctwatch-lab-"+name) }

// Namespace is a named network namespace, as ip-netns(8) makes them. It has lo up and does not track
// connections until [Namespace.Track].
type Namespace struct {
	// Name is the name ip-netns(8) shows, such as ctwatch-lab-4711-client.
	Name string
	// Path is where the namespace is mounted.
	Path string
	// Inode is the number in a /proc/<pid>/ns/net link. The next namespace may get the same.
	Inode uint64
	// Cookie is the number of the namespace that is never used again (SO_NETNS_COOKIE, Linux 5.14), or 0.
	Cookie uint64

	filled atomic.Uint32 // entries made by Fill, and so the next one's tuple

	mu      sync.Mutex
	counted bool // the counters of Counts are there
}

// Namespace makes a namespace named ctwatch-lab-<pid>-<name>. It goes with the lab at the latest.
func (l *Lab) Namespace(name string) (*Namespace, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("make namespace %s: %w", name, os.ErrClosed)
	}
	path := namespacePath(fmt.Sprintf("%d-%s", os.Getpid(), name))
	n := &Namespace{Name: filepath.Base(path), Path: path}
	if err := n.mount(); err != nil {
		return nil, fmt.Errorf("make namespace %s: %w", n.Name, err)
	}
	if err := n.setUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("set up namespace %s: %w", n.Name, err), n.Delete())
	}
	l.namespaces = append(l.namespaces, n)
	return n, nil
}

// mount makes the namespace and gives it its name.
func (n *Namespace) mount() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(n.Path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	err = onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		return unix.Mount("/proc/thread-self/ns/net", n.Path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return errors.Join(err, os.Remove(n.Path))
	}
	return nil
}

// setUp learns the namespace's numbers and makes it quiet: lo is up, nothing is sent that nobody asked for.
func (n *Namespace) setUp() error {
	var st unix.Stat_t
	if err := unix.Stat(n.Path, &st); err != nil {
		return err
	}
	n.Inode = st.Ino
	return n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if n.Cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); errors.Is(err, unix.ENOPROTOOPT) {
			n.Cookie = 0
		} else if err != nil {
			return err
		}
		for _, s := range []struct{ name, value string }{
			{"net/ipv4/conf/all/rp_filter", "0"}, // frames come from anywhere
			{"net/ipv4/conf/default/rp_filter", "0"},
			{"net/ipv6/conf/default/addr_gen_mode", "1"}, // no link-local address, and so no MLD reports
			{"net/ipv6/conf/default/accept_dad", "0"},
			{"net/ipv6/conf/default/accept_ra", "0"},
		} {
			if err := sysctl(s.name, s.value); err != nil {
				return err
			}
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
}

// Do runs f in the namespace, on a thread of its own: sockets that f opens belong to the namespace for good,
// goroutines that it starts do not.
func (n *Namespace) Do(f func() error) error {
	ns, err := os.Open(n.Path)
	if err != nil {
		return fmt.Errorf("enter namespace: %w", err)
	}
	defer ns.Close()
	return onOwnThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.Name, err)
		}
		return f()
	})
}

// Delete empties the namespace's table and takes its name away. The kernel takes the rest once nothing uses it any
// more, soon but not at once. Deleting it again does nothing.
func (n *Namespace) Delete() error {
	if count, err := n.Count(); err == nil && count > 0 {
		// All namespaces' entries share one hash table: a deleted one's would be in the way until the kernel has
		// got round to it.
		if err := n.Flush(); err != nil {
			return err
		}
	}
	err := unix.Unmount(n.Path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete namespace %s: %w", n.Name, err)
	}
	if err := os.Remove(n.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete namespace: %w", err)
	}
	return nil
}

// onOwnThread runs f, which may change its thread's namespace, and puts the thread back where it was. A thread
// that cannot be put back is not used for anything else.
func onOwnThread(f func() error) (err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		defer home.Close()
		if backErr := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); backErr != nil {
			err = errors.Join(err, fmt.Errorf("leave namespace: %w", backErr))
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// sysctl writes a value in the calling thread's namespace.
func sysctl(name, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0)
}
