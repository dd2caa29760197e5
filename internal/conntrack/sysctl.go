package conntrack

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// The limits that can be changed while the kernel runs, by the names of their sysctls below net.netfilter.
const (
	KeyMax     = "nf_conntrack_max"
	KeyBuckets = "nf_conntrack_buckets"
)

// NearlyFull is how full a table is that is about to refuse, and one that was full a moment ago: after a failed early_drop
// the kernel's own collector sheds entries down to 95 % (nf_conntrack_max95 in gc_worker).
const NearlyFull = 0.95

// ErrNotLoaded: the kernel has no connection tracking now. It may be loaded later.
var ErrNotLoaded = errors.New("nf_conntrack is not loaded")

// Limits are the machine's limits. The kernel has one of each, whatever the namespace (until 4.7 a namespace had
// buckets of its own); only the initial namespace may write them.
type Limits struct {
	Max       uint64 // entries that each namespace may hold; 0 is no limit (kernels before 7.0)
	Buckets   uint64 // of the hash table; an entry takes two places in it
	ExpectMax uint64 // expectations that each namespace may hold; 0 where the kernel does not tell
}

// ReadLimits reads the limits under root/proc/sys ("" is the machine's own). It returns ErrNotLoaded where there is
// no connection tracking.
func ReadLimits(root string) (Limits, error) {
	if !Loaded(root) {
		return Limits{}, ErrNotLoaded
	}
	proc, err := procfs.NewFS(procDir(root))
	if err != nil {
		return Limits{}, fmt.Errorf("read limits: %w", err)
	}
	var l Limits
	if l.Max, err = ReadSysctl(proc, KeyMax); err != nil {
		return Limits{}, err
	}
	if l.Buckets, err = ReadSysctl(proc, KeyBuckets); err != nil {
		return Limits{}, err
	}
	if l.ExpectMax, err = ReadSysctl(proc, "nf_conntrack_expect_max"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Limits{}, err
	}
	return l, nil
}

// Loaded reports whether the kernel tracks connections, or would if a rule asked for it. It looks for a sysctl under
// root/proc, and opens no socket: NETLINK_NETFILTER would make the kernel load modules. A module that is still beginning,
// so that some namespaces have no table yet, or is being unloaded, is not loaded.
func Loaded(root string) bool {
	if !exists(countPath(root)) {
		return false
	}
	state, err := os.ReadFile(initstatePath(root))
	return err != nil || strings.TrimSpace(string(state)) == "live"
}

func procDir(root string) string { return filepath.Join(cmp.Or(root, "/"), "proc") }

func countPath(root string) string {
	return filepath.Join(procDir(root), "sys/net/netfilter/nf_conntrack_count")
}

func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }

// ReadSysctl reads one number of net.netfilter, as the calling thread's namespace has it. The kernel holds 32 bits and before 6.1 took any, printing a large one as
// negative.
func ReadSysctl(proc procfs.FS, name string) (uint64, error) {
	v, err := proc.SysctlInts("net.netfilter." + name)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	if len(v) != 1 {
		return 0, fmt.Errorf("read %s: %d numbers, not one", name, len(v))
	}
	return uint64(uint32(v[0])), nil
}
