package report

import (
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// silence is how long there may be no record while a daemon runs: in calm time one is kept each minute.
const silence = 3 * time.Minute

// run is one run of the daemon.
type run struct {
	start *record.Start // nil: before what was read
	whole bool          // it was read from its start, so counters began at zero
	since time.Time
	wall  time.Time // of the last record
	boot  int64     // of the last record
	seq   uint64    // of the last record; 0: none yet

	interval time.Duration // of the last sample

	drops        conntrack.Drops // in the window
	lost         uint64          // as last told, since the start of the run
	unattributed uint64
	told         bool // the two above are known
}

func (b *builder) begin(r *run) {
	clear(b.tables)
	b.full, b.run = nil, r
}

func (b *builder) start(s *record.Start) {
	if b.run != nil && s.Seq > 1 && s.Seq > b.run.seq && s.Boottime >= b.run.boot {
		// Conntrack was loaded, or loaded again: the same daemon goes on, and what it counted stands.
		b.run.seen(b, s.Head(), 0, 0)
		b.run.start = s
		b.meet(s)
		return
	}
	b.ends()
	if !b.idle.wall.IsZero() || s.Time.After(b.o.Since) {
		b.unseen.idle(b, s.Time, s.Boottime)
	}
	b.begin(&run{start: s, whole: true, since: s.Time, told: true})
	b.run.seen(b, s.Head(), 0, 0)
	b.meet(s)
}

// meet notes the host's name.
func (b *builder) meet(s *record.Start) {
	if !b.in(s.Time) && len(b.r.Hosts) > 0 && !s.Time.Before(b.o.Since) {
		return
	}
	if n := len(b.r.Hosts); n > 0 && b.r.Hosts[n-1] == s.Hostname {
		return
	}
	if s.Time.Before(b.o.Since) { // the last one before the window is the one in it
		b.r.Hosts = b.r.Hosts[:0]
	}
	for _, h := range b.r.Hosts {
		if h == s.Hostname {
			return
		}
	}
	b.r.Hosts = append(b.r.Hosts, s.Hostname)
}

// seen notes that the daemon was there when it wrote a record. known is how much of the time since the last one a gap
// record accounts for, covered how much of it the record itself tells of.
func (r *run) seen(b *builder, e *record.Envelope, known, covered time.Duration) {
	if r.seq == 0 {
		r.wall, r.boot, r.seq = e.Time, e.Boottime, e.Seq
		return
	}
	passed := time.Duration(e.Boottime - r.boot)
	if passed < 0 { // the machine was started anew, and the record of it is missing
		passed = 0
	}
	switch {
	case passed-known-covered > silence:
		b.unseen.stretch(b, UnseenSilent, r.wall, e.Time, passed-known)
	case e.Time.After(b.o.Since) && !r.wall.After(b.o.Until):
		// By the boot clock, and not more than the part of it that is in the window.
		part := passed - known
		if r.wall.Before(b.o.Since) {
			part = min(part, e.Time.Sub(b.o.Since))
		}
		b.r.Watched += max(0, part).Nanoseconds()
	}
	r.wall, r.boot, r.seq = e.Time, e.Boottime, e.Seq
}

// counts folds what a sample or the stop record counts since the start of the run.
func (r *run) counts(b *builder, in bool, lost, unattributed uint64) {
	if in && r.told {
		b.unseen.lost += since(lost, r.lost)
		b.unattributed += int64(unattributed) - int64(r.unattributed) // the program may find some of them later
	}
	r.lost, r.unattributed, r.told = lost, unattributed, true
}

// gap folds a gap record: the time that it tells of was not watched, but for blind, when the kernel's counters were.
func (b *builder) gap(g *record.Gap) {
	passed := time.Duration(g.Boottime - b.run.boot)
	known := g.To.Sub(g.From)
	length := known
	switch g.Why {
	case record.GapClock: // the wall clock moved, and no time is missing
		known, length = 0, 0
	case record.GapBlind, record.GapJournal: // the kernel's counters went on
		known = 0
	default:
		known = max(0, min(known, passed))
		length = max(known, length)
	}
	b.run.seen(b, g.Head(), known, 0)
	if g.Why == record.GapClock {
		b.unseen.clock(b, g, g.To.Sub(g.From))
		return
	}
	b.unseen.stretch(b, g.Why, g.From, g.To, length)
}

func (b *builder) stop(s *record.Stop) {
	in := b.in(s.Time)
	r := b.run
	r.counts(b, in, s.Lost, s.Unattributed)
	if in {
		b.unseen.missed += s.Missed
		if r.whole && b.in(r.since) { // what no sample came to tell
			for c, n := range s.Totals {
				if n > r.drops[c] {
					b.r.Totals[c] += n - r.drops[c]
				}
			}
		}
	}
	b.ended(true)
}

// ends is for a run whose end no record tells: the next one began, or what was read ends.
func (b *builder) ends() {
	if b.run != nil {
		b.ended(false)
	}
}

// ended closes the books of a run.
func (b *builder) ended(clean bool) {
	for _, i := range b.order {
		if i.run == b.run && !i.closed {
			i.interrupted = true
		}
	}
	if !clean && b.in(b.run.wall) {
		b.unseen.crash(b.run)
	}
	b.idle = instant{b.run.wall, b.run.boot}
	b.leave(Run{Clean: clean})
}

// last is for the run that goes on when what was read ends. It may be over, too, and nothing was there to say so.
func (b *builder) last() {
	if b.run == nil {
		b.unseen.idle(b, b.o.Until, 0)
		return
	}
	toNow := !b.o.Until.Before(b.o.Now)
	quiet := b.o.Until.Sub(b.run.wall)
	patience := silence + b.run.interval
	switch {
	case toNow && !b.o.Running, !toNow && quiet > patience:
		b.ended(false)
		b.unseen.idle(b, b.o.Until, 0)
		return
	case quiet > patience:
		b.unseen.stretch(b, UnseenSilent, b.run.wall, b.o.Until, quiet)
	default:
		b.r.Watched += max(0, min(quiet, b.o.Until.Sub(b.o.Since))).Nanoseconds()
	}
	b.leave(Run{Running: true})
}

// leave keeps of a run what is worth keeping.
func (b *builder) leave(told Run) {
	r := b.run
	for _, t := range b.tables {
		b.retire(t)
	}
	b.run = nil
	if r.wall.Before(b.o.Since) || r.since.After(b.o.Until) {
		return
	}
	told.Since, told.Until = r.since, r.wall
	if r.start != nil {
		told.Version, told.Kernel, told.Probe = r.start.Version, r.start.Kernel, r.start.Probe
	}
	b.r.Runs = append(b.r.Runs, told)
	if len(b.r.Runs) > maxRuns {
		b.r.Runs = b.r.Runs[1:]
	}
}
