package netns

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Finder finds network namespaces, again and again: what it learnt of one, it keeps while that one lasts. It is for one
// goroutine at a time, but for Enter. Of namespace files it holds open its own and, between calls, no other.
type Finder struct {
	proc     procfs.FS
	procDir  string
	root     string  // before the path of each mount
	mounts   int     // a mountinfo file, open; not an os.File, whose poller would eat the changes
	mounted  []mount // as of the last Scan
	changed  bool    // mounts changed since then
	home     home
	noCookie bool // the kernel has no cookies
	known    map[uint64]known
}

// known is what is kept of a namespace from one Scan to the next.
type known struct {
	path   string
	cookie uint64
	pid    int // the owner is right as long as this is the lowest process
	owner  Owner
}

// Look is what one Scan saw.
type Look struct {
	Namespaces []Namespace // the host's first, then by inode
	// Denied counts the processes whose namespace we may not see: we lack CAP_SYS_PTRACE, or a capability they have.
	Denied int
}

// NewFinder returns a finder of the namespaces of the machine whose /proc is root/proc. With "" the mounts are those
// that this process sees, else those that process 1 of root/proc sees, and their paths begin with root.
func NewFinder(root string) (*Finder, error) {
	f := &Finder{root: strings.TrimRight(root, "/"), procDir: filepath.Join(cmp.Or(root, "/"), "proc"), changed: true}
	mountinfo := filepath.Join(f.procDir, "self/mountinfo")
	if f.root != "" {
		mountinfo = filepath.Join(f.procDir, "1/mountinfo")
	}
	var err error
	if f.proc, err = procfs.NewFS(f.procDir); err != nil {
		return nil, fmt.Errorf("open proc: %w", err)
	}
	if f.mounts, err = unix.Open(mountinfo, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open %s: %w", mountinfo, err)
	}
	if f.home, err = openHome(); err != nil {
		unix.Close(f.mounts)
		return nil, err
	}
	return f, nil
}

// Close closes the finder's files.
func (f *Finder) Close() error {
	return errors.Join(unix.Close(f.mounts), unix.Close(f.home.fd))
}

// Enter runs do on a thread that is in the namespace, which is held meanwhile and no longer. It returns do's error,
// ErrGone if the namespace is gone, or why it cannot be entered. Any goroutine may call it at any time; a goroutine that
// do starts is not in the namespace.
//
// It checks the inode and not the cookie, which do can read where it matters: conntrack.Snapshot has it.
func (f *Finder) Enter(ns Namespace, do func() error) error {
	return f.home.enter(ns.Path, ns.Inode, do)
}

// Changed reports, for the price of one system call, whether a mount came or went since the last Scan, as happens with
// each named namespace and most containers. It does not tell of namespaces that live by their processes alone. It is
// true before the first Scan.
func (f *Finder) Changed() bool {
	p := []unix.PollFd{{Fd: int32(f.mounts), Events: unix.POLLPRI}}
	n, err := unix.Poll(p, 0)
	f.changed = f.changed || n > 0 && err == nil
	return f.changed
}

// Scan finds each namespace that a process is in or that a mount keeps. It reads one link for every process, some
// 3 us each, and where a mount changed it visits every namespace, some 20 us each, for the cookie: an inode, a name and
// even the number of a mount pass to the next namespace at once.
//
// It does not see a namespace kept by an open file or socket alone, by a thread that left the namespace of its process,
// or by a mount that only some other mount namespace has; nor, before Linux 3.19, by a mount alone.
func (f *Finder) Scan() (Look, error) {
	changed := f.Changed()
	if changed {
		text, err := f.readMounts()
		if err != nil {
			return Look{}, err
		}
		f.mounted = parseMounts(text)
	}
	found, denied, err := f.find()
	if err != nil {
		return Look{}, err
	}
	f.changed = false
	look := Look{Denied: denied}
	was := f.known
	f.known = make(map[uint64]known, len(found))
	for inode, t := range found {
		k, seen := was[inode]
		if !seen || changed || k.cookie == 0 || !t.mountedAt(f.root, k.path) {
			if k.path, k.cookie, err = f.identify(inode, t); errors.Is(err, ErrGone) {
				continue
			}
		}
		if pid := t.pid(); !seen || k.pid != pid {
			k.pid, k.owner = pid, f.owner(t)
		}
		f.known[inode] = k
		look.Namespaces = append(look.Namespaces, Namespace{Inode: inode, Cookie: k.cookie, Name: t.name(k.owner),
			Owner: k.owner, Path: k.path, PID: k.pid, Host: t.host})
	}
	slices.SortFunc(look.Namespaces, byHostThenInode)
	return look, nil
}

// identify returns the way into a namespace and its cookie, which takes a visit. The error is ErrGone or, where we may
// not enter, another one, with a path all the same.
func (f *Finder) identify(inode uint64, t *traces) (path string, id uint64, err error) {
	err = ErrGone
	for _, path = range f.paths(t) {
		if f.noCookie {
			return path, 0, nil
		}
		err = f.home.enter(path, inode, func() (err error) {
			id, err = cookie()
			return err
		})
		f.noCookie = errors.Is(err, unix.ENOPROTOOPT)
		if !errors.Is(err, ErrGone) {
			break
		}
	}
	return path, id, err
}

func byHostThenInode(a, b Namespace) int {
	switch {
	case a.Host:
		return -1
	case b.Host:
		return 1
	}
	return cmp.Compare(a.Inode, b.Inode)
}
