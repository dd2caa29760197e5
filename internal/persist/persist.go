// Package persist writes and removes the files that make conntrack's limits survive a reboot, and can take that back.
package persist

import (
	"errors"
	"time"

	"github.com/ctwatch/ctwatch/internal/boot"
)

// Options are where and how files are written.
type Options struct {
	Root    string    // of the machine whose files they are: an image, a chroot; "" is the machine's own
	Version string    // of ctwatch, for the first line of each file
	Force   bool      // also replace files of ours that were edited by hand, and do not mind who wins at boot
	Time    time.Time // when it is done; the zero value is now
	By      string    // who does it, for the backup: "limit persist", "run"

	disk disk // nil is the kernel's
}

// Limits are what shall hold after a reboot.
type Limits struct {
	Max     uint64 // entries that each namespace may hold
	Buckets uint64 // of the hash table; 0 keeps what files of ours set, or else leaves them to the kernel
}

// Result is what was done.
type Result struct {
	Files   []FileChange // the files of ours on this system, in the order in which they are written
	Outlook boot.Outlook // what the next boot gives, as the files now are
	Notes   []string     // what the operator should know: what does not survive, what was found and mended
}

// FileChange is what became of one file.
type FileChange struct {
	Path string // as the machine names it
	Did  string // Written, Unchanged or Removed
}

// What can become of a file.
const (
	Written   = "written"
	Unchanged = "unchanged"
	Removed   = "removed"
)

// Check is Persist without writing anything: it refuses what Persist would refuse, and tells what it would do.
func Check(o Options, l Limits) (Result, error) {
	t, err := openTree(o.kernel(), o.Root)
	if err != nil {
		return Result{}, err
	}
	defer t.Close()
	p, err := makePlan(t, o, l)
	if err != nil {
		return Result{}, t.explain(err)
	}
	if p.changes() {
		if err := p.writable(); err != nil {
			return Result{}, err
		}
	}
	return p.result(), nil
}

// Persist makes limits survive a reboot. It is a Set of its own: Undo takes it back.
func Persist(o Options, l Limits) (Result, error) {
	if l.Max == 0 {
		return Result{}, errNoMax
	}
	return alone(o, l)
}

var errNoMax = errors.New("persist limits: there is no limit without a max")

// Unpersist removes all that Persist wrote, and leaves the running limits alone. It is a Set of its own, too.
func Unpersist(o Options) (Result, error) { return alone(o, Limits{}) }

// alone is a Set that changes nothing but files.
func alone(o Options, l Limits) (r Result, err error) {
	err = withStore(o, func(s *store) error {
		repaired, err := s.repair()
		if err != nil {
			return err
		}
		p, err := makePlan(s.tree, o, l)
		if err != nil {
			return err
		}
		if p.changes() {
			m, err := s.begin(Set{By: o.By})
			if err != nil {
				return err
			}
			if err := s.apply(m, p); err != nil {
				return errors.Join(err, s.forget(m))
			}
			repaired = append(repaired, s.prune()...)
		}
		r, err = s.outcome(p, repaired)
		return err
	})
	return r, err
}

func (o Options) kernel() disk {
	if o.disk == nil {
		return osDisk{}
	}
	return o.disk
}
