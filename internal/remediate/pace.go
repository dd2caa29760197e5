package remediate

import (
	"slices"
	"time"
)

// Pace is how fast a table fills, from looks at its count alone. The zero Pace knows nothing. [forecast.Series] tells
// the same for people, over ten seconds; Pace is to be in time.
type Pace struct {
	looks   []look // oldest first, paceSpacing apart but for the last
	fastest float64
	when    time.Duration // of fastest
}

type look struct {
	at    time.Duration // CLOCK_BOOTTIME
	count uint64
}

const (
	paceSpacing = 50 * time.Millisecond
	paceWindow  = time.Second
	// paceLeast is how far apart two looks must be to tell a rate.
	paceLeast = 4 * time.Millisecond
	// paceMemory is how long the fastest growth seen is reckoned with.
	paceMemory = 10 * time.Second
)

// Add takes a look at the table: at boot, by CLOCK_BOOTTIME, it held count entries.
func (p *Pace) Add(boot time.Duration, count uint64) {
	n := len(p.looks)
	if n > 0 {
		last := p.looks[n-1]
		if boot <= last.at {
			return
		}
		if n > 1 && last.at-p.looks[n-2].at < paceSpacing {
			p.looks = p.looks[:n-1]
		}
	}
	p.looks = append(p.looks, look{boot, count})
	old := 0
	for len(p.looks)-old > 2 && boot-p.looks[old+1].at >= paceWindow {
		old++
	}
	p.looks = slices.Delete(p.looks, 0, old)
	if rate := p.latest(); rate >= p.fastest || boot-p.when > paceMemory {
		p.fastest, p.when = rate, boot
	}
}

// Growth is by how many entries a second the table grew over the last second, or since the last look but one where nobody
// looked for longer; 0 if it did not.
func (p *Pace) Growth() float64 {
	if len(p.looks) < 2 {
		return 0
	}
	return rate(p.looks[0], p.looks[len(p.looks)-1])
}

// Before is how many entries there were a second ago, or at the last look but one; what there is now if nobody knows.
func (p *Pace) Before() uint64 {
	if len(p.looks) == 0 {
		return 0
	}
	return p.looks[0].count
}

// latest is the growth between the last looks that are far enough apart.
func (p *Pace) latest() float64 {
	n := len(p.looks)
	for i := n - 2; i >= 0; i-- {
		if p.looks[n-1].at-p.looks[i].at >= paceLeast {
			return rate(p.looks[i], p.looks[n-1])
		}
	}
	return 0
}

func rate(from, to look) float64 {
	if to.count <= from.count {
		return 0
	}
	return float64(to.count-from.count) / (to.at - from.at).Seconds()
}

// How often a filling table is looked at.
const (
	calmPause  = time.Second
	leastPause = 5 * time.Millisecond
	samples    = 10 // that remain until a table is full at the fastest growth seen
)

// Pause is how long nobody needs to look at a table of so many entries under a limit: such that at the fastest growth of
// the last ten seconds ten looks remain until it is full.
func (p *Pace) Pause(limit uint64) time.Duration {
	if len(p.looks) == 0 || limit == 0 {
		return calmPause
	}
	count := p.looks[len(p.looks)-1].count
	switch {
	case count >= limit:
		return leastPause
	case len(p.looks) == 1 && float64(count) >= soonFill*float64(limit):
		return paceSpacing // whether it grows is not known yet
	case p.fastest == 0:
		return calmPause
	}
	pause := float64(limit-count) / p.fastest / samples * float64(time.Second)
	return time.Duration(min(max(pause, float64(leastPause)), float64(calmPause)))
}
