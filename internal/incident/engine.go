// Package incident recognises incidents in the records of a run: it opens them, keeps them up to date, closes them, and
// says in plain words what each was. It is pure: its only clock is the time in the records, and it does no I/O.
package incident

import (
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// How incidents begin and end. Times are by CLOCK_BOOTTIME.
const (
	sustained    = 10 * time.Second // that long nearly full announces an incident
	evictingFor  = time.Second      // evictions that far apart do, too ...
	evictingGap  = 10 * time.Second // ... and not further
	unseenFor    = 2 * time.Second  // unattributed refusals may still be found by the program
	quiet        = time.Minute      // without anything, until an incident is over
	longestQuiet = 16 * time.Minute
	flapping     = 30 * time.Minute // what begins again within that long has to be quiet twice as long the next time
	updateEvery  = 10 * time.Second
	recently     = 15 * time.Minute // a limit changed so long before an incident may be its cause
	mostChanges  = 50
	fillersAge   = 10 * time.Second // a look into the table that old still tells who fills it
	lookEvery    = 5 * time.Minute  // while it goes on; who fills it may change
)

// Options says what the engine cannot know from records.
type Options struct {
	// Lines tells how many lines the kernel log has carried until now about a full table in the namespace; nil where the
	// log cannot be read.
	Lines func(ns uint64, host bool) *uint64
}

// Engine turns the records of one run into incidents. It is for one goroutine.
type Engine struct {
	o       Options
	tables  map[id]*table
	order   []id // of tables, as they came
	now     moment
	buckets uint64
	max     uint64        // of the machine
	boot    record.Limits // Persisted, NextBoot and Why as last told
}

// id tells namespaces apart: the kernel gives an inode number again at once, and old kernels have no cookies.
type id struct{ ns, cookie uint64 }

// moment is one instant on two clocks.
type moment struct {
	wall time.Time
	boot time.Duration
}

// New returns an engine to which nothing has happened yet.
func New(o Options) *Engine {
	if o.Lines == nil {
		o.Lines = func(uint64, bool) *uint64 { return nil }
	}
	return &Engine{o: o, tables: map[id]*table{}}
}

// Record takes the next record of the run and returns the incident records that it gives rise to, not yet stamped. It
// looks at samples, drops, limits and gaps. A sample may open and close, the others update.
func (e *Engine) Record(r record.Record) []*record.Incident {
	h := r.Head()
	before := e.now
	e.now = moment{h.Time, time.Duration(h.Boottime)}
	switch r := r.(type) {
	case *record.Start:
		e.buckets, e.max = r.Buckets, r.Max
	case *record.Sample:
		return e.sample(r)
	case *record.Drop:
		e.table(id{r.NS, r.Cookie}).refused(r)
	case *record.Limit:
		return e.limit(r)
	case *record.Gap:
		if e.now.boot-before.boot >= time.Second {
			e.skip(before)
		}
	}
	return nil
}

// skip leaves out the time since then, when nobody looked: nothing is known of it.
func (e *Engine) skip(since moment) {
	for _, t := range e.tables {
		gap := e.now.boot - max(t.at.boot, since.boot)
		t.at = e.now
		if t.fullSince != (moment{}) {
			t.fullSince.boot += gap
		}
		for _, in := range t.open {
			if in != nil {
				in.skipped += gap
			}
		}
	}
}

func (e *Engine) table(of id) *table {
	t := e.tables[of]
	if t == nil {
		t = &table{}
		e.tables[of] = t
		e.order = append(e.order, of)
	}
	return t
}

func (e *Engine) sample(s *record.Sample) []*record.Incident {
	e.buckets = s.Buckets
	listed := make(map[id]bool, len(s.NetNS))
	var out []*record.Incident
	for _, n := range s.NetNS {
		k := id{n.NS, n.Cookie}
		listed[k] = true
		t := e.table(k)
		out = append(out, e.look(t, n)...)
		if n.Gone {
			out = append(out, e.closeAll(t, record.ClosedGone)...)
			e.forget(k)
			listed[k] = false // another may have the number in this very sample
		}
	}
	for _, k := range slices.Clone(e.order) {
		if t := e.tables[k]; !listed[k] && t.seen {
			out = append(out, e.look(t, t.state)...) // nothing changed
		}
	}
	return out
}

func (e *Engine) forget(k id) {
	delete(e.tables, k)
	e.order = slices.DeleteFunc(e.order, func(other id) bool { return other == k })
}

// Opening reports whether these refusals in the namespace would be the first of an incident: then a sample is worth its
// while at once.
func (e *Engine) Opening(ns, cookie uint64, cause conntrack.Cause) bool {
	t := e.tables[id{ns, cookie}]
	return t == nil || t.open[cause] == nil
}

// Open is how many incidents are open.
func (e *Engine) Open() int { return len(e.all()) }

func (e *Engine) all() []*open {
	var all []*open
	for _, k := range e.order {
		for _, in := range e.tables[k].open {
			if in != nil {
				all = append(all, in)
			}
		}
	}
	return all
}

// Unlooked lists the namespaces whose tables should be looked into: an incident opened there, or was only announced and
// now packets are refused, or it has been going on for long since the last look. See Looking.
func (e *Engine) Unlooked() (ns []Namespace) {
	for _, k := range e.order {
		for _, in := range e.tables[k].open {
			if in != nil && in.wantsLook(e.now) {
				ns = append(ns, Namespace{k.ns, k.cookie, e.now.boot - in.opened})
				break
			}
		}
	}
	return ns
}

// Namespace is one whose table should be looked into.
type Namespace struct {
	NS, Cookie uint64
	Since      time.Duration // an incident began there
}

// Looking says that somebody looks into a namespace's table, and will call Filled.
func (e *Engine) Looking(ns, cookie uint64) {
	if t := e.tables[id{ns, cookie}]; t != nil {
		for _, in := range t.open {
			if in != nil {
				in.looked, in.lookedAt, in.unripe = true, e.now.boot, in.r.Drops.Total() == 0
			}
		}
	}
}

// Filled adds what a look into the table found, or why there was none, to the open incidents of a namespace.
func (e *Engine) Filled(ns, cookie uint64, f *record.Fillers, why string) []*record.Incident {
	e.Looking(ns, cookie)
	var out []*record.Incident
	t := e.tables[id{ns, cookie}]
	if t == nil {
		return nil
	}
	t.fillers = f
	for _, in := range t.open {
		if in != nil && (f != nil || in.r.Fillers == nil) {
			in.r.Fillers, in.r.FillersWhy = f, why
			out = append(out, e.tell(in, record.PhaseUpdate))
		}
	}
	return out
}

// NextBoot says what the machine's files give at the next boot. It is told of with each incident from now on.
func (e *Engine) NextBoot(persisted, next *uint64, why string) {
	e.boot = record.Limits{Persisted: persisted, NextBoot: next, Why: why}
}

// Stop closes what is open, with the counts as they are, for nobody will look any more, or not for some time. The last
// sample must have been taken. why is record.ClosedStop or record.ClosedUnloaded.
func (e *Engine) Stop(why string) []*record.Incident {
	var out []*record.Incident
	for _, k := range e.order {
		t := e.tables[k]
		out = append(out, e.closeAll(t, why)...)
		t.fullSince, t.evicting, t.unseen = moment{}, spell{}, spell{}
		t.state.Fill = nil
	}
	return out
}

func (e *Engine) limit(l *record.Limit) []*record.Incident {
	if l.Key == conntrack.KeyMax {
		e.max = l.To
	}
	var out []*record.Incident
	for _, k := range e.order {
		t := e.tables[k]
		c := record.Change{Time: l.Time, Key: l.Key, From: l.From, To: l.To, Writer: l.Writer}
		if t.state.Count != nil {
			c.InUse = *t.state.Count
		}
		t.changes = append(t.recent(l.Time), c)
		if l.Key == conntrack.KeyMax {
			t.limited(l.To)
		}
		for _, in := range t.open {
			if in == nil {
				continue
			}
			if len(in.r.Changes) < mostChanges {
				in.r.Changes = append(in.r.Changes, c)
			}
			if l.Key == conntrack.KeyMax {
				in.r.Limits.After = l.To
			}
			out = append(out, e.tell(in, record.PhaseUpdate))
		}
	}
	return out
}
