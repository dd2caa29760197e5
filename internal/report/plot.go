package report

import (
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// plotColumns is how many columns a plot has at most, and so how much memory it takes, however long it is.
const plotColumns = 480

// column is what happened in one stretch of time.
type column struct {
	seen      bool
	dark      bool   // nobody was counting: what was seen before may not hold
	low, high uint64 // entries; in a plot of fills, a ten-thousandth each
	last      uint64 // what was seen last
	limit     uint64 // 0: not known
	drops     [conntrack.NumCauses]float64
}

// plot keeps the course of a table in columns of equal time. When it has no room for more time, each two become one.
type plot struct {
	wall    time.Time // at the beginning
	width   int64     // nanoseconds of a column
	columns []column
	fixed   bool // the columns stay as wide as they are
}

// at is the column of an instant, in nanoseconds since the beginning; nil if it is outside.
func (p *plot) at(ns int64) *column {
	if ns < 0 {
		return nil
	}
	for !p.fixed && ns/p.width >= plotColumns {
		p.halve()
	}
	i := int(ns / p.width)
	if i >= plotColumns {
		return nil
	}
	for len(p.columns) <= i {
		p.columns = append(p.columns, column{})
	}
	return &p.columns[i]
}

func (p *plot) halve() {
	half := p.columns[:0]
	for i := 0; i < len(p.columns); i += 2 {
		c := p.columns[i]
		if i+1 < len(p.columns) {
			c.join(p.columns[i+1])
		}
		half = append(half, c)
	}
	p.columns = half
	p.width *= 2
}

// join adds the column that follows.
func (c *column) join(next column) {
	for i := range c.drops {
		c.drops[i] += next.drops[i]
	}
	c.dark = c.dark && next.dark
	if !next.seen {
		return
	}
	if c.seen {
		c.low, c.high = min(c.low, next.low), max(c.high, next.high)
	} else {
		c.low, c.high = next.low, next.high
	}
	c.seen, c.last, c.limit = true, next.last, next.limit
}

// level notes how many entries there were, and how many there could be.
func (p *plot) level(ns int64, count, limit uint64) {
	if c := p.at(ns); c != nil {
		c.join(column{seen: true, low: count, high: count, last: count, limit: limit})
	}
}

// refused spreads what was refused over the time in which it was: nobody looked in between.
func (p *plot) refused(from, to int64, drops conntrack.Drops) {
	if drops.Total() == 0 || p.at(to) == nil {
		return
	}
	from = max(min(from, to-1), 0)
	first, last := from/p.width, (to-1)/p.width
	for i := first; i <= last; i++ {
		share := float64(min(to, (i+1)*p.width)-max(from, i*p.width)) / float64(to-from)
		c := p.at(i * p.width)
		if c == nil {
			continue
		}
		for cause, n := range drops {
			c.drops[cause] += share * float64(n)
		}
	}
}

// darken marks the columns between two instants as those in which nobody was counting.
func (p *plot) darken(from, to int64) {
	first, last := (max(0, from)+p.width-1)/p.width, min(to/p.width, int64(len(p.columns)))
	for i := first; i < last; i++ {
		p.columns[i].dark = true
	}
}

// crop leaves what is between two instants, in nanoseconds since the beginning. What was known of the table before is
// taken as what it was when the first column begins.
func (p *plot) crop(from, to int64) *plot {
	first := int(max(0, from) / p.width)
	last := min(int(to/p.width), len(p.columns)-1)
	out := &plot{wall: p.wall.Add(time.Duration(int64(first) * p.width)), width: p.width}
	if first > last {
		return out
	}
	out.columns = append(out.columns, p.columns[first:last+1]...)
	if !out.columns[0].seen {
		for i := first - 1; i >= 0; i-- {
			if c := p.columns[i]; c.seen {
				c.drops, c.low, c.high = out.columns[0].drops, c.last, c.last
				out.columns[0] = c
				break
			}
		}
	}
	return out
}

// shrink joins columns until there are at most n.
func (p *plot) shrink(n int) *plot {
	out := &plot{wall: p.wall, width: p.width, columns: append([]column(nil), p.columns...)}
	for len(out.columns) > n {
		out.halve()
	}
	return out
}

// span is how long the plot is.
func (p *plot) span() time.Duration { return time.Duration(int64(len(p.columns)) * p.width) }
