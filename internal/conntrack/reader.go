package conntrack

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// errWouldLoad is why ctnetlink was not asked on a machine where that would load a module.
var errWouldLoad = errors.New("nf_conntrack_netlink is not loaded")

// maxPasses bounds how often one Read goes over the counters.
const maxPasses = 4

// Reader reads the table of the network namespace that the calling thread is in. It holds memory and nothing else, and
// is for one goroutine at a time.
type Reader struct {
	proc     procfs.FS
	requests []byte
	buf      []byte
	kernel   unix.SockaddrNetlink // port 0
	failed   []uint32             // insert_failed by CPU, as of the pass before

	countPath, statPath string
	netlinkModule       string // exists while nf_conntrack_netlink is loaded as a module
	builtin             bool   // nf_conntrack is part of the kernel: it cannot go, or be held
}

// NewReader returns a reader of the kernel that root/proc belongs to ("" is the machine's own).
func NewReader(root string) (*Reader, error) {
	proc, err := procfs.NewFS(procDir(root))
	if err != nil {
		return nil, fmt.Errorf("open proc: %w", err)
	}
	module := filepath.Join(cmp.Or(root, "/"), "sys/module/nf_conntrack")
	return &Reader{
		proc:          proc,
		requests:      statsRequests(),
		buf:           make([]byte, 32<<10), // the kernel fills at most 32 KiB a read
		countPath:     countPath(root),
		statPath:      filepath.Join(procDir(root), "thread-self/net/stat/nf_conntrack"),
		netlinkModule: module + "_netlink",
		builtin:       exists(module) && !IsModule(root),
	}, nil
}

// Read looks at the table and overwrites s, whose memory it uses again. While the kernel has no connection tracking it
// returns ErrNotLoaded and opens nothing. A source that fails is passed over for the next, and s.Passed says why.
//
// A packet refused at confirm moves two counters one after the other, and a look may fall between the two. Where s
// holds the last look at the same namespace, Read sees that such packets came and looks again until none comes in
// between, at most 4 times, so that Refused counts each packet once and under its own cause.
func (r *Reader) Read(s *Snapshot) error {
	r.moved(s)
	s.reset()
	if !r.builtin && !exists(r.countPath) {
		return ErrNotLoaded
	}
	errNetlink := r.readNetlink(s)
	if errNetlink == nil {
		s.Source = CTNetlink
		return nil
	}
	cookie := cookie()
	errProc := r.readProcStat(s)
	if errProc == nil {
		s.Source, s.Cookie, s.Passed = Procfs, cookie, errNetlink
		return nil
	}
	s.reset()
	if err := r.readCount(s); err != nil {
		return err
	}
	s.Source, s.Cookie, s.Passed = Sysctl, cookie, errors.Join(errNetlink, errProc)
	return nil
}

// readProcStat reads the thread's own file, which kernels have since 3.17: /proc/net is of the process, that is, of the
// namespace of its first thread.
func (r *Reader) readProcStat(s *Snapshot) error {
	for pass := 0; pass == 0 || r.moved(s) && pass < maxPasses; pass++ {
		s.reset()
		text, err := os.ReadFile(r.statPath)
		if err != nil {
			return err
		}
		if err := parseProcStat(text, s); err != nil {
			return fmt.Errorf("read %s: %w", r.statPath, err)
		}
	}
	return r.readMax(s)
}

func (r *Reader) readCount(s *Snapshot) (err error) {
	if s.Count, err = ReadSysctl(r.proc, "nf_conntrack_count"); err != nil {
		return notLoaded(err)
	}
	return r.readMax(s)
}

func (r *Reader) readMax(s *Snapshot) (err error) {
	s.Max, err = ReadSysctl(r.proc, KeyMax)
	return notLoaded(err)
}

// notLoaded names what a sysctl that is gone means: the module was unloaded under us.
func notLoaded(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotLoaded
	}
	return err
}

// moved reports whether insert_failed of any CPU differs from the pass before, and notes it for the next.
func (r *Reader) moved(s *Snapshot) bool {
	moved := len(s.CPU) != len(r.failed)
	for len(r.failed) < len(s.CPU) {
		r.failed = append(r.failed, 0)
	}
	r.failed = r.failed[:len(s.CPU)]
	for i := range s.CPU {
		moved = moved || r.failed[i] != s.CPU[i][CounterInsertFailed]
		r.failed[i] = s.CPU[i][CounterInsertFailed]
	}
	return moved
}
