package journal

import (
	"slices"

	"github.com/ctwatch/ctwatch/internal/record"
)

// A calm time is journalled as one sample in this many ns of CLOCK_BOOTTIME,
const rollTime = 60 * second

// or in this many samples, whichever is sooner, so that what is held back is bounded.
const rollSamples = 600

// Rollup chooses what of the records is journalled. It has no clock: the records' own boottime is its time.
//
//   - While an incident is open every sample is journalled as it is.
//   - So is one in which drops, evicted, unattributed, lost, max, buckets or gone moved.
//   - Other samples are calm. They are held back for up to a minute, and then become one, which has the envelope of the
//     last, the intervals of all, and only the namespaces that are new or renamed or whose count moved by 1 % or more of
//     max (of itself, where there is no max) since it was last journalled.
//   - Whatever else comes first, such as an incident that opens, lets those that are held back go as they are. So an
//     incident's file has up to a minute before it in full detail.
//   - The first sample of a day, and the first after a start, is journalled at once and lists all namespaces known.
//   - Drop records are thinned.
//
// The order of the records stays.
type Rollup struct {
	known   map[place]*seen
	order   []*seen // as they came to be known
	held    []*record.Sample
	last    record.Sample // without its namespaces
	open    map[string]bool
	drops   thinning
	day     string // of the last sample
	listAll bool   // the next sample is to list all namespaces
	listed  bool   // the last record that Add returned does
}

type place struct{ cookie, ns uint64 }

type seen struct {
	now       record.NetNS
	told      record.NetNS // as it was last journalled
	journaled bool
}

// NewRollup returns a Rollup at the beginning of a run.
func NewRollup() *Rollup {
	return &Rollup{known: map[place]*seen{}, open: map[string]bool{}, drops: thinning{}, listAll: true}
}

// Add takes the next record and returns those that are to be journalled now, in order. Samples are kept, so r may not be
// changed afterwards.
func (r *Rollup) Add(next record.Record) []record.Record {
	r.listed = false
	switch v := next.(type) {
	case *record.Sample:
		return r.sample(v)
	case *record.Drop:
		if !r.drops.keep(v) {
			return nil
		}
	case *record.Incident:
		if v.Phase == record.PhaseClose {
			delete(r.open, v.ID)
		} else {
			r.open[v.ID] = true
		}
	case *record.Start:
		r.listAll = true
		return append(r.Flush(), next)
	case *record.Stop:
		return append(r.Flush(), next)
	}
	return append(r.release(), next)
}

// Flush returns what is held back, as one sample.
func (r *Rollup) Flush() []record.Record {
	if len(r.held) == 0 {
		return nil
	}
	merged := *r.held[len(r.held)-1]
	merged.Interval, merged.NetNS = 0, []record.NetNS{}
	for _, s := range r.held {
		merged.Interval += s.Interval
	}
	for _, n := range r.order {
		if !n.journaled || moved(n.told, n.now) {
			n.told, n.journaled = n.now, true
			merged.NetNS = append(merged.NetNS, n.now)
		}
	}
	r.held = nil
	return []record.Record{&merged}
}

// ListAll has the next sample be journalled at once, with all namespaces: the file that had them is gone.
func (r *Rollup) ListAll() { r.listAll = true }

func (r *Rollup) sample(s *record.Sample) []record.Record {
	calm := len(r.open) == 0 && r.calm(s)
	day := dayOf(s.Time)
	all := r.listAll || day != r.day
	var out []record.Record
	switch {
	case !calm:
		out = r.release()
	case all:
		out = r.Flush()
	}
	r.note(s)
	r.day = day
	switch {
	case all:
		r.listAll, r.listed = false, true
		full := *s
		full.NetNS = make([]record.NetNS, 0, len(r.order))
		for _, n := range r.order {
			full.NetNS = append(full.NetNS, n.now)
		}
		return append(out, r.tell(&full))
	case !calm:
		return append(out, r.tell(s))
	}
	r.held = append(r.held, s)
	if first := r.held[0]; s.Boottime-first.Boottime+first.Interval < rollTime && len(r.held) < rollSamples {
		return nil
	}
	return r.Flush()
}

// release lets go what is held back as it is.
func (r *Rollup) release() []record.Record {
	if len(r.held) == 0 {
		return nil
	}
	out := make([]record.Record, 0, len(r.held)+1)
	for _, s := range r.held {
		out = append(out, r.tell(s))
	}
	r.held = nil
	return out
}

// calm reports whether nothing moved that is told at once.
func (r *Rollup) calm(s *record.Sample) bool {
	if s.Lost != r.last.Lost || s.Unattributed != r.last.Unattributed || s.Buckets != r.last.Buckets {
		return false
	}
	for _, n := range s.NetNS {
		before := record.NetNS{Max: n.Max}
		if k := r.known[place{n.Cookie, n.NS}]; k != nil {
			before = k.now
		}
		if n.Drops != before.Drops || n.Evicted != before.Evicted || n.Unattributed != before.Unattributed ||
			n.Gone != before.Gone || !equal(n.Max, before.Max) {
			return false
		}
	}
	return true
}

// note takes in what a sample says.
func (r *Rollup) note(s *record.Sample) {
	r.last = *s
	r.last.NetNS = nil
	for _, n := range s.NetNS {
		p := place{n.Cookie, n.NS}
		k := r.known[p]
		if k == nil {
			k = new(seen)
			r.known[p] = k
			r.order = append(r.order, k)
		}
		k.now = n
	}
}

// tell notes that a sample is journalled, and forgets the namespaces whose end it tells.
func (r *Rollup) tell(s *record.Sample) *record.Sample {
	for _, n := range s.NetNS {
		p := place{n.Cookie, n.NS}
		k := r.known[p]
		if k == nil {
			continue // told twice in one sample that it is gone
		}
		k.told, k.journaled = n, true
		if n.Gone {
			delete(r.known, p)
			r.order = slices.DeleteFunc(r.order, func(o *seen) bool { return o == k })
		}
	}
	return s
}

// moved reports whether a calm sample has to list a namespace.
func moved(told, now record.NetNS) bool {
	if told.Name != now.Name || told.Owner != now.Owner || told.Host != now.Host || (told.Count == nil) != (now.Count == nil) {
		return true
	}
	if now.Count == nil || *now.Count == *told.Count {
		return false
	}
	of := *told.Count
	if now.Max != nil && *now.Max > 0 {
		of = *now.Max
	}
	distance := max(*now.Count, *told.Count) - min(*now.Count, *told.Count)
	return float64(distance)*100 >= float64(of)
}

func equal(a, b *uint64) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
