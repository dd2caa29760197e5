package incident

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// open is an incident that is not closed.
type open struct {
	r         record.Incident
	cause     conntrack.Cause
	lines     *uint64       // of the kernel log, when it opened
	hold      time.Duration // without anything, until it is over
	opened    time.Duration
	active    moment        // when something last happened
	full      time.Duration // table.fullFor when it opened, or when what it opened in became nearly full
	skipped   time.Duration // since then, time when nobody looked
	announced bool
	told      time.Duration
	fresh     bool // something changed since it was last told of

	looked   bool          // somebody looked into the table, or does ...
	lookedAt time.Duration // ... since then ...
	unripe   bool          // ... when nothing had been refused yet

	window time.Duration // the rate is measured from here ...
	burst  uint64        // ... and so many were refused since
}

// begin makes an incident that began at since. limit is the max before it.
func (e *Engine) begin(t *table, cause conntrack.Cause, trigger string, since moment, limit *uint64) *open {
	n := &t.state
	in := &open{cause: cause, hold: quiet, opened: since.boot, active: e.now, full: t.fullFor, lines: e.o.Lines(n.NS, n.Host)}
	if p := t.past[cause]; p.any && e.now.boot-p.ended < flapping {
		in.hold = min(2*p.hold, longestQuiet)
	}
	if t.fullSince != (moment{}) {
		in.full = t.fullOnce
	}
	in.r = record.Incident{
		ID: newID(n, cause, since), NS: n.NS, Cookie: n.Cookie, Name: n.Name, Owner: n.Owner, Host: n.Host, Cause: cause,
		Trigger: trigger, Started: since.wall,
	}
	limit = cmp.Or(limit, n.Max, &e.max)
	in.r.Limits.Before, in.r.Limits.After = *limit, *limit
	in.r.Changes = slices.Clone(t.recent(e.now.wall))
	if f := t.fillers; f != nil && e.now.wall.Sub(f.Time).Abs() <= fillersAge {
		in.r.Fillers, in.looked, in.lookedAt = f, true, e.now.boot
	}
	return in
}

// newID is the time, for people, and what tells it from others that open in the same second.
func newID(n *record.NetNS, c conntrack.Cause, since moment) string {
	h := fnv.New32a()
	fmt.Fprint(h, n.NS, n.Cookie, c, since.boot)
	return fmt.Sprintf("%s-%04x", since.wall.UTC().Format("20060102-150405"), h.Sum32()&0xffff)
}

// look takes what happened in the table.
func (in *open) look(t *table, c *change) {
	n, r := &t.state, &in.r
	r.Name, r.Owner = cmp.Or(n.Name, r.Name), cmp.Or(n.Owner, r.Owner)

	refused := c.drops[in.cause]
	r.Drops[in.cause] += refused
	if c.unattributed > 0 && in == t.any() {
		r.Unattributed += uint64(c.unattributed)
		refused += uint64(c.unattributed)
	}
	r.Evicted += c.evicted
	if refused > 0 || in.cause == conntrack.TableFull && (c.evicted > 0 || full(*n)) {
		in.active, in.skipped, in.fresh = c.to, 0, true
	}
	in.rate(refused, c)

	r.Above95 = int64(t.fullFor - in.full)
	if n.Count != nil && *n.Count > r.PeakCount {
		r.PeakCount, in.fresh = *n.Count, true
	}
	if n.Fill != nil {
		r.PeakFill = max(r.PeakFill, *n.Fill)
	}
	if n.Max != nil {
		r.Limits.After = *n.Max
		// The kernel refused because the count was over max, whether or not a look saw that.
		if c.drops[conntrack.TableFull] > 0 && in.cause == conntrack.TableFull {
			r.PeakCount, r.PeakFill = max(r.PeakCount, min(r.Limits.Before, *n.Max)), max(r.PeakFill, 1)
		}
	}
}

// rate keeps the highest rate over a second or, where samples are rarer, from one to the next.
func (in *open) rate(refused uint64, c *change) {
	if in.burst == 0 {
		in.window = c.from.boot
	}
	in.burst += refused
	over := max(c.to.boot-in.window, time.Second)
	in.r.PeakDropRate = max(in.r.PeakDropRate, float64(in.burst)/over.Seconds())
	if c.to.boot-in.window >= time.Second {
		in.burst = 0
	}
}

// wantsLook reports whether somebody should look into the table, now or again.
func (in *open) wantsLook(now moment) bool {
	switch {
	case !in.looked:
		return true
	case in.unripe && in.r.Drops.Total() > 0:
		return true
	}
	return now.boot-in.lookedAt >= lookEvery && now.boot-in.active.boot < updateEvery
}

// tell is the incident's record, as it stands.
func (e *Engine) tell(in *open, phase string) *record.Incident {
	in.told, in.fresh = e.now.boot, false
	r := in.r
	r.Phase, r.Buckets = phase, e.buckets
	r.Duration = int64(in.active.boot - in.opened)
	r.Changes = append([]record.Change{}, in.r.Changes...)
	r.Limits.Persisted, r.Limits.NextBoot, r.Limits.Why = e.boot.Persisted, e.boot.NextBoot, e.boot.Why
	if s := e.tables[id{r.NS, r.Cookie}].hurt[in.cause]; s != nil {
		r.Sufferers = s.record()
	}
	if lines := e.o.Lines(r.NS, r.Host); lines != nil && in.lines != nil {
		n := *lines - min(*in.lines, *lines)
		r.LoggedLines = &n
	}
	v := judge(&r)
	r.Verdict, r.VerdictKind, r.Reasons, r.Helps, r.HelpsNot = v.text, v.kind, v.reasons, v.helps, v.not
	return &r
}

func (e *Engine) close(t *table, c conntrack.Cause, why string) *record.Incident {
	in := t.open[c]
	r := e.tell(in, record.PhaseClose)
	ended := in.active.wall
	r.Ended, r.Closed = &ended, why
	t.open[c], t.hurt[c] = nil, nil
	t.past[c] = past{any: true, ended: in.active.boot, hold: in.hold}
	return r
}

func (e *Engine) closeAll(t *table, why string) []*record.Incident {
	var out []*record.Incident
	for c := range t.open {
		if t.open[c] != nil {
			out = append(out, e.close(t, conntrack.Cause(c), why))
		}
	}
	return slices.Clip(out)
}
