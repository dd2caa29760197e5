package persist

import (
	"fmt"
	"time"
)

// Set is one change as a whole, what Undo takes back: running limits and files.
type Set struct {
	ID      string // by its time and number: 20261125T023431Z-1
	Time    time.Time
	By      string // who did it
	Max     Step
	Buckets Step
	Files   []SavedFile
	CutOff  bool // it ended before all its files were written, or put back
	Undone  bool
}

// Step is how a running limit was changed. The zero value is not at all.
type Step struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// SavedFile is a file as it was before a Set changed it.
type SavedFile struct {
	Path    string
	Existed bool
}

// Change is a Set that is being made.
type Change struct {
	o Options
	m *manifest
	// repaired is what Begin found and mended.
	repaired []string
}

// Begin keeps a Set on disk before anything of it is done. The caller then changes the running limits, and the files by
// the methods of the Change; if it does neither, it calls Cancel. Of s, By, Max and Buckets count.
func Begin(o Options, s Set) (*Change, error) {
	c := &Change{o: o}
	err := withStore(o, func(st *store) (err error) {
		if c.repaired, err = st.repair(); err != nil {
			return err
		}
		if c.m, err = st.begin(s); err == nil {
			c.repaired = append(c.repaired, st.prune()...)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// ID is the Set's.
func (c *Change) ID() string { return c.m.ID }

// Persist is Persist as part of this Set.
func (c *Change) Persist(l Limits) (Result, error) {
	if l.Max == 0 {
		return Result{}, errNoMax
	}
	return c.files(l)
}

// Unpersist is Unpersist as part of this Set.
func (c *Change) Unpersist() (Result, error) { return c.files(Limits{}) }

func (c *Change) files(l Limits) (r Result, err error) {
	if len(c.m.Files) > 0 {
		return Result{}, fmt.Errorf("change files: set %s has done that", c.m.ID)
	}
	err = withStore(c.o, func(s *store) error {
		p, err := makePlan(s.tree, c.o, l)
		if err == nil && p.changes() {
			err = s.apply(c.m, p)
		}
		if err == nil {
			r, err = s.outcome(p, c.repaired)
		}
		return err
	})
	return r, err
}

// SetLimits corrects what the running limits were changed from and to, once that is known: the kernel rounds buckets up.
func (c *Change) SetLimits(max, buckets Step) error {
	return withStore(c.o, func(s *store) error {
		c.m.Max, c.m.Buckets = max, buckets
		return s.save(c.m)
	})
}

// Cancel forgets a Set of which nothing was done.
func (c *Change) Cancel() error {
	return withStore(c.o, func(s *store) error { return s.drop(c.m.ID) })
}

// Last is the Set that Undo would take back. The error is ErrNothing if there is none.
func Last(o Options) (*Set, error) {
	var set *Set
	err := lookStore(o, func(s *store) error {
		m, err := s.last()
		if err == nil {
			set = m.set()
		}
		return err
	})
	return set, err
}

// Undo puts the files of the Set with this ID back as they were before, and marks it undone. The running limits are the
// caller's, who looked at that Set: if it is not Last any more, the error is ErrNotLast. A file that was changed since is
// refused without Force.
func Undo(o Options, id string) (set *Set, r Result, err error) {
	if _, err := Last(o); err != nil {
		return nil, Result{}, err // and nothing is made
	}
	err = withStore(o, func(s *store) error {
		cleaned, err := s.clean()
		if err != nil {
			return err
		}
		m, err := s.last()
		if err != nil {
			return err
		}
		if m.ID != id {
			return ErrNotLast
		}
		if r, err = s.undo(m); err == nil {
			set, r.Notes = m.set(), append(cleaned, r.Notes...)
		}
		return err
	})
	return set, r, err
}

// withStore does something while nobody else does.
func withStore(o Options, do func(*store) error) error {
	s, err := openStore(o)
	if err != nil {
		return err
	}
	defer s.Close() // that fails when all is done, or with an error of its own
	return s.tree.explain(do(s))
}
