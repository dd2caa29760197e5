package incident

import (
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// table is one namespace's table, as of the last sample.
type table struct {
	seen    bool
	state   record.NetNS
	at      moment
	open    [conntrack.NumCauses]*open
	past    [conntrack.NumCauses]past
	hurt    [conntrack.NumCauses]*sufferers // of packets refused since the last incident of that cause was closed
	fillers *record.Fillers                 // as last seen
	changes []record.Change                 // of limits, the recent ones

	fullSince moment        // zero while it is not nearly full
	fullFor   time.Duration // all the time that it was nearly full ...
	fullOnce  time.Duration // ... and how much of it was before fullSince
	evicting  spell         // evictions while no incident is open
	unseen    spell         // unattributed refusals while none is open
}

// spell is something that happens again and again, with pauses.
type spell struct {
	since, last moment
	n           uint64
}

func (s *spell) add(n uint64, at moment) {
	if s.n == 0 {
		s.since = at
	}
	s.n += n
	s.last = at
}

// past is the last incident of a cause, once it is closed.
type past struct {
	any   bool
	ended time.Duration
	hold  time.Duration
}

// refused notes whose packet was refused.
func (t *table) refused(d *record.Drop) {
	s := &t.hurt[d.Cause]
	if *s == nil {
		*s = newSufferers()
	}
	(*s).add(d)
	if in := t.open[d.Cause]; in != nil {
		in.fresh = true
	}
}

// recent are the changes of limits that may have to do with what begins at some time.
func (t *table) recent(at time.Time) []record.Change {
	t.changes = slices.DeleteFunc(t.changes, func(c record.Change) bool { return at.Sub(c.Time).Abs() > recently })
	return t.changes[max(0, len(t.changes)-mostChanges/2):]
}

// limited says that the table has another max. How full it is follows, until it is looked at.
func (t *table) limited(limit uint64) {
	if t.state.Max == nil {
		return
	}
	t.state.Max, t.state.Fill = &limit, nil
	if t.state.Count != nil && limit > 0 {
		fill := float64(*t.state.Count) / float64(limit)
		t.state.Fill = &fill
	}
}

func full(n record.NetNS) bool { return n.Fill != nil && *n.Fill >= conntrack.NearlyFull }

// fill keeps how long the table was nearly full. It was as it was before until now.
func (t *table) fill(n record.NetNS, at moment) {
	if t.seen && full(t.state) {
		t.fullFor += at.boot - t.at.boot
	}
	switch {
	case !full(n):
		t.fullSince = moment{}
	case t.fullSince == (moment{}):
		t.fullSince, t.fullOnce = at, t.fullFor
	}
}

// any is an open incident, that of a full table before others: what has no cause of its own is told of there.
func (t *table) any() *open {
	if in := t.open[conntrack.TableFull]; in != nil {
		return in
	}
	for _, in := range t.open {
		if in != nil {
			return in
		}
	}
	return nil
}

// look takes the state of a table at a sample, and opens, updates and closes incidents.
func (e *Engine) look(t *table, n record.NetNS) []*record.Incident {
	before := change{from: t.at, to: e.now}
	if !t.seen {
		before.from = e.now // what was before is not known
	}
	for c := range n.Drops {
		before.drops[c] = n.Drops[c] - min(t.state.Drops[c], n.Drops[c])
	}
	before.evicted = n.Evicted - min(t.state.Evicted, n.Evicted)
	before.unattributed = int64(n.Unattributed) - int64(t.state.Unattributed)
	t.fill(n, e.now)
	limit := t.state.Max
	t.state, t.at, t.seen = n, e.now, true

	e.open(t, &before, limit)
	var out []*record.Incident
	for c, in := range t.open {
		if in == nil {
			continue
		}
		in.look(t, &before)
		switch {
		case !in.announced:
			in.announced = true
			out = append(out, e.tell(in, record.PhaseOpen))
		case e.now.boot-in.active.boot-in.skipped >= in.hold:
			out = append(out, e.close(t, conntrack.Cause(c), record.ClosedQuiet))
		case in.fresh && e.now.boot-in.told >= updateEvery:
			out = append(out, e.tell(in, record.PhaseUpdate))
		}
	}
	return out
}

// change is what happened in a table between two samples.
type change struct {
	from, to     moment
	drops        conntrack.Drops
	evicted      uint64
	unattributed int64 // less than 0 if the program found what it had not seen
}

// open opens the incidents that the change calls for. limit is the max before it.
func (e *Engine) open(t *table, c *change, limit *uint64) {
	begin := func(cause conntrack.Cause, trigger string, since moment) *open {
		in := t.open[cause]
		if in == nil {
			in = e.begin(t, cause, trigger, since, limit)
			t.open[cause] = in
		}
		return in
	}
	for cause, n := range c.drops {
		if n > 0 {
			begin(conntrack.Cause(cause), record.TriggerDrop, c.to)
		}
	}

	e.openUnseen(t, c, begin)

	gap := max(evictingGap, 2*(c.to.boot-c.from.boot))
	if t.evicting.n > 0 && c.to.boot-t.evicting.last.boot > gap {
		t.evicting = spell{}
	}
	if full := t.open[conntrack.TableFull]; full != nil {
		if !full.announced {
			full.r.Evicted = t.evicting.n // right before it
		}
		t.evicting = spell{}
	} else if c.evicted > 0 {
		t.evicting.add(c.evicted, c.to)
		if c.to.boot-t.evicting.since.boot >= evictingFor {
			in := begin(conntrack.TableFull, record.TriggerEvicted, t.evicting.since)
			in.r.Evicted, t.evicting = t.evicting.n-c.evicted, spell{} // this sample's are still to be added
		}
	}
	if t.fullSince != (moment{}) && c.to.boot-t.fullSince.boot >= sustained {
		begin(conntrack.TableFull, record.TriggerFill, t.fullSince)
	}
}

// openUnseen takes refusals that the program did not see. They are told of with whatever incident is open. Where there is
// none, and they stay, they are one. What the program found after all is taken back.
func (e *Engine) openUnseen(t *table, c *change, begin func(conntrack.Cause, string, moment) *open) {
	if c.unattributed < 0 {
		found := uint64(-c.unattributed)
		c.unattributed = 0
		waiting := min(found, t.unseen.n)
		t.unseen.n -= waiting
		found -= waiting
		for _, in := range t.open {
			if in != nil {
				n := min(found, in.r.Unattributed)
				in.r.Unattributed -= n
				found -= n
			}
		}
	}
	if t.unseen.n == 0 && c.unattributed == 0 {
		t.unseen = spell{}
		return
	}
	if c.unattributed > 0 {
		t.unseen.add(uint64(c.unattributed), c.to)
		c.unattributed = 0
	}
	if t.any() == nil {
		if c.to.boot-t.unseen.since.boot < unseenFor {
			return
		}
		cause := conntrack.Other
		if full(t.state) {
			cause = conntrack.TableFull
		}
		begin(cause, record.TriggerUnattributed, t.unseen.since)
	}
	c.unattributed, t.unseen = int64(t.unseen.n), spell{}
}
