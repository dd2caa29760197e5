package kmsg

import (
	"fmt"
	"testing"
)

const (
	full    = "nf_conntrack: nf_conntrack: table full, dropping packet"
	fullIn7 = "nf_conntrack: nf_conntrack: table full in netns 7, dropping packet"
	fullIn8 = "nf_conntrack: nf_conntrack: table full in netns 8, dropping packet"
)

// log takes records with these texts, numbered from 100.
func (t *tally) log(texts ...string) *tally {
	for i, text := range texts {
		t.take(fmt.Appendf(nil, "4,%d,1,-;%s\n", 100+i, text))
	}
	return t
}

func TestWhoseLines(t *testing.T) {
	type lines struct{ host, seven, eight, other uint64 }
	for name, c := range map[string]struct {
		tally *tally
		want  lines
	}{
		"nothing":                            {new(tally).log("NET: Registered PF_INET6 protocol family"), lines{}},
		"6.12, which names none":             {new(tally).log(full, full), lines{2, 2, 2, 2}},
		"6.18":                               {(&tally{names: true}).log(fullIn7, full, fullIn7, fullIn8), lines{1, 2, 1, 0}},
		"6.18, the host alone":               {(&tally{names: true}).log(full, full), lines{2, 0, 0, 0}},
		"a back-port, known by the first":    {new(tally).log(full, fullIn7, full, full), lines{3, 2, 1, 1}},
		"two lines in a record":              {(&tally{names: true}).log(full + `\x0a` + fullIn8), lines{1, 0, 1, 0}},
		"other messages in between":          {new(tally).log(full, "net_ratelimit: 9 callbacks suppressed", "eth0: Link is up"), lines{1, 1, 1, 1}},
		"the table of expectations, instead": {new(tally).log("nf_conntrack: expectation table full"), lines{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := lines{c.tally.Lines(1, true), c.tally.Lines(7, false), c.tally.Lines(8, false), c.tally.Lines(9, false)}
			if got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if c.tally.Missed() != 0 {
				t.Errorf("%d missed", c.tally.Missed())
			}
		})
	}
}

func TestProgramsDoNotCount(t *testing.T) {
	var l tally
	for facility := range 32 {
		l.take(fmt.Appendf(nil, "%d,%d,1,-;%s\n", facility<<3|4, facility, full))
	}
	if n := l.Lines(1, true); n != 1 {
		t.Errorf("%d lines, want 1: the kernel's", n)
	}
}

func TestMissed(t *testing.T) {
	var l tally
	lose := func(seq int, want uint64) {
		t.Helper()
		l.overwritten = true
		l.take(fmt.Appendf(nil, "4,%d,1,-;%s\n", seq, full))
		if l.Missed() != want {
			t.Errorf("%d missed before record %d, want %d", l.Missed(), seq, want)
		}
	}
	lose(50, 1)  // at least one, where none was seen before
	lose(61, 11) // 51 to 60
	lose(62, 11)
	l.take([]byte("4,63,1,-;eth0: Link is up\n"))
	l.take([]byte("4,70,1,-;eth0: Link is up\n")) // not overwritten: the kernel left them out
	lose(72, 12)
	if n := l.Lines(1, true); n != 4 {
		t.Errorf("%d lines", n)
	}
}

// TestManyNamespaces names more than are kept. Those named last must be left.
func TestManyNamespaces(t *testing.T) {
	l := tally{names: true}
	name := func(seq, inode int) {
		l.take(fmt.Appendf(nil, "4,%d,1,-;nf_conntrack: table full in netns %d, dropping packet\n", seq, inode))
	}
	for inode := 1; inode <= most; inode++ {
		name(inode, inode)
	}
	name(most+1, 1)
	for inode := most + 1; inode < most+100; inode++ {
		name(inode+1, inode)
	}
	if len(l.named) != most {
		t.Errorf("%d namespaces are kept", len(l.named))
	}
	for inode, want := range map[uint64]uint64{1: 2, 2: 0, 100: 0, 101: 1, most: 1, most + 99: 1} {
		if got := l.Lines(inode, false); got != want {
			t.Errorf("namespace %d: %d lines, want %d", inode, got, want)
		}
	}
}
