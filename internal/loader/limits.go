package loader

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Limits learns of each write of nf_conntrack_max and nf_conntrack_buckets under /proc/sys, with the writer. It does not see
// the buckets being set through /sys/module/nf_conntrack/parameters/hashsize, for that is no sysctl.
type Limits struct {
	link   *link.RawLink
	coll   *ebpf.Collection
	ring   *ringbuf.Reader
	record ringbuf.Record
	beyond atomic.Uint64 // writes whose number stands where the program does not look
}

// OpenLimits begins to look, at the root of the cgroup2 hierarchy that is mounted on the machine whose /proc is root/proc. With
// "" the mounts are those that this process sees, else those that process 1 of root/proc sees, and their paths begin with
// root. It needs Linux 5.8, CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN.
//
// A program of ours then runs at each access to any sysctl, and allows it. It ends with this process.
func OpenLimits(root string) (*Limits, error) {
	defer debug.FreeOSMemory() // parsed BTF, as in Open

	cgroup, err := openCgroupRoot(root)
	if err != nil {
		return nil, err
	}
	defer cgroup.Close()
	return openLimits(cgroup, programProgSysctlWrite, programProgSysctlByTask)
}

// openLimits takes the first of the programs that the kernel can run.
func openLimits(cgroup *os.File, programs ...string) (_ *Limits, err error) {
	var l Limits
	if l.coll, err = loadLimits(programs); err != nil {
		return nil, err
	}
	if l.ring, err = ringbuf.NewReader(l.coll.Maps[programMapLimitWrites]); err != nil {
		l.coll.Close()
		return nil, fmt.Errorf("open the ring: %w", err)
	}
	for _, program := range l.coll.Programs { // the one that loaded
		if l.link, err = attachLimits(cgroup, program); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return &l, nil
}

// openCgroupRoot opens the root of the cgroup2 hierarchy, whose id is 1: on hosts with both hierarchies it is not mounted in the
// usual place.
func openCgroupRoot(root string) (*os.File, error) {
	mountinfo := filepath.Join(cmp.Or(root, "/"), "proc/self/mountinfo")
	if root != "" {
		mountinfo = filepath.Join(root, "proc/1/mountinfo")
	}
	text, err := os.ReadFile(mountinfo)
	if err != nil {
		return nil, fmt.Errorf("find the cgroup2 root: %w", err)
	}
	why := errors.New("the kernel tells whose process writes a limit only by cgroup2, and none is mounted (cgroup v1 alone)")
	for _, dir := range cgroup2Mounts(text) {
		var f *os.File
		if f, err = openCgroup(filepath.Join(root, dir)); err == nil {
			return f, nil
		}
		why = err
	}
	return nil, why
}

// cgroup2Mounts finds in the text of a mountinfo file where cgroup2 is mounted. A path with a blank is left as the kernel
// escapes it.
func cgroup2Mounts(text []byte) []string {
	var dirs []string
	for line := range bytes.Lines(text) {
		mount, filesystem, _ := strings.Cut(string(line), " - ")
		f := strings.Fields(mount) // id parent major:minor root mountpoint options [optional...]
		if len(f) >= 5 && strings.HasPrefix(filesystem, "cgroup2 ") {
			dirs = append(dirs, f[4])
		}
	}
	return dirs
}

func openCgroup(dir string) (_ *os.File, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the cgroup2 root: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return nil, fmt.Errorf("look at %s: %w", dir, err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, fmt.Errorf("%s is not cgroup2, although it is mounted there: something else lies over it", dir)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("look at %s: %w", dir, err)
	}
	if st.Ino != 1 {
		return nil, fmt.Errorf("%s is only a part of cgroup2 (cgroup namespace of a container): "+
			"there the kernel would tell of writes from that part alone", dir)
	}
	return f, nil
}

// loadLimits loads one of the programs, and what it needs.
func loadLimits(programs []string) (*ebpf.Collection, error) {
	all, err := loadProgram()
	if err != nil {
		return nil, fmt.Errorf("read the program: %w", err)
	}
	if err := checkCapabilities([]capability{capBPF, capPerfmon, capNetAdmin}); err != nil {
		return nil, err
	}
	memlock := rlimit.RemoveMemlock()
	for _, name := range programs {
		var coll *ebpf.Collection
		if coll, err = ebpf.NewCollection(limitsSpec(all, name)); err == nil {
			return coll, nil
		}
	}
	if errors.Is(features.HaveProgramType(ebpf.CGroupSysctl), ebpf.ErrNotSupported) {
		return nil, errors.New("this kernel has no programs that see writes of sysctls (needs 5.8, CONFIG_CGROUP_BPF)")
	}
	return nil, explainLoad(err, memlock)
}

// limitsSpec is what of the object one program needs.
func limitsSpec(all *ebpf.CollectionSpec, program string) *ebpf.CollectionSpec {
	const bss = ".bss"
	return &ebpf.CollectionSpec{
		Programs:  map[string]*ebpf.ProgramSpec{program: all.Programs[program]},
		Maps:      map[string]*ebpf.MapSpec{programMapLimitWrites: all.Maps[programMapLimitWrites], bss: all.Maps[bss]},
		Variables: map[string]*ebpf.VariableSpec{programVarLimitWritesLost: all.Variables[programVarLimitWritesLost]},
		Types:     all.Types,
		ByteOrder: all.ByteOrder,
	}
}

// attachLimits attaches by a link alone: without one, before 5.7, the program would outlive us.
func attachLimits(cgroup *os.File, program *ebpf.Program) (*link.RawLink, error) {
	l, err := link.AttachRawLink(link.RawLinkOptions{
		Target: int(cgroup.Fd()), Program: program, Attach: ebpf.AttachCGroupSysctl,
	})
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("attach cgroup/sysctl to %s: another program holds it for itself alone, or the host's policy refuses it: %w",
			cgroup.Name(), err)
	case err != nil:
		return nil, fmt.Errorf("attach cgroup/sysctl to %s: %w", cgroup.Name(), err)
	}
	return l, nil
}

// Read waits for the next write of a limit. It passes over what is no number, for that the kernel refuses. After Close it fails
// with os.ErrClosed.
func (l *Limits) Read(w *LimitWrite) error {
	for {
		if err := l.ring.ReadInto(&l.record); err != nil {
			return err
		}
		switch err := decodeLimit(l.record.RawSample, w); {
		case errors.Is(err, errNoNumber):
		case errors.Is(err, errBeyond):
			l.beyond.Add(1)
		default:
			return err
		}
	}
}

// Lost is how many writes Read did not tell of: there was no room in the ring, or the number stood behind more than 40 blanks.
func (l *Limits) Lost() (uint64, error) {
	var n uint64
	if err := l.coll.Variables[programVarLimitWritesLost].Get(&n); err != nil {
		return 0, fmt.Errorf("read limit_writes_lost: %w", err)
	}
	return n + l.beyond.Load(), nil
}

// Close ends the looking, and unblocks a Read.
func (l *Limits) Close() error {
	var errs []error
	if l.link != nil {
		errs = append(errs, l.link.Close())
	}
	errs = append(errs, l.ring.Close())
	l.coll.Close()
	return errors.Join(errs...)
}
