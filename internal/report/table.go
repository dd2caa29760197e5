package report

import (
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// table is what is known of one namespace's table during one run.
type table struct {
	key
	told      NetNS // in the window
	inWindow  bool
	before    record.NetNS // as last listed, with what is cumulative
	recent    []point      // the last few, oldest first
	incidents []*incident
}

// point is what one sample tells of a table.
type point struct {
	instant
	interval int64
	drops    conntrack.Drops // since the start of the run
	moved    conntrack.Drops // since the table was last listed
	count    *uint64
	limit    uint64
}

func newPoint(r *record.Sample, n *record.NetNS, moved conntrack.Drops) point {
	p := point{instant: instant{r.Time, r.Boottime}, interval: r.Interval, drops: n.Drops, moved: moved, count: n.Count}
	if n.Max != nil {
		p.limit = *n.Max
	}
	return p
}

// recentPoints is how many points are kept: the drops before an incident are looked up when its first record comes.
const recentPoints = 64

// moves is what moved between two samples.
type moves struct {
	drops        conntrack.Drops
	evicted      uint64
	unattributed int64 // less than 0 where the program found what it had not seen
}

func (b *builder) table(n *record.NetNS) *table {
	k := key{n.Cookie, n.NS}
	t := b.tables[k]
	if t == nil {
		t = &table{key: k}
		b.tables[k] = t
		if !b.run.whole { // what it counted before is not known
			t.before = *n
		}
		for _, i := range b.order {
			if i.key == k && i.run == b.run && !i.closed {
				t.incidents = append(t.incidents, i)
			}
		}
	}
	return t
}

// move returns what moved since the table was last listed.
func (t *table) move(n *record.NetNS, run *run) moves {
	m := moves{evicted: since(n.Evicted, t.before.Evicted), unattributed: int64(n.Unattributed) - int64(t.before.Unattributed)}
	for c := range n.Drops {
		m.drops[c] = since(n.Drops[c], t.before.Drops[c])
	}
	t.before = *n
	return m
}

// since is how far a counter went. One that went back has begun anew.
func since(now, before uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}

func (t *table) keep(p point) {
	if len(t.recent) == recentPoints {
		t.recent = slices.Delete(t.recent, 0, recentPoints/2)
	}
	t.recent = append(t.recent, p)
}

// tell notes what belongs in the window.
func (t *table) tell(n *record.NetNS, at time.Time, m moves) {
	t.inWindow = true
	w := &t.told
	w.NS, w.Cookie, w.Name, w.Host = n.NS, n.Cookie, n.Name, n.Host
	w.Drops = w.Drops.Add(m.drops)
	w.Evicted += m.evicted
	w.Unattributed = uint64(max(0, int64(w.Unattributed)+m.unattributed))
	if n.Count != nil && (w.PeakTime == nil || *n.Count > w.PeakCount) {
		w.PeakCount, w.PeakTime = *n.Count, &at
	}
	if n.Fill != nil && (w.PeakFill == nil || *n.Fill > *w.PeakFill) {
		fill := *n.Fill
		w.PeakFill = &fill
	}
}

// retire keeps what is worth keeping of a table, and forgets it. A namespace that outlives a run goes on in the next.
func (b *builder) retire(t *table) {
	delete(b.tables, t.key)
	if t == b.full {
		b.fullest(t)
	}
	if !t.inWindow {
		return
	}
	i := slices.IndexFunc(b.past, func(n NetNS) bool { return n.Cookie == t.cookie && n.NS == t.inode })
	if i < 0 {
		b.past = append(b.past, t.told)
		if len(b.past) > 8*maxNetNS {
			b.trim()
		}
		return
	}
	p, n := &b.past[i], t.told
	p.Name, p.Host = n.Name, n.Host
	p.Drops, p.Evicted, p.Unattributed = p.Drops.Add(n.Drops), p.Evicted+n.Evicted, p.Unattributed+n.Unattributed
	if n.PeakTime != nil && (p.PeakTime == nil || n.PeakCount > p.PeakCount) {
		p.PeakCount, p.PeakTime = n.PeakCount, n.PeakTime
	}
	if n.PeakFill != nil && (p.PeakFill == nil || *n.PeakFill > *p.PeakFill) {
		p.PeakFill = n.PeakFill
	}
}
