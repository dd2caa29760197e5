package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// builder folds the records, one after the other, into a report.
type builder struct {
	o      Options
	r      *Report
	run    *run
	idle   instant              // when the last run ended
	tables map[key]*table       // of the run
	full   *table               // the fullest of them
	past   []NetNS              // of tables that are no more; bounded
	known  map[string]*incident // by id
	order  []*incident
	unseen unseen

	unattributed int64   // in the window; less than 0 where what was missing before it was found in it
	limit        *uint64 // nf_conntrack_max as last known
}

// key is a namespace's identity: inodes are used again, cookies never.
type key struct{ cookie, inode uint64 }

// instant is one moment on two clocks.
type instant struct {
	wall time.Time
	boot int64
}

func newBuilder(o Options) *builder {
	fill := &plot{wall: o.Since, width: max(1, int64(o.Until.Sub(o.Since)+plotColumns)/plotColumns), fixed: true, columns: make([]column, plotColumns)}
	return &builder{
		o: o, known: map[string]*incident{}, tables: map[key]*table{},
		r: &Report{
			Since: o.Since, Until: o.Until, fill: fill, asked: o.Incident != "",
			Hosts: []string{}, Incidents: []Incident{}, Actions: []record.Action{}, Limits: []record.Limit{},
			NetNS: []NetNS{}, Runs: []Run{},
		},
	}
}

// in reports whether a time is in the window.
func (b *builder) in(t time.Time) bool { return !t.Before(b.o.Since) && !t.After(b.o.Until) }

func (b *builder) add(r record.Record) error {
	e := r.Head()
	if s, ok := r.(*record.Start); ok {
		if s.Probe != "" { // else conntrack was not loaded
			b.limit = &s.Max
		}
		b.start(s)
		return nil
	}
	if b.run == nil { // what was read begins within it
		if b.idle.wall.IsZero() && e.Time.Sub(b.o.Since) > silence {
			b.unseen.stretch(b, UnseenSilent, b.o.Since, e.Time, e.Time.Sub(b.o.Since))
		}
		b.begin(&run{since: e.Time})
	}
	gap, isGap := r.(*record.Gap)
	sample, isSample := r.(*record.Sample)
	switch {
	case isGap:
		b.gap(gap)
	case isSample:
		b.run.interval = time.Duration(sample.Interval)
		b.run.seen(b, e, 0, b.run.interval)
	default:
		b.run.seen(b, e, 0, 0)
	}
	switch r := r.(type) {
	case *record.Sample:
		b.sample(r)
	case *record.Incident:
		b.incident(r)
	case *record.Action:
		if b.in(e.Time) {
			b.r.Actions = append(b.r.Actions, *r)
		}
	case *record.Limit:
		if r.Key == conntrack.KeyMax {
			b.limit = &r.To
		}
		if b.in(e.Time) {
			b.r.Limits = append(b.r.Limits, *r)
		}
	case *record.Stop:
		b.stop(r)
	}
	return nil
}

// sample folds one sample: what moved since the last one.
func (b *builder) sample(r *record.Sample) {
	in := b.in(r.Time)
	if in {
		b.r.Samples++
	}
	b.run.counts(b, in, r.Lost, r.Unattributed)
	at := r.Time.Sub(b.r.fill.wall).Nanoseconds()
	for i := range r.NetNS {
		n := &r.NetNS[i]
		t := b.table(n)
		moved := t.move(n, b.run)
		if in {
			b.run.drops = b.run.drops.Add(moved.drops)
			b.r.Totals = b.r.Totals.Add(moved.drops)
			b.r.Evicted += moved.evicted
			t.tell(n, r.Time, moved)
			if n.Fill != nil && (b.r.peak == nil || *n.Fill > *b.r.peak) {
				b.r.peak = n.Fill
			}
			b.r.fill.refused(at-r.Interval, at, moved.drops)
		}
		p := newPoint(r, n, moved.drops)
		t.keep(p)
		t.incidents = slices.DeleteFunc(t.incidents, func(i *incident) bool {
			i.sample(&p)
			return i.closed
		})
		b.fullest(t)
		if in && b.full != nil { // before a later one of this sample is less full
			b.r.fill.level(at, uint64(*b.full.before.Fill*1e4), 1e4)
		}
		if n.Gone {
			b.retire(t)
		}
	}
}

// fullest keeps track of the fullest table: one that is not listed is as full as it was.
func (b *builder) fullest(t *table) {
	switch {
	case t == b.full:
		b.full = nil
		for _, other := range b.tables {
			if other.before.Fill != nil && (b.full == nil || *other.before.Fill > *b.full.before.Fill) {
				b.full = other
			}
		}
	case t.before.Fill != nil && (b.full == nil || *t.before.Fill > *b.full.before.Fill):
		b.full = t
	}
}

// finish makes the report of what was folded.
func (b *builder) finish(d Damage) *Report {
	b.last()
	for _, i := range b.order {
		if !i.overlaps(b.o) {
			continue
		}
		if b.o.Incident != "" && i.last.ID != b.o.Incident {
			b.r.Others++
			continue
		}
		in := i.finish()
		in.now = cmp.Or(b.o.Limit, b.limit) // the former is known from further on
		in.written = b.written(in.Time)
		b.r.Incidents = append(b.r.Incidents, in)
	}
	slices.SortStableFunc(b.r.Incidents, func(x, y Incident) int { return x.Started.Compare(y.Started) })
	b.topUp()
	b.r.Unattributed = uint64(max(0, b.unattributed))
	b.r.LoggedLines = loggedLines(b.r.Incidents)
	b.r.NetNS = b.busiest()
	b.r.Unseen = b.unseen.finish(b.r, d)
	if len(b.r.Hosts) == 0 && b.o.Host != "" && len(b.r.Runs) > 0 {
		b.r.Hosts = append(b.r.Hosts, b.o.Host)
	}
	return b.r
}

// written is what limit was written for the next boot after a time, and not taken back since; nil if none was.
func (b *builder) written(after time.Time) (limit *uint64) {
	for n := range b.r.Actions {
		a := &b.r.Actions[n]
		switch {
		case a.Result != record.ResultApplied || !a.Time.After(after):
		case a.What == record.ActionPersist && a.To > 0:
			limit = &a.To
		case a.What == record.ActionUndo:
			limit = nil
		}
	}
	return limit
}

// topUp adds to the totals what incidents know and no sample came to tell, because the daemon ended before.
func (b *builder) topUp() {
	if b.o.Incident != "" {
		return
	}
	var sum conntrack.Drops
	for i := range b.r.Incidents {
		if in := &b.r.Incidents[i]; b.in(in.Started) && in.Interrupted {
			sum = sum.Add(in.Drops)
		}
	}
	for c := range sum {
		b.r.Totals[c] = max(b.r.Totals[c], sum[c])
	}
}

// busiest are the namespaces that are worth a line, those with most drops first.
func (b *builder) busiest() []NetNS {
	b.trim()
	return append([]NetNS{}, b.past...)
}

// trim bounds how many namespaces that are no more are kept.
func (b *builder) trim() {
	fill := func(n NetNS) float64 {
		if n.PeakFill == nil {
			return 0
		}
		return *n.PeakFill
	}
	slices.SortStableFunc(b.past, func(x, y NetNS) int {
		return cmp.Or(
			cmp.Compare(y.Drops.Total()+y.Unattributed, x.Drops.Total()+x.Unattributed),
			cmp.Compare(fill(y), fill(x)), cmp.Compare(y.PeakCount, x.PeakCount),
			cmp.Compare(x.Name, y.Name), cmp.Compare(x.NS, y.NS), cmp.Compare(x.Cookie, y.Cookie))
	})
	b.past = b.past[:min(len(b.past), maxNetNS)]
}

// loggedLines adds up what the kernel log let through. Incidents of one namespace at the same time saw the same lines.
func loggedLines(incidents []Incident) *uint64 {
	if len(incidents) == 0 {
		return nil
	}
	type stretch struct {
		until time.Time
		lines uint64
	}
	var total uint64
	last := map[key]stretch{}
	for _, i := range incidents { // oldest first
		if i.LoggedLines == nil {
			return nil
		}
		k := key{i.Cookie, i.NS}
		s := last[k]
		if i.Started.After(s.until) {
			s = stretch{}
		}
		if *i.LoggedLines > s.lines {
			total += *i.LoggedLines - s.lines
			s.lines = *i.LoggedLines
		}
		s.until = later(s.until, i.end())
		last[k] = s
	}
	return &total
}
