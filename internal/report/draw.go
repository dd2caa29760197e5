package report

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// drawing is a chart as SVG needs it: all numbers are in the units of its box.
type drawing struct {
	ID            string
	Class         string
	Title, Desc   string
	W, H          float64
	Left, Right   float64 // of both panels
	Top, Base     float64 // of the upper panel
	Top2, Base2   float64 // of the lower one; 0 where there is none
	Area, Line    string  // paths of the level
	Limit         string  // path of the limit
	LimitText     string
	LimitX        float64
	LimitY        float64
	Bars          []bars
	Levels, Rates []axisTick
	Times         []axisTick
	Marks         []axisTick
	Name, Name2   string // of the panels
	Zone          string
}

// bars are the refusals of one cause.
type bars struct {
	Cause string
	Path  string
}

type axisTick struct {
	At     float64
	Label  string
	Anchor string
	Y      float64
}

// sizes are those of a chart for a wide and for a narrow screen.
type sizes struct {
	class                  string
	w, upper, lower        float64
	left, right            float64
	columns, times, levels int
}

var (
	wideChart   = sizes{class: "wide", w: 800, upper: 190, lower: 90, left: 60, right: 14, columns: 120, times: 8, levels: 5}
	narrowChart = sizes{class: "narrow", w: 360, upper: 150, lower: 80, left: 46, right: 8, columns: 60, times: 3, levels: 5}
)

// draw lays the chart out.
func (ch *chart) draw(id string, z sizes) *drawing {
	p := ch.plot.shrink(z.columns)
	cols := p.filled()
	d := &drawing{ID: id + "-" + z.class, Class: z.class, Title: ch.Title, Desc: ch.describe(), W: z.w, Left: z.left, Right: z.w - z.right, Zone: ch.clock.zone(p.wall)}
	// The upper panel begins below its name and the marks.
	d.Top = 34 + 16*float64(len(ch.marks))
	d.Base = d.Top + z.upper
	d.H = d.Base + 26
	d.Name = ch.level
	if ch.share {
		d.Name = "fill of the fullest table"
	}
	step := niceStep(ch.top, z.levels)
	ceiling := ch.top * 1.04
	y := func(v float64) float64 { return d.Base - v/ceiling*(d.Base-d.Top) }
	for v := 0.0; v <= ceiling; v += step {
		label := short(v)
		if ch.share {
			label = percent(v)
		}
		d.Levels = append(d.Levels, axisTick{At: y(v), Label: label})
	}
	span := float64(len(cols))
	x := func(column float64) float64 { return d.Left + column/max(span, 1)*(d.Right-d.Left) }
	for n, m := range ch.marks {
		at := x(float64(m.at) / float64(p.width))
		anchor, label := "start", " "+m.Text
		if at > (d.Left+d.Right)/2 {
			anchor, label = "end", m.Text+" "
		}
		d.Marks = append(d.Marks, axisTick{At: at, Label: label, Anchor: anchor, Y: 34 + 16*float64(n)})
	}
	ch.levelPaths(d, cols, x, y)
	if len(ch.causes) > 0 {
		d.Top2 = d.Base + 40
		d.Base2 = d.Top2 + z.lower
		d.H = d.Base2 + 26
		d.Name2 = ch.rateName(p)
		d.rates(ch, p, z, x)
	}
	labelled := 0.0 // up to where labels reach
	times := *ch
	times.plot = p
	for _, t := range times.timeTicks(z.times) {
		at := x(float64(t.at) / float64(p.width))
		anchor := "middle"
		if at < d.Left+24 {
			anchor = "start"
		} else if at > d.Right-24 {
			anchor = "end"
		}
		// A label that would run into the one before is left out; its line stays.
		from, wide := at, 7*float64(len(t.Label))
		switch anchor {
		case "middle":
			from -= wide / 2
		case "end":
			from -= wide
		}
		tick := axisTick{At: at, Label: t.Label, Anchor: anchor}
		if from < labelled {
			tick.Label = ""
		} else {
			labelled = from + wide + 8
		}
		d.Times = append(d.Times, tick)
	}
	return d
}

// levelPaths draws the level and the limit.
func (ch *chart) levelPaths(d *drawing, cols []column, x, y func(float64) float64) {
	var area, line, limit strings.Builder
	pen := func(b *strings.Builder, begin bool, x, y float64) {
		letter := "L"
		if begin {
			letter = "M"
		}
		fmt.Fprintf(b, "%s%.1f %.1f", letter, x, y)
	}
	first := -1
	level := 0.0 // where the pen is
	var before uint64
	// What is known may end, and begin again.
	end := func(i int) {
		if first < 0 {
			return
		}
		pen(&line, false, x(float64(i)), y(level))
		pen(&area, false, x(float64(i)), y(level))
		pen(&area, false, x(float64(i)), d.Base)
		area.WriteString("Z")
		first, before = -1, 0
	}
	for i, c := range cols {
		if !c.seen {
			end(i)
			continue
		}
		at := x(float64(i) + 0.5)
		if first < 0 {
			first = i
			level = ch.course(c, true)[0] * ch.unit
			pen(&line, true, x(float64(i)), y(level))
			fmt.Fprintf(&area, "M%.1f %.1f", x(float64(i)), d.Base)
			pen(&area, false, x(float64(i)), y(level))
		}
		for _, v := range ch.course(c, i == first) {
			pen(&line, false, at, y(v*ch.unit))
			pen(&area, false, at, y(v*ch.unit))
			level = v * ch.unit
		}
		if c.limit == 0 || ch.share {
			continue
		}
		// A limit changes at once, so its line goes up and down in steps.
		if before == 0 {
			pen(&limit, true, x(float64(i)), y(float64(c.limit)))
		} else if before != c.limit {
			step := d.nearMark(x(float64(i)), x(1)-x(0))
			pen(&limit, false, step, y(float64(before)))
			pen(&limit, false, step, y(float64(c.limit)))
		}
		pen(&limit, false, x(float64(i+1)), y(float64(c.limit)))
		before = c.limit
	}
	limitNow := before
	end(len(cols))
	d.Area, d.Line, d.Limit = area.String(), line.String(), limit.String()
	if limitNow > 0 {
		d.LimitText = "max " + number(limitNow)
		d.LimitX, d.LimitY = d.Right-4, y(float64(limitNow))-6
	}
}

// course is where the level went in a column: to both ends of what was seen, and to what was seen last. Of the fullest
// table the most is shown, for the least is another table's.
func (ch *chart) course(c column, first bool) []float64 {
	low, high, last := float64(c.low), float64(c.high), float64(c.last)
	switch {
	case ch.share:
		return []float64{high}
	case first || c.low == c.high:
		return []float64{last}
	case high-last < last-low:
		return []float64{low, high, last}
	}
	return []float64{high, low, last}
}

// nearMark is where a mark is, if there is one within two columns: the same change, seen by a sample.
func (d *drawing) nearMark(x, column float64) float64 {
	for _, m := range d.Marks {
		if math.Abs(m.At-x) <= 2*column {
			return m.At
		}
	}
	return x
}

// rates draws the lower panel: refused packets, the causes on top of each other.
func (d *drawing) rates(ch *chart, p *plot, z sizes, x func(float64) float64) {
	peak := 0.0
	for i := range p.columns {
		peak = max(peak, p.columns[i].total()/ch.per(p))
	}
	y := func(v float64) float64 { return d.Base2 - v/(peak*1.04)*(d.Base2-d.Top2) }
	step := niceStep(peak, 3)
	for v := 0.0; v <= peak*1.04; v += step {
		d.Rates = append(d.Rates, axisTick{At: y(v), Label: short(v)})
	}
	under := make([]float64, len(p.columns))
	for _, cause := range ch.causes {
		var b strings.Builder
		for i := range p.columns {
			v := p.columns[i].drops[cause] / ch.per(p)
			if v <= 0 {
				continue
			}
			low, high := y(under[i]), y(under[i]+v)
			if low-high < 1 { // the least must be seen, too
				high = low - 1
			}
			fmt.Fprintf(&b, "M%.1f %.1fV%.1fH%.1fV%.1fZ", x(float64(i)), low, high, x(float64(i+1)), low)
			under[i] += v
		}
		d.Bars = append(d.Bars, bars{Cause: cause.String(), Path: b.String()})
	}
}

// describe is the chart for those who cannot see it.
func (ch *chart) describe() string {
	p := ch.plot
	var high, limit uint64
	var highAt, peakAt int
	peak := 0.0
	for i, c := range p.columns {
		if c.seen && c.high > high {
			high, highAt = c.high, i
		}
		if c.seen {
			limit = c.limit
		}
		if t := c.total() / p.seconds(); t > peak {
			peak, peakAt = t, i
		}
	}
	when := func(i int) string {
		return ch.clock.time(p.wall.Add(time.Duration(int64(i)*p.width)), false)
	}
	from, to := p.wall, p.wall.Add(p.span())
	text := "From " + ch.clock.stretch(from, to) + ". "
	switch {
	case ch.share:
		text += "The fill was highest, " + percent(float64(high)*ch.unit) + ", at about " + when(highAt) + "."
	case limit > 0:
		text += "The table held most, " + several(high, "entry") + ", at about " + when(highAt) + "; the limit at the end was " + number(limit) + "."
	default:
		text += "The table held most, " + several(high, "entry") + ", at about " + when(highAt) + "."
	}
	switch {
	case peak > 0 && ch.share:
		text += " Most packets were refused at about " + when(peakAt) + "."
	case peak > 0:
		text += " Most packets were refused at about " + when(peakAt) + ": " + rate(peak) + "."
	default:
		text += " No packet was refused."
	}
	for _, m := range ch.marks {
		text += " " + m.Text + " at " + ch.clock.time(p.wall.Add(m.at), false) + "."
	}
	return text
}
