package watch

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/record"
)

// tell writes the sample record, with the places that changed since they were last listed.
func (w *watcher) tell() error {
	since := w.toldAt
	w.toldAt = time.Now()
	if w.toldAt.Sub(w.limitsAt) >= limitsEvery || w.limitMoved() {
		if err := w.checkLimits(); err != nil {
			return err
		}
	}
	s := &record.Sample{
		Interval: w.toldAt.Sub(since).Nanoseconds(), Buckets: w.limits.Buckets,
		Lost: w.lostEvents(), Unattributed: w.totals().unattributed, NetNS: append([]record.NetNS{}, w.farewells...),
	}
	w.farewells = nil
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
	if err := w.record(s); err != nil {
		return err
	}
	w.readLog()
	w.tellKernel(since)
	return nil
}

// tellKernel tells of the kernel's counters where they were read since then.
func (w *watcher) tellKernel(since time.Time) {
	for _, p := range w.places {
		if totals, known := p.account.Totals(); known != 0 && !p.readAt.wall.Before(since) {
			w.out.Kernel(Kernel{NS: p.ns.Inode, Cookie: p.ns.Cookie, Totals: totals, Known: known})
		}
	}
}

func (p *place) record() record.NetNS {
	a := &p.account
	r := record.NetNS{
		NS: p.ns.Inode, Cookie: p.ns.Cookie, Name: p.ns.Name, Owner: p.ns.Owner.String(), Host: p.ns.Host,
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

// gap tells of a suspend, be it of the machine or of this process alone, or a step of the wall clock since the last tick.
func (w *watcher) gap() error {
	from := w.last
	w.last = now()
	why := gapBetween(from, w.last)
	if why == "" {
		return nil
	}
	return w.record(&record.Gap{Why: why, From: from.wall.UTC(), To: w.last.wall.UTC()})
}

const (
	// tolerance is how far two clocks may go apart in one interval without anything having happened.
	tolerance = 2 * time.Second
	// stalled is from when on a tick, which comes each second at least, is not just late: nobody looked meanwhile.
	stalled = 15 * time.Second
)

func gapBetween(from, to moment) string {
	awake := to.wall.Sub(from.wall) // monotonic
	passed := to.boot - from.boot
	wall := to.wall.Round(0).Sub(from.wall.Round(0))
	switch {
	case passed-awake > tolerance, passed > stalled:
		return record.GapSuspend
	case (wall - passed).Abs() > tolerance:
		return record.GapClock
	}
	return ""
}
