package report

import (
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// incident follows one incident through the records.
type incident struct {
	key
	run         *run
	last        record.Incident // its last record
	begun       int64           // when, by the boot clock
	closed      bool
	interrupted bool
	inWindow    bool

	before  conntrack.Drops // refused in the namespace when it began
	after   *point          // the first sample after the last record
	now     conntrack.Drops // refused in the namespace, as last listed
	moved   instant         // when a packet of its cause was last refused
	peak    uint64
	peakAt  time.Time
	lossAt  time.Time // of the first sample that tells of a loss
	plot    *plot
	sampled bool
}

// The time around an incident that its plot shows: a quarter of its length, within these.
const (
	minAround = 2 * time.Second
	maxAround = 30 * time.Second
)

// maxPlots is how many incidents have a plot. Of more, the largest have.
const maxPlots = 256

func (b *builder) incident(r *record.Incident) {
	i := b.known[r.ID]
	if i == nil || i.run != b.run {
		i = b.newIncident(r)
	}
	i.last = *r
	i.after = nil
	i.inWindow = i.inWindow || b.in(r.Time)
	i.closed = r.Phase == record.PhaseClose
}

func (b *builder) newIncident(r *record.Incident) *incident {
	i := b.known[r.ID]
	if i == nil {
		i = &incident{}
		b.known[r.ID] = i
		b.order = append(b.order, i)
	}
	*i = incident{
		key: key{r.Cookie, r.NS}, run: b.run, last: *r,
		begun: r.Boottime - max(0, r.Time.Sub(r.Started)).Nanoseconds(),
		plot:  &plot{wall: r.Started.Add(-maxAround), width: int64(100 * time.Millisecond)},
	}
	b.limitPlots()
	t := b.tables[i.key]
	if t == nil {
		return i
	}
	t.incidents = append(t.incidents, i)
	i.now = t.before.Drops
	for n := range t.recent {
		p := &t.recent[n]
		if p.boot <= i.begun {
			i.before = p.drops
		}
		i.draw(p)
	}
	return i
}

// limitPlots gives up the plot of the smallest incident where there are too many.
func (b *builder) limitPlots() {
	var smallest *incident
	n := 0
	for _, i := range b.order {
		if i.plot == nil {
			continue
		}
		n++
		if i.closed && (smallest == nil || i.last.Drops.Total() < smallest.last.Drops.Total()) {
			smallest = i
		}
	}
	if n > maxPlots && smallest != nil {
		smallest.plot = nil
	}
}

// sample folds a sample of the incident's namespace.
func (i *incident) sample(p *point) {
	if i.after == nil && p.boot >= i.last.Boottime {
		i.after = p
	}
	i.now = p.drops
	if p.moved[i.last.Cause] > 0 {
		i.moved = p.instant
	}
	i.draw(p)
}

// draw puts a sample into the plot.
func (i *incident) draw(p *point) {
	at := p.boot - i.begun + maxAround.Nanoseconds()
	if p.count != nil && p.boot >= i.begun-time.Second.Nanoseconds() && (!i.sampled || *p.count > i.peak) {
		i.sampled, i.peak, i.peakAt = true, *p.count, p.wall
	}
	if i.lossAt.IsZero() && p.moved[i.last.Cause] > 0 && p.boot >= i.begun {
		i.lossAt = p.wall
	}
	// An incident is closed after a quiet time that may be longer than itself: that would make its columns coarse.
	quietSince := max(i.last.Duration, i.moved.boot-i.begun)
	if i.plot == nil || p.boot-i.begun > quietSince+maxAround.Nanoseconds() {
		return
	}
	if p.count != nil {
		i.plot.level(max(0, at), *p.count, p.limit) // what it was before, it was at the beginning
	}
	i.plot.refused(at-p.interval, at, p.moved)
}

// overlaps reports whether the incident belongs to the window.
func (i *incident) overlaps(o Options) bool {
	if i.inWindow {
		return true
	}
	end := i.last.Started.Add(time.Duration(i.last.Duration))
	if i.interrupted {
		end = later(end, i.moved.wall)
	}
	return !end.Before(o.Since) && !i.last.Started.After(o.Until)
}

// finish returns what is known in the end.
func (i *incident) finish() Incident {
	r := Incident{Incident: i.last, Interrupted: i.interrupted}
	if i.sampled {
		r.PeakTime = &i.peakAt
	}
	if !i.lossAt.IsZero() {
		r.lossAt = &i.lossAt
	}
	if !i.closed {
		i.topUp(&r)
	}
	if i.plot != nil {
		around := max(minAround, min(maxAround, time.Duration(r.Duration)/4)).Nanoseconds()
		from := maxAround.Nanoseconds()
		r.plot = i.plot.crop(from-around, from+r.Duration+around)
	}
	return r
}

// topUp adds what samples tell that came after the incident's last record. Each of the two sums is the least there was.
func (i *incident) topUp(r *Incident) {
	c := r.Cause
	known := r.Drops[c]
	r.Drops[c] = max(known, since(i.now[c], i.before[c]))
	if i.after != nil {
		r.Drops[c] = max(r.Drops[c], known+i.now[c]-i.after.drops[c])
	}
	if i.sampled && i.peak > r.PeakCount {
		r.PeakCount = i.peak
		if r.Limits.After > 0 {
			r.PeakFill = max(r.PeakFill, float64(i.peak)/float64(r.Limits.After))
		}
	}
	if i.moved.boot-i.begun > r.Duration {
		r.Duration = i.moved.boot - i.begun
	}
	if i.interrupted {
		end := r.Started.Add(time.Duration(r.Duration))
		r.Ended = &end
	}
}

// end is when something last happened, as far as is known.
func (i *Incident) end() time.Time {
	if i.Ended != nil {
		return *i.Ended
	}
	return i.Started.Add(time.Duration(i.Duration))
}

// open reports whether it went on when the window ended.
func (i *Incident) open() bool { return i.Phase != record.PhaseClose && !i.Interrupted }
