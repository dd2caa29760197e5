package conntrack

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// drops is a look at a kernel that has the drop counter alone.
func drops(byCPU ...uint32) *Snapshot {
	s := &Snapshot{Known: 1 << CounterDrop}
	for _, v := range byCPU {
		s.CPU = append(s.CPU, Counters{CounterDrop: v})
	}
	return s
}

func TestMeter(t *testing.T) {
	evicted := func(s *Snapshot, v uint32) *Snapshot {
		s.Known.add(CounterEarlyDrop)
		s.CPU[0][CounterEarlyDrop] = v
		return s
	}
	tests := map[string]struct {
		baseline *Snapshot
		looks    []*Snapshot
		restart  int // before which look the meter is told so
		drop     uint64
		early    uint64
	}{
		"from birth":                      {looks: []*Snapshot{drops(3, 4)}, drop: 7},
		"history is left out":             {baseline: drops(100, 200), looks: []*Snapshot{drops(101, 200), drops(101, 205)}, drop: 6},
		"wrap":                            {baseline: drops(0xfffffffe), looks: []*Snapshot{drops(1)}, drop: 3},
		"two wraps":                       {baseline: drops(0xffffffff), looks: []*Snapshot{drops(0x7ffffff0), drops(0xffffffe0), drops(0x10)}, drop: 1<<32 + 0x11},
		"a CPU appears":                   {baseline: drops(5), looks: []*Snapshot{drops(5, 2)}, drop: 2},
		"a CPU goes and returns":          {baseline: drops(5, 5), looks: []*Snapshot{drops(6), drops(7, 8)}, drop: 5},
		"counters unknown for a while":    {baseline: drops(5), looks: []*Snapshot{{Source: Sysctl}, drops(9)}, drop: 4},
		"counters unknown at first":       {baseline: &Snapshot{Source: Sysctl}, looks: []*Snapshot{drops(9), drops(11)}, drop: 2},
		"a counter more":                  {baseline: drops(5), looks: []*Snapshot{evicted(drops(6), 100), evicted(drops(6), 103)}, drop: 1, early: 3},
		"a counter more, from birth":      {looks: []*Snapshot{drops(6), evicted(drops(6), 100)}, drop: 6, early: 100},
		"module loaded again":             {baseline: drops(1000, 50), looks: []*Snapshot{drops(1001, 50), drops(0, 7)}, drop: 8},
		"module loaded again, as told":    {baseline: drops(10), looks: []*Snapshot{drops(11), drops(500)}, restart: 1, drop: 501},
		"loaded again after a poor start": {baseline: &Snapshot{Source: Sysctl}, looks: []*Snapshot{drops(3)}, restart: 0, drop: 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var m Meter
			if tt.baseline != nil {
				m.Baseline(tt.baseline)
			}
			var sum Totals
			for i, s := range tt.looks {
				if tt.restart > 0 && i == tt.restart {
					m.Restart()
				}
				for _, d := range m.Add(s) {
					for c, v := range d {
						sum[c] += uint64(v)
					}
				}
			}
			want := Totals{CounterDrop: tt.drop, CounterEarlyDrop: tt.early}
			if diff := cmp.Diff(want, m.Totals); diff != "" {
				t.Errorf("totals -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(want, sum); diff != "" {
				t.Errorf("sum of what Add returned -want +got:\n%s", diff)
			}
		})
	}
}

// FuzzMeter moves true 64-bit counters by steps of less than 2^31, shows the meter their low 32 bits, now and then only
// some CPUs or no counters at all, and checks that it counts the truth.
func FuzzMeter(f *testing.F) {
	f.Add(uint32(0xfffffff0), []byte{0x10, 0xff, 0x41, 0x03, 0x80, 0x7f, 0xc2, 0xff, 0x00})
	f.Add(uint32(0), []byte{0x01, 0x02, 0x03, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, history uint32, steps []byte) {
		const cpus = 3
		var truth [cpus]uint64
		look := func(n int) *Snapshot {
			s := drops()
			for i := range n {
				s.CPU = append(s.CPU, Counters{CounterDrop: history + uint32(truth[i])})
			}
			return s
		}
		var m Meter
		m.Baseline(look(cpus))
		for i, b := range steps {
			truth[i%cpus] += uint64(b) << (i % 23) // each CPU less than 2^31 until the next look
			switch b % 5 {
			case 0:
				m.Add(&Snapshot{Source: Sysctl})
			case 1:
				m.Add(look(i % cpus))
			default:
				m.Add(look(cpus))
			}
			if i%16 == 0 { // no CPU stays out of sight for more than 2^31 packets
				m.Add(look(cpus))
			}
		}
		m.Add(look(cpus))
		if want := truth[0] + truth[1] + truth[2]; m.Totals[CounterDrop] != want {
			t.Errorf("counted %d, want %d", m.Totals[CounterDrop], want)
		}
	})
}
