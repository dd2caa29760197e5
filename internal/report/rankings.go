package report

import (
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// rank is a ranking that may be worth a table.
type rank struct {
	caption, column string
	rows            []record.Share
}

// standsOut is the share from which the first of a ranking says something.
const standsOut = 0.01

// rankings are tables of those rankings in which somebody stands out, and a line for the others.
func rankings(all []rank, table func(rank) grid) []block {
	var grids []grid
	var even block
	for _, k := range all {
		switch {
		case len(k.rows) == 0:
		case k.rows[0].Share < standsOut:
			even.List = append(even.List, say("No %s stands out: the largest, %s, has %s.", k.column, named(k.rows[0].Key), percent(k.rows[0].Share)))
		default:
			grids = append(grids, table(k))
		}
	}
	var blocks []block
	if len(grids) > 0 {
		blocks = append(blocks, block{Grids: grids})
	}
	if len(even.List) > 0 {
		blocks = append(blocks, even)
	}
	return blocks
}

// ranking is a table of shares. answered: with the share that saw packets both ways.
func ranking(caption, key, unit string, shares []record.Share, most int, sampled, answered bool) grid {
	g := grid{Caption: caption, Columns: []gridColumn{{key, false, false}, {unit, true, true}, {"share", true, true}}}
	if answered {
		g.Columns = append(g.Columns, gridColumn{"answered", true, true})
	}
	for n, s := range shares {
		if n == most {
			g.More = several(uint64(len(shares)-most), "more row")
			break
		}
		share := say("%s", percent(s.Share))
		if sampled {
			share = say("%s ±%s", percent(s.Share), formatFloat(max(0.1, 100*s.Error), 1))
		}
		row := cells(line{named(s.Key)}, say("%s", s.Entries), share)
		row[2].Bar = min(max(s.Share, 0), 1)
		if answered {
			row = append(row, cells(say("%s", percent(s.Replied)))...)
		}
		g.Rows = append(g.Rows, row)
	}
	return g
}

func (i *Incident) fillers(c clock, x extent) []block {
	f := i.Fillers
	if f == nil {
		why := say("Nobody could look into the table.")
		if i.FillersWhy != "" {
			why = sentences(say("Nobody could look into the table:"), sentence(i.FillersWhy))
		}
		return []block{{Text: why}}
	}
	var how line
	switch {
	case f.Exact:
		how = say("At %s ctwatch looked at all %s of the table: these shares are exact.", c.time(f.Time, false), several(f.Entries, "entry"))
	case f.Walked >= f.Entries:
		how = say("At %s ctwatch looked at all %s of the table, while entries came and went: shares are within %s.", c.time(f.Time, false), several(f.Walked, "entry"), percent(f.Error))
	default:
		how = say("At %s the table held %s. ctwatch looked at %s of them, a random sample: each share is within the ± beside it, 19 times out of 20 (%s at most).",
			c.time(f.Time, false), several(f.Entries, "entry"), f.Walked, percent(f.Error))
	}
	if f.Interrupted {
		how = sentences(how, say("The table was resized meanwhile, so some may be missing or counted twice."))
	}
	how = sentences(how, say("%s were answered, %s may not be evicted.", stressed(percent(f.Replied)), percent(f.Assured)))
	if f.Idle > 0 {
		how = sentences(how, say("%s are established TCP connections without a packet for %s or longer.", stressed(percent(f.Idle)), duration(time.Duration(f.IdleFor))))
	}
	return append([]block{{Text: how}}, rankings([]rank{{"source networks", "network", f.SrcNet}, {"sources", "source", f.Src},
		{"destinations", "destination", f.Dst}, {"destination ports", "port", f.Dport}, {"states", "state", f.State}}, func(k rank) grid {
		return ranking("Who filled: "+k.caption, k.column, "entries", k.rows, x.rows, !f.Exact && f.Error > 0, true)
	})...)
}
