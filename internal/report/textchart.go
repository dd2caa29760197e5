package report

import (
	"math"
	"strings"
)

// levels are the eighths of a cell.
var levels = [...]rune{' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'}

// chart draws both panels with the eighths of a cell.
func (t *textWriter) chart(ch *chart) {
	const label, room = 9, textWidth - 9
	p := ch.plot.spread(room)
	cols := p.filled()
	n := len(cols)
	fills, rates := make([]float64, n), make([]float64, n)
	peak := 0.0
	for i, c := range cols {
		if c.seen {
			fills[i] = float64(c.high) * ch.unit / ch.top
		}
		rates[i] = c.total() / ch.per(p)
		peak = max(peak, rates[i])
	}
	top := short(ch.top)
	if ch.share {
		top = percent(ch.top)
	}
	panel := func(values []float64, rows int, top, name string) {
		for row := rows - 1; row >= 0; row-- {
			out := ""
			switch row {
			case rows - 1:
				out = top
			case 0:
				out = name
			}
			out = pad(fit(out, label-1), label-1, true) + " "
			for _, v := range values {
				eighths := int(math.Ceil(v*float64(rows*8) - 1e-9))
				out += string(levels[min(max(eighths-row*8, 0), 8)])
			}
			t.line(out)
		}
	}
	panel(fills, 4, top, ch.level)
	if peak > 0 {
		for i := range rates {
			rates[i] /= peak
		}
		unit := "/s"
		if ch.share {
			unit = ""
		}
		panel(rates, 3, short(peak)+unit, "refused")
	}
	t.line(strings.Repeat(" ", label) + strings.Repeat("─", n))
	axis := []rune(strings.Repeat(" ", textWidth))
	end := 0
	scaled := *ch
	scaled.plot = p
	for _, tick := range scaled.timeTicks(5) {
		at := label + int(int64(tick.at)/p.width)
		text := []rune("╵" + tick.Label)
		if at >= end && at+len(text) <= textWidth {
			copy(axis[at:], text)
			end = at + len(text) + 1
		}
	}
	t.line(string(axis))
	if len(ch.causes) > 0 {
		names := ch.rateName(p) + ": "
		for i, c := range ch.causes {
			if i > 0 {
				names += ", "
			}
			names += c.String()
		}
		t.para(strings.Repeat(" ", label), strings.Repeat(" ", label), say("%s", names))
	}
	for _, m := range ch.marks {
		at := ch.clock.time(ch.plot.wall.Add(m.at), false)
		t.para(strings.Repeat(" ", label), strings.Repeat(" ", label), say("%s at %s", m.Text, at))
	}
}

// spread is the plot in exactly n columns.
func (p *plot) spread(n int) *plot {
	from := len(p.columns)
	out := &plot{wall: p.wall, width: max(1, p.span().Nanoseconds()/int64(n)), columns: make([]column, n)}
	for i := range out.columns {
		c := &out.columns[i]
		c.dark = true // unless one of its parts is not
		begin, end := float64(i*from)/float64(n), float64((i+1)*from)/float64(n)
		for k := int(begin); k < from && float64(k) < end-1e-9; k++ {
			part := p.columns[k]
			share := min(end, float64(k+1)) - max(begin, float64(k))
			for cause := range part.drops {
				part.drops[cause] *= share
			}
			c.join(part)
		}
	}
	return out
}
