package watch

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// limitsEvery is how often the machine's limits are read; a namespace's max is read with its table.
const limitsEvery = 5 * time.Second

// tell writes the sample record, with the places that changed since they were last listed.
func (w *watcher) tell() error {
	since := w.toldAt
	w.toldAt = time.Now()
	if w.toldAt.Sub(w.limitsAt) >= limitsEvery {
		if err := w.readLimits(); err != nil {
			return err
		}
	}
	s := &record.Sample{
		Interval: w.toldAt.Sub(since).Nanoseconds(), Buckets: w.limits.Buckets,
		Lost: w.lostEvents(), Unattributed: w.totals().unattributed, NetNS: []record.NetNS{},
	}
	for _, p := range w.all() {
		r := p.record()
		if p.told == nil || !same(*p.told, r) {
			p.told = &r
			s.NetNS = append(s.NetNS, r)
		}
		if p.finished() {
			w.retire(key{p.ns.Cookie, p.ns.Inode})
		}
	}
	return w.record(s)
}

// readLimits reads the limits, unless conntrack is being unloaded at this moment: then the next tick waits for it.
func (w *watcher) readLimits() error {
	w.limitsAt = time.Now()
	limits, err := conntrack.ReadLimits(w.o.Root)
	switch {
	case errors.Is(err, conntrack.ErrNotLoaded):
		return nil
	case err != nil:
		return err
	}
	w.limits = limits
	return nil
}

func (p *place) record() record.NetNS {
	a := &p.account
	r := record.NetNS{
		NS: p.ns.Inode, Cookie: p.ns.Cookie, Name: p.ns.Name, Host: p.ns.Host,
		Drops: a.Drops, Evicted: a.Evicted, Unattributed: a.Unattributed, Gone: p.finished(),
	}
	if a.Read {
		count, limit := a.Count, a.Max
		r.Count, r.Max = &count, &limit
		if limit > 0 {
			fill := float64(count) / float64(limit)
			r.Fill = &fill
		}
	}
	return r
}

// same reports whether there is nothing new to tell.
func same(a, b record.NetNS) bool {
	equal := func(x, y *uint64) bool { return (x == nil) == (y == nil) && (x == nil || *x == *y) }
	if !equal(a.Count, b.Count) || !equal(a.Max, b.Max) {
		return false
	}
	a.Count, a.Max, a.Fill, b.Count, b.Max, b.Fill = nil, nil, nil, nil, nil, nil
	return a == b
}

// moment is one instant on three clocks.
type moment struct {
	wall time.Time     // with the monotonic clock, which stands during suspend
	boot time.Duration // goes on during suspend, and never back
}

func now() moment {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail for this clock
	return moment{time.Now(), time.Duration(ts.Nano())}
}

// gap tells of a suspend or a step of the wall clock since the last tick.
func (w *watcher) gap() error {
	from := w.last
	w.last = now()
	why := gapBetween(from, w.last)
	if why == "" {
		return nil
	}
	return w.record(&record.Gap{Why: why, From: from.wall.UTC(), To: w.last.wall.UTC()})
}

// tolerance is how far two clocks may go apart in one interval without anything having happened.
const tolerance = 2 * time.Second

func gapBetween(from, to moment) string {
	awake := to.wall.Sub(from.wall) // monotonic
	passed := to.boot - from.boot
	wall := to.wall.Round(0).Sub(from.wall.Round(0))
	switch {
	case passed-awake > tolerance:
		return "suspend"
	case (wall - passed).Abs() > tolerance:
		return "clock"
	}
	return ""
}
