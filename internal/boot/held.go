package boot

import (
	"fmt"
	"strings"
)

// Verdict is whether what files set was found in force after a boot.
type Verdict struct {
	Held bool
	Why  string // in words: what set it, or what beat it, file:line
	By   []Line // the lines that set what is live instead; none if a program did, or nothing did
}

// Held compares what files set with what is live after a boot. Where no file sets anything, it holds.
func Held(o Outlook, live Limits) Verdict {
	v := Verdict{Held: true}
	var said []string
	for _, c := range []struct {
		name               string
		limit              limit
		set, is, next, new *uint64
	}{
		{"max", limitMax, o.Persisted.Max, live.Max, o.NextBoot.Max, o.Begins.Max},
		{"buckets", limitBuckets, o.Persisted.Buckets, live.Buckets, o.NextBoot.Buckets, o.Begins.Buckets},
	} {
		if c.set == nil || c.is == nil {
			continue
		}
		from := o.winner(c.limit)
		if *c.is == *c.set || c.limit == limitBuckets && *c.is == roundUp(*c.set, pageSize()/8) {
			said = append(said, fmt.Sprintf("%s is %d, as %s sets it", c.name, *c.is, from))
			continue
		}
		v.Held = false
		beaten := fmt.Sprintf("%s is %d, and not the %d that %s sets", c.name, *c.is, *c.set, from)
		lines := o.setting(c.limit, *c.is)
		v.By = append(v.By, lines...)
		switch {
		case len(lines) > 0:
			var places []string
			for _, l := range lines {
				places = append(places, place{l.File, l.Line}.String())
			}
			beaten += ": " + strings.Join(places, " and ") + " set that number, and something applied it later"
		case c.next != nil && *c.next == *c.is && *c.next != *c.set:
			beaten += ": " + o.Why
		case c.new != nil && *c.new == *c.is:
			beaten += ": it is what conntrack begins with, so the files were applied before it was loaded, or it was loaded again since"
		default:
			beaten += ": no file sets that number, so a program set it later"
		}
		said = append(said, beaten)
	}
	v.Why = strings.Join(said, "; ")
	if v.Why == "" {
		v.Why = "no file sets a limit"
	}
	return v
}

// winner is the place of the line that the files' limit comes from.
func (o Outlook) winner(l limit) string {
	for _, line := range o.Files {
		if line.Wins && line.about(l) {
			return place{line.File, line.Line}.String()
		}
	}
	return "a file"
}

// setting are the lines that would set a limit to a number, and do not win.
func (o Outlook) setting(l limit, value uint64) (lines []Line) {
	for _, line := range o.Files {
		n, err := parseInt(line.Value)
		if !line.Wins && line.about(l) && err == nil && uint64(n) == value {
			lines = append(lines, line)
		}
	}
	return lines
}

// about reports whether the line sets this limit.
func (l Line) about(which limit) bool {
	if l.Key == "hashsize" {
		return which == limitBuckets
	}
	path := limitFile(l.Key) // of a script
	if path == "" {
		path = normalize(l.Key)
	}
	return assignment{path: path}.sets(which)
}
