package journal

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/record"
)

// rolled is what a Rollup made of a row of records: of samples the seconds they stand for and the namespaces they list.
type rolled struct {
	Seq     uint64
	Kind    string
	Seconds int64
	NS      []uint64
}

func roll(r *Rollup, records ...record.Record) []rolled {
	var out []rolled
	for _, in := range records {
		for _, r := range r.Add(in) {
			o := rolled{Seq: r.Head().Seq, Kind: r.Head().Kind}
			if s, ok := r.(*record.Sample); ok {
				o.Seconds, o.NS = s.Interval/1e9, []uint64{}
				for _, n := range s.NetNS {
					o.NS = append(o.NS, n.NS)
				}
			}
			out = append(out, o)
		}
	}
	return out
}

// begun returns a Rollup after the first sample of a day, which listed namespaces 1 to 3, each 1000 of 10000 full.
func begun(t *testing.T) (*Rollup, *pen) {
	t.Helper()
	r, p := NewRollup(), newPen()
	got := roll(r, p.next(&record.Start{}), p.sample(state(1, 1000, 10000), state(2, 1000, 10000), state(3, 1000, 10000)))
	want := []rolled{{1, "start", 0, nil}, {2, "sample", 1, []uint64{1, 2, 3}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("begin (-want +got):\n%s", diff)
	}
	return r, p
}

func (p *pen) sample(states ...record.NetNS) record.Record {
	return p.next(&record.Sample{Interval: 1e9, NetNS: states})
}

func (p *pen) calm(n int) (out []record.Record) {
	for range n {
		out = append(out, p.sample())
	}
	return out
}

func TestRollup(t *testing.T) {
	sample := func(seq uint64, seconds int64, ns ...uint64) rolled {
		return rolled{seq, "sample", seconds, append([]uint64{}, ns...)}
	}
	change := func(f func(*record.NetNS)) record.NetNS {
		n := state(2, 1000, 10000)
		f(&n)
		return n
	}
	for _, c := range []struct {
		name string
		add  func(p *pen) []record.Record
		want []rolled
	}{
		{"a calm minute is one sample", func(p *pen) []record.Record { return p.calm(61) },
			[]rolled{sample(62, 60)}},
		{"a count that moved by less than 1 % of max is not listed", func(p *pen) []record.Record {
			return append(p.calm(59), p.sample(state(1, 1099, 10000)))
		}, []rolled{sample(62, 60)}},
		{"one that moved by 1 % is", func(p *pen) []record.Record {
			return append(p.calm(59), p.sample(state(1, 1100, 10000), state(3, 900, 10000)))
		}, []rolled{sample(62, 60, 1, 3)}},
		{"slow changes add up", func(p *pen) []record.Record {
			all := append(p.calm(59), p.sample(state(1, 1060, 10000)))
			return append(append(all, p.calm(59)...), p.sample(state(1, 1120, 10000)))
		}, []rolled{sample(62, 60), sample(122, 60, 1)}},
		{"what came and went within the minute is not listed", func(p *pen) []record.Record {
			return append([]record.Record{p.sample(state(1, 5000, 10000)), p.sample(state(1, 1000, 10000))}, p.calm(58)...)
		}, []rolled{sample(62, 60)}},
		{"without a max, 1 % of itself", func(p *pen) []record.Record {
			all := append(p.calm(59), p.sample(state(4, 200, 0), state(5, 200, 0)))
			return append(append(all, p.calm(59)...), p.sample(state(4, 201, 0), state(5, 202, 0)))
		}, []rolled{sample(62, 60, 4, 5), sample(122, 60, 5)}},
		{"a new name and a new owner are listed", func(p *pen) []record.Record {
			return append(p.calm(59), p.sample(change(func(n *record.NetNS) { n.Name = "m" })))
		}, []rolled{sample(62, 60, 2)}},
		{"refusals let all go as it is", func(p *pen) []record.Record {
			return append(p.calm(2), p.sample(change(func(n *record.NetNS) { n.Drops = dropsOf(1) })))
		}, []rolled{sample(3, 1), sample(4, 1), sample(5, 1, 2)}},
		{"evictions too", func(p *pen) []record.Record {
			return append(p.calm(1), p.sample(change(func(n *record.NetNS) { n.Evicted = 1 })))
		}, []rolled{sample(3, 1), sample(4, 1, 2)}},
		{"and a max", func(p *pen) []record.Record {
			return append(p.calm(1), p.sample(change(func(n *record.NetNS) { n.Max = new(uint64) })))
		}, []rolled{sample(3, 1), sample(4, 1, 2)}},
		{"and an end, which is told once", func(p *pen) []record.Record {
			gone := p.sample(change(func(n *record.NetNS) { n.Gone = true }))
			return append([]record.Record{gone}, p.calm(60)...)
		}, []rolled{sample(3, 1, 2), sample(63, 60)}},
		{"and unattributed, lost and buckets", func(p *pen) []record.Record {
			return []record.Record{
				p.next(&record.Sample{Interval: 1e9, Unattributed: 1}), p.next(&record.Sample{Interval: 1e9, Unattributed: 1, Lost: 1}),
				p.next(&record.Sample{Interval: 1e9, Unattributed: 1, Lost: 1, Buckets: 1}),
				p.next(&record.Sample{Interval: 1e9, Unattributed: 1, Lost: 1, Buckets: 1}),
			}
		}, []rolled{sample(3, 1), sample(4, 1), sample(5, 1)}},
		{"an incident has what came before in full detail, and all until it is over", func(p *pen) []record.Record {
			all := append(p.calm(2), p.next(&record.Incident{Phase: record.PhaseOpen, ID: "a"}))
			all = append(all, p.sample(state(1, 1001, 10000)), p.sample(), p.next(&record.Incident{Phase: record.PhaseOpen, ID: "b"}))
			all = append(all, p.next(&record.Incident{Phase: record.PhaseClose, ID: "a"}), p.sample())
			return append(append(all, p.next(&record.Incident{Phase: record.PhaseClose, ID: "b"})), p.calm(60)...)
		}, []rolled{sample(3, 1), sample(4, 1), {5, "incident", 0, nil}, sample(6, 1, 1), sample(7, 1), {8, "incident", 0, nil},
			{9, "incident", 0, nil}, sample(10, 1), {11, "incident", 0, nil}, sample(71, 60)}},
		{"a change of limits keeps its place", func(p *pen) []record.Record { return append(p.calm(2), p.limit()) },
			[]rolled{sample(3, 1), sample(4, 1), {5, "limit", 0, nil}}},
		{"a stop is not worth it", func(p *pen) []record.Record { return append(p.calm(2), p.next(&record.Stop{})) },
			[]rolled{sample(4, 2), {5, "stop", 0, nil}}},
		{"a start lists all again", func(p *pen) []record.Record { return append(p.calm(2), p.next(&record.Start{}), p.sample()) },
			[]rolled{sample(4, 2), {5, "start", 0, nil}, sample(6, 1, 1, 2, 3)}},
		{"so does a new day", func(p *pen) []record.Record {
			all := p.calm(2)
			p.wall = p.wall.Add(12 * time.Hour)
			return append(all, p.sample(state(2, 1001, 10000)), p.sample())
		}, []rolled{sample(4, 2), sample(5, 1, 1, 2, 3)}},
		{"and a clock that is set back a day", func(p *pen) []record.Record {
			all := p.calm(2)
			p.wall = p.wall.Add(-24 * time.Hour)
			return append(all, p.sample())
		}, []rolled{sample(4, 2), sample(5, 1, 1, 2, 3)}},
		{"a long interval is its own minute", func(p *pen) []record.Record {
			return []record.Record{p.next(&record.Sample{Interval: 300e9})}
		}, []rolled{sample(3, 300)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, p := begun(t)
			if diff := cmp.Diff(c.want, roll(r, c.add(p)...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestMergedEnvelope: a merged sample has the last one's envelope and numbers.
func TestMergedEnvelope(t *testing.T) {
	r, p := begun(t)
	records := append(p.calm(59), p.sample(state(1, 2000, 10000)))
	var got []record.Record
	for _, in := range records {
		got = append(got, r.Add(in)...)
	}
	want := *records[59].(*record.Sample)
	want.Interval = 60e9
	if diff := cmp.Diff([]record.Record{&want}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestThinning: an hour of flood leaves a burst and then one a second, for each namespace and cause.
func TestThinning(t *testing.T) {
	r, p := NewRollup(), newPen()
	kept := map[uint64]int{}
	add := func(ns uint64, boot time.Duration) {
		p.boot = boot
		for _, k := range r.Add(p.next(&record.Drop{NS: ns})) {
			kept[k.(*record.Drop).NS]++
		}
	}
	for s := range 3600 {
		for i := range 100 {
			add(1, time.Duration(s)*time.Second+time.Duration(i)*time.Millisecond)
		}
	}
	add(2, time.Hour)
	if want := map[uint64]int{1: 100 + 3599, 2: 1}; !cmp.Equal(want, kept) {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, kept))
	}
	for range 300 { // after some quiet
		add(1, 2*time.Hour)
	}
	if kept[1] != 3699+100 {
		t.Errorf("after an hour's quiet %d of 300 are kept, want 100", kept[1]-3699)
	}
	for ns := range uint64(5000) {
		add(10+ns, 3*time.Hour+time.Duration(ns)*time.Second)
	}
	if n := len(r.drops); n > 2*1024 {
		t.Errorf("%d namespaces are remembered", n)
	}
}
