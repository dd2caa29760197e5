package limits

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// layout is where a kernel has its limits. The names in a list stand for one variable of the kernel, those of the present
// first; only what exists is listed.
type layout struct {
	root     string
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

// find looks which files there are.
func find(root string) (layout, error) {
	root = cmp.Or(root, "/")
	l := layout{root: root, max: existing(root, maxNames), buckets: existing(root, bucketNames)}
	if len(l.max) == 0 || !live(root) {
		return layout{}, conntrack.ErrNotLoaded
	}
	l.old = strings.HasPrefix(filepath.Base(l.max[0]), "ip_")
	if count := existing(root, countNames); len(count) > 0 {
		l.count = count[0]
	}
	for _, m := range modules {
		if path := filepath.Join(root, m, "parameters/hashsize"); exists(path) {
			l.hashsize = path
			break
		}
	}
	return l, nil
}

// live reports whether the module, if it is one, is not just beginning or being unloaded.
func live(root string) bool {
	for _, m := range modules {
		state, err := os.ReadFile(filepath.Join(root, m, "initstate"))
		if err == nil {
			return strings.TrimSpace(string(state)) == "live"
		}
	}
	return true
}

func existing(root string, names []string) []string {
	var found []string
	for _, name := range names {
		if path := filepath.Join(root, name); exists(path) {
			found = append(found, path)
		}
	}
	return found
}

func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }

func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// bucketsFile is what the buckets are written to: the sysctl where it can be written, which is since 4.8, else the module's
// parameter. A copy of a machine's files may have lost the mode of the sysctl.
func (l layout) bucketsFile() string {
	if len(l.buckets) == 0 || l.hashsize != "" && (l.old || !writable(l.buckets[0]) || before48(l.release())) {
		return l.hashsize
	}
	return l.buckets[0]
}

func (l layout) release() string {
	text, _ := os.ReadFile(filepath.Join(l.root, "proc/sys/kernel/osrelease"))
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
		n, err = readNumber(l.hashsize)
	}
	if len(l.buckets) > 0 && (missing(err) || errors.Is(err, fs.ErrPermission)) { // it is for root only
		n, err = readNumber(l.buckets[0])
	}
	return n, err
}

// writable reports whether anybody may write a file, whoever we are.
func writable(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&0o222 != 0
}
