package report

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// chart is a plot that can be drawn: what is on its axes, in words.
type chart struct {
	plot   *plot
	clock  clock
	Title  string
	level  string  // what the upper panel shows
	unit   float64 // of the plot's levels: 1 is an entry, 0.0001 a share
	share  bool    // levels are shares
	top    float64 // of the upper panel
	causes []conntrack.Cause
	marks  []mark
}

// mark is an instant that stands out in a chart.
type mark struct {
	at   time.Duration // since the beginning of the plot
	Text string
}

// maxMarks is how many marks a chart has: more would hide it.
const maxMarks = 6

// chart draws the table's course during the incident; nil where no sample tells it.
func (i *Incident) chart(r *Report, c clock) *chart {
	if i.plot == nil || len(i.plot.columns) == 0 {
		return nil
	}
	ch := newChart(i.plot, c)
	ch.Title = "Entries against the limit, and packets refused each second"
	ch.level = "entries"
	for _, change := range r.changesOf(i) {
		at := change.Time.Sub(i.plot.wall)
		if change.Key == conntrack.KeyMax && at >= 0 && at <= i.plot.span() && len(ch.marks) < maxMarks {
			ch.marks = append(ch.marks, mark{at, "max " + number(change.From) + " → " + number(change.To)})
		}
	}
	return ch
}

// chart draws the whole window: the fullest table, and what was refused.
func (r *Report) chart(c clock) *chart {
	if r.fill == nil || r.Samples == 0 || r.asked {
		return nil
	}
	ch := newChart(r.fill, c)
	ch.Title = "Fill of the fullest table, and packets refused"
	ch.level, ch.unit, ch.share, ch.top = "fill", 1e-4, true, max(1, ch.top*1e-4)
	return ch
}

func newChart(p *plot, c clock) *chart {
	ch := &chart{plot: p, clock: c, unit: 1}
	var drops [conntrack.NumCauses]float64
	for _, col := range p.columns {
		ch.top = max(ch.top, float64(col.high), float64(col.limit))
		for cause, n := range col.drops {
			drops[cause] += n
		}
	}
	for cause, n := range drops {
		if n > 0 {
			ch.causes = append(ch.causes, conntrack.Cause(cause))
		}
	}
	ch.top = cmp.Or(ch.top, 1)
	return ch
}

// per is what the lower panel's counts are divided by: the seconds of a column or, where columns are so long that nobody
// would say how many packets a second that is, nothing.
func (ch *chart) per(p *plot) float64 {
	if ch.share {
		return 1
	}
	return p.seconds()
}

// rateName says what the lower panel shows.
func (ch *chart) rateName(p *plot) string {
	if ch.share {
		return "refused packets, each " + duration(time.Duration(p.width))
	}
	return "refused packets a second"
}

// seconds is how long a column is.
func (p *plot) seconds() float64 { return time.Duration(p.width).Seconds() }

// total is what was refused in the column.
func (c *column) total() float64 {
	sum := 0.0
	for _, n := range c.drops {
		sum += n
	}
	return sum
}

// filled are the levels of each column, where one that nobody looked at is as the one before. What is not known even so,
// at the beginning and where nobody was counting, is not seen.
func (p *plot) filled() []column {
	out := make([]column, len(p.columns))
	var last column
	for i, c := range p.columns {
		if c.dark {
			last = column{}
		}
		if c.seen {
			last = c
			last.low, last.high = c.last, c.last
		} else {
			c.low, c.high, c.last, c.limit, c.seen = last.low, last.high, last.last, last.limit, last.seen
		}
		out[i] = c
	}
	return out
}

// niceStep is 1, 2 or 5 times a power of ten, so that at most n steps reach top.
func niceStep(top float64, n int) float64 {
	step := math.Pow(10, math.Floor(math.Log10(top/float64(n))))
	for _, f := range []float64{1, 2, 5, 10} {
		if step*f*float64(n) >= top*0.9999 {
			return step * f
		}
	}
	return step * 10
}

// timeSteps are the distances that ticks of a time axis may have.
var timeSteps = [...]time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	24 * time.Hour, 2 * 24 * time.Hour, 7 * 24 * time.Hour, 14 * 24 * time.Hour, 30 * 24 * time.Hour}

// timeTick is a tick of the time axis.
type timeTick struct {
	at    time.Duration
	Label string
}

// timeTicks are at most n ticks at round times of the zone.
func (ch *chart) timeTicks(n int) []timeTick {
	span := ch.plot.span()
	step := timeSteps[len(timeSteps)-1]
	for _, s := range timeSteps {
		if span <= time.Duration(n)*s {
			step = s
			break
		}
	}
	first := ch.plot.wall.In(ch.clock.Location)
	midnight := time.Date(first.Year(), first.Month(), first.Day(), 0, 0, 0, 0, ch.clock.Location)
	t := midnight.Add((first.Sub(midnight) + step - 1).Truncate(step))
	var ticks []timeTick
	for ; t.Sub(first) <= span && len(ticks) <= n; t = t.Add(step) {
		label := t.Format("15:04:05")
		switch {
		case step < time.Second:
			label = t.Format("15:04:05.0")
		case step >= 24*time.Hour || span > 36*time.Hour && t.Hour() == 0 && t.Minute() == 0:
			label = t.Format("2 Jan")
		case step >= time.Minute:
			label = t.Format("15:04")
		}
		ticks = append(ticks, timeTick{t.Sub(first), label})
	}
	return ticks
}

// short writes a count for an axis: 950, 12k, 1.5M.
func short(v float64) string {
	for _, u := range []struct {
		of   float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= u.of {
			return figures(v/u.of) + u.name
		}
	}
	return figures(v)
}

// figures writes a number below 1000 with three figures at most.
func figures(v float64) string {
	digits := 0
	switch {
	case v > 0 && v < 1:
		return strconv.FormatFloat(v, 'g', 2, 64)
	case v < 10:
		digits = 2
	case v < 100:
		digits = 1
	}
	s := formatFloat(v, digits)
	if digits > 0 {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}
