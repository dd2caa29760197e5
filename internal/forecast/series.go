// Package forecast tells from the last looks at a table how fast it grows, and when it will be full.
package forecast

import (
	"math"
	"slices"
	"time"
)

const (
	window  = 10 * time.Second       // growth is looked for this far back
	spacing = 500 * time.Millisecond // looks that come closer together stand for one
	fewest  = 3                      // looks that are kept however old they are, and needed to tell growth from a step
)

// Series is the last looks at a table. The zero Series knows nothing.
type Series struct {
	points []point // oldest first
	max    uint64
}

type point struct {
	at    time.Duration // CLOCK_BOOTTIME
	count uint64
}

// Add takes a look at the table: at boot, by CLOCK_BOOTTIME, it held count of max entries. A max of 0 is no limit, as it
// is to the kernel. A look that is not later than the last one is ignored.
func (f *Series) Add(boot time.Duration, count, max uint64) {
	n := len(f.points)
	if n > 0 && boot <= f.points[n-1].at {
		return
	}
	f.max = max
	if n > 1 && boot-f.points[n-2].at < spacing {
		f.points = f.points[:n-1]
	}
	f.points = append(f.points, point{boot, count})
	old := 0
	for len(f.points)-old > fewest && boot-f.points[old].at > window {
		old++
	}
	f.points = slices.Delete(f.points, 0, old)
}

// Growth is by how many entries a second the table grows; 0 if it does not. One step, however high, is no growth, and a
// look that is out of line hardly counts: it is the median of the slopes between all looks (Theil-Sen), or, so that a
// flood is seen before half of them are of its time, the lower of the last two.
func (f *Series) Growth() float64 {
	n := len(f.points)
	if n < fewest {
		return 0
	}
	before, last := slope(f.points[n-3], f.points[n-2]), slope(f.points[n-2], f.points[n-1])
	if before <= 0 && last <= 0 {
		return 0 // it is over
	}
	slopes := make([]float64, 0, n*(n-1)/2)
	for i, from := range f.points {
		for _, to := range f.points[i+1:] {
			slopes = append(slopes, slope(from, to))
		}
	}
	slices.Sort(slopes)
	return max(0, slopes[len(slopes)/2], min(before, last))
}

// SecondsToFull is in how many seconds the table will be full if it goes on like this: 0 if it is, +Inf if it does not fill.
func (f *Series) SecondsToFull() float64 {
	if len(f.points) == 0 || f.max == 0 {
		return math.Inf(1)
	}
	count := f.points[len(f.points)-1].count
	if count >= f.max {
		return 0
	}
	return float64(f.max-count) / f.Growth() // +Inf for 0
}

func slope(from, to point) float64 {
	return (float64(to.count) - float64(from.count)) / (to.at - from.at).Seconds()
}
