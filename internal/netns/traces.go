package netns

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxPIDs bounds how many processes of a namespace are asked for an owner.
const maxPIDs = 8

// traces are what shows that a namespace exists.
type traces struct {
	host   bool
	pids   []int   // the lowest maxPIDs processes in it, ascending
	mounts []mount // those of `ip netns` first
}

// find gathers the traces of every namespace, by inode, and counts the processes that it may not look at.
func (f *Finder) find() (found map[uint64]*traces, denied int, err error) {
	found = map[uint64]*traces{}
	at := func(inode uint64) *traces {
		if found[inode] == nil {
			found[inode] = &traces{}
		}
		return found[inode]
	}
	for _, m := range f.mounted {
		t := at(m.inode)
		t.mounts = append(t.mounts, m)
	}
	for _, t := range found {
		slices.SortFunc(t.mounts, byUse)
	}
	procs, err := f.proc.AllProcs()
	if err != nil {
		return nil, 0, fmt.Errorf("list processes: %w", err)
	}
	sort.Sort(procs)
	host := f.home.inode
	for _, p := range procs {
		inode, err := f.link(p.PID)
		switch {
		case errors.Is(err, fs.ErrPermission):
			denied++
			continue
		case err != nil:
			continue // it ended meanwhile
		case p.PID == 1:
			host = inode
		}
		if t := at(inode); len(t.pids) < maxPIDs {
			t.pids = append(t.pids, p.PID)
		}
	}
	at(host).host = true // ours, where init's is hidden from us
	return found, denied, nil
}

// readMounts reads the whole of the mountinfo file. A change meanwhile may hide a line; it also makes Changed report.
func (f *Finder) readMounts() ([]byte, error) {
	var text []byte
	for {
		text = slices.Grow(text, 4096)
		n, err := unix.Pread(f.mounts, text[len(text):cap(text)], int64(len(text)))
		if err != nil {
			return nil, fmt.Errorf("read mountinfo: %w", err)
		}
		if n == 0 {
			return text, nil
		}
		text = text[:len(text)+n]
	}
}

// link reads which namespace a process is in, which takes no hold of it. (procfs.Proc.Namespaces reads all ten links.)
func (f *Finder) link(pid int) (uint64, error) {
	var buf [32]byte
	n, err := unix.Readlink(f.procPath(strconv.Itoa(pid)), buf[:])
	if err != nil {
		return 0, err
	}
	inode, ok := parseLink(string(buf[:n]))
	if !ok {
		return 0, fmt.Errorf("parse link %q", buf[:n])
	}
	return inode, nil
}

// owner asks the processes of a namespace, lowest first, for one that tells whose it is.
func (f *Finder) owner(t *traces) Owner {
	if t.host {
		return Owner{}
	}
	for _, pid := range t.pids {
		if o, err := ownerOfProcess(f.proc, pid); err == nil && o.Kind != "" {
			return o
		}
	}
	return Owner{}
}

// paths returns the ways into a namespace: a mount outlives a process, but another one may hide it.
func (f *Finder) paths(t *traces) []string {
	var paths []string
	for _, m := range t.mounts {
		paths = append(paths, f.root+m.path)
	}
	if len(t.pids) > 0 {
		paths = append(paths, f.procPath(strconv.Itoa(t.pids[0])))
	} else if t.host {
		paths = append(paths, f.procPath("self")) // it is ours
	}
	return paths
}

func (f *Finder) procPath(process string) string { return f.procDir + "/" + process + "/ns/net" }

// pid returns the lowest process, 0 if there is none.
func (t *traces) pid() int {
	if len(t.pids) == 0 {
		return 0
	}
	return t.pids[0]
}

// mountedAt reports whether path leads to one of the mounts: then it is the same namespace until mounts change.
func (t *traces) mountedAt(root, path string) bool {
	return slices.ContainsFunc(t.mounts, func(m mount) bool { return root+m.path == path })
}

// name returns what people call the namespace.
func (t *traces) name(o Owner) string {
	if t.host {
		return "host"
	}
	if len(t.mounts) > 0 && t.mounts[0].ipNetns() != "" {
		return clean(t.mounts[0].ipNetns())
	}
	return o.String()
}

func byUse(a, b mount) int {
	ip := func(m mount) int {
		if m.ipNetns() != "" {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(ip(a), ip(b)), cmp.Compare(a.path, b.path))
}
