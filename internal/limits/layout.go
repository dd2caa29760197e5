package limits

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// layout is where a kernel has its limits, below the root of a tree. The names in a list stand for one variable of the
// kernel, those of the present first; only what exists is listed.
type layout struct {
	tree
	old      bool
	max      []string
	count    string // "" where the kernel does not tell
	buckets  []string
	hashsize string // the module's parameter, 0600; "" where it has none
}

var (
	maxNames = []string{
		"proc/sys/net/netfilter/nf_conntrack_max", "proc/sys/net/nf_conntrack_max",
		// CentOS 5, and CentOS 6 beside the others.
		"proc/sys/net/ipv4/netfilter/ip_conntrack_max", "proc/sys/net/ipv4/ip_conntrack_max",
	}
	countNames = []string{
		"proc/sys/net/netfilter/nf_conntrack_count", "proc/sys/net/ipv4/netfilter/ip_conntrack_count",
	}
	bucketNames = []string{
		"proc/sys/net/netfilter/nf_conntrack_buckets", "proc/sys/net/ipv4/netfilter/ip_conntrack_buckets",
	}
	modules = []string{"sys/module/nf_conntrack", "sys/module/ip_conntrack"}
)

// find looks which files there are. The layout is to be closed.
func find(root string) (_ layout, err error) {
	l := layout{}
	if l.tree, err = openTree(root); err != nil {
		return layout{}, err
	}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.max, err = l.existing(maxNames); err != nil {
		return layout{}, err
	}
	if len(l.max) == 0 || !l.live() {
		return layout{}, l.absent()
	}
	l.old = strings.HasPrefix(filepath.Base(l.max[0]), "ip_")
	if l.buckets, err = l.existing(bucketNames); err != nil {
		return layout{}, err
	}
	count, err := l.existing(countNames)
	if err != nil {
		return layout{}, err
	}
	if len(count) > 0 {
		l.count = count[0]
	}
	for _, m := range modules {
		name := m + "/parameters/hashsize"
		switch found, err := l.exists(name); {
		case err != nil:
			return layout{}, err
		case found:
			l.hashsize = name
			return l, nil
		}
	}
	return l, nil
}

// absent is why there are no limits: a running kernel without them has no connection tracking now.
func (t tree) absent() error {
	if t.below == nil && unix.Access("/proc/sys", unix.F_OK) != nil {
		return ErrNoProc
	}
	return conntrack.ErrNotLoaded
}

// live reports whether the module, if it is one, is not just beginning or being unloaded.
func (t tree) live() bool {
	for _, m := range modules {
		state, err := t.read(m + "/initstate")
		if err == nil {
			return strings.TrimSpace(string(state)) == "live"
		}
	}
	return true
}

func (t tree) existing(names []string) (found []string, err error) {
	for _, name := range names {
		ok, err := t.exists(name)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, name)
		}
	}
	return found, nil
}

func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// bucketsFile is what the buckets are written to: the sysctl where it can be written, which is since 4.8, else the module's
// parameter. A copy of a machine's files may have lost the mode of the sysctl.
func (l layout) bucketsFile() string {
	if len(l.buckets) == 0 || l.hashsize != "" && (l.old || !l.writable(l.buckets[0]) || before48(l.release())) {
		return l.hashsize
	}
	return l.buckets[0]
}

func (l layout) release() string {
	text, _ := l.read("proc/sys/kernel/osrelease")
	return string(text)
}

// before48 tells a kernel whose number of buckets was no sysctl that can be written (3183ab8997a4).
func before48(release string) bool {
	var major, minor int
	n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return n == 2 && (major < 4 || major == 4 && minor < 8)
}

// readBuckets prefers the module's parameter: until 5.11 the sysctl does not show what was written to that.
// It is 0 where the kernel does not tell.
func (l layout) readBuckets() (n uint64, err error) {
	if l.hashsize == "" && len(l.buckets) == 0 {
		return 0, nil
	}
	err = fs.ErrNotExist
	if l.hashsize != "" {
		n, err = l.readNumber(l.hashsize)
	}
	if len(l.buckets) > 0 && (missing(err) || errors.Is(err, fs.ErrPermission)) { // it is for root only
		n, err = l.readNumber(l.buckets[0])
	}
	return n, err
}
