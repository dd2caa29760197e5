package remediate

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

var roomy = Memory{Total: 24 * gib, Available: 16 * gib, PerEntry: 384, Measured: true}

func TestPlan(t *testing.T) {
	for name, c := range map[string]struct {
		policy       Policy
		usage        Usage
		memory       Memory
		max, buckets uint64
		capped       bool
		why          []string
	}{
		"the classic default": {
			usage: Usage{Count: 60_000, Peak: 61_000, Max: 65_536, Buckets: 16_384}, memory: roomy,
			max: 524_288, buckets: 262_144,
			why: []string{"peak 61,000 of 65,536", "524,288 brings that to 11.6 %", "524,288 entries cost at most 194 MiB of 24 GiB (384 bytes each)", "262,144 buckets for them, not 16,384"},
		},
		"a peak that needs more than the seed": {
			usage: Usage{Count: 200_000, Max: 262_144, Buckets: 262_144}, memory: roomy,
			max: 1 << 20, buckets: 262_144, why: []string{"1,048,576 brings that to 19.1 %"},
		},
		"enough as it is": {
			usage: Usage{Count: 100, Max: 1 << 20, Buckets: 1 << 18}, memory: roomy,
			max: 1 << 20, buckets: 1 << 18, why: []string{"1,048,576 is enough: the peak is 0.0 % of it"},
		},
		"a small machine": {
			usage: Usage{Count: 30_000, Max: 32_768, Buckets: 16_384}, memory: Memory{Total: 256 * mib, Available: 100 * mib, PerEntry: 512},
			max: 71_680, buckets: 65_536, capped: true,
			why: []string{"524,288 would bring that to 20.0 % or less, but memory allows 71,943", "new entries may take 20.5 MiB (8.0 % of all memory)", "512 bytes each, reckoned high"},
		},
		"little available": {
			usage: Usage{Count: 60_000, Max: 65_536, Buckets: 65_536}, memory: Memory{Total: 24 * gib, Available: 8 * mib, PerEntry: 384},
			max: 65_536, buckets: 65_536, capped: true, why: []string{"a quarter of what is available"},
		},
		"many busy namespaces": {
			usage: Usage{Count: 60_000, Max: 65_536, Buckets: 65_536, Busy: 100}, memory: roomy,
			max: 113_664, buckets: 65_536, capped: true, why: []string{"in each of 100 busy namespaces"},
		},
		"what the operator allows": {
			policy: Policy{RaiseAt: 0.5, MemoryFraction: 0.08, MaxLimit: 300_000},
			usage:  Usage{Count: 60_000, Max: 65_536, Buckets: 65_536}, memory: roomy,
			max: 300_000, buckets: 262_144, capped: true, why: []string{"300,000 is the most that the operator allows (--max-limit)"},
		},
		"no limit at all": {
			usage: Usage{Count: 60_000, Buckets: 65_536}, memory: roomy, buckets: 65_536, why: []string{"there is no limit"},
		},
		"buckets unknown": {usage: Usage{Count: 1000, Max: 4096}, memory: roomy, max: 524_288},
	} {
		t.Run(name, func(t *testing.T) {
			p := c.policy
			if p == (Policy{}) {
				p = DefaultPolicy()
			}
			got := p.Plan(c.usage, c.memory)
			if got.Max != c.max || got.Buckets != c.buckets || got.Capped != c.capped {
				t.Errorf("max %d, buckets %d, capped %v; want %d, %d, %v\n%s", got.Max, got.Buckets, got.Capped, c.max, c.buckets, c.capped, got.Why)
			}
			for _, w := range c.why {
				if !strings.Contains(got.Why, w) {
					t.Errorf("no %q in: %s", w, got.Why)
				}
			}
		})
	}
}

// TestPlanKeepsItsPromises holds for whatever a machine is like: never lower, never more than memory and the kernel allow,
// never chains that are too long.
func TestPlanKeepsItsPromises(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	some := func(bits int) uint64 { return r.Uint64() >> (64 - 1 - r.IntN(bits)) }
	for range 100_000 {
		p := Policy{RaiseAt: 0.5, MemoryFraction: 0.01 + 0.49*r.Float64()}
		if r.IntN(3) == 0 {
			p.MaxLimit = some(31)
		}
		total := some(44)
		m := Memory{Total: total, Available: total / (1 + some(8)), PerEntry: 128 + some(10)}
		u := Usage{Count: some(31), Max: some(31), Buckets: some(28), Busy: r.IntN(2000)}
		u.Peak = u.Count + some(30)
		got := p.Plan(u, m)
		if got.Max < u.Max || got.Max > math.MaxInt32 || got.Buckets < u.Buckets || got.Buckets > max(u.Buckets, math.MaxInt32/8) {
			t.Fatalf("%+v %+v %+v: %+v", p, u, m, got)
		}
		if got.Max <= u.Max {
			continue
		}
		if p.MaxLimit > 0 && got.Max > p.MaxLimit {
			t.Fatalf("over the operator's: %+v %+v %+v: %+v", p, u, m, got)
		}
		if got.Max > u.Count {
			cost := float64(got.Max-u.Count) * float64(m.PerEntry) * float64(max(u.Busy, 1))
			if cost > min(p.MemoryFraction*float64(m.Total), float64(m.Available)/4)*1.000001 {
				t.Fatalf("%v bytes: %+v %+v %+v: %+v", cost, p, u, m, got)
			}
		}
		if u.Buckets > 0 && got.Max > mostPerBucket*got.Buckets && got.Buckets < math.MaxInt32/8 {
			t.Fatalf("long chains: %+v: %+v", u, got)
		}
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 524288: "524,288", math.MaxUint64: "18,446,744,073,709,551,615"} {
		if got := Thousands(n); got != want {
			t.Errorf("Thousands(%d) = %s", n, got)
		}
	}
	for n, want := range map[uint64]string{0: "0 bytes", 512: "512 bytes", 1536: "1.5 KiB", 192 * mib: "192 MiB", 23*gib + gib/2: "23.5 GiB", 24 * gib: "24 GiB", math.MaxUint64: "16 EiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestBucketsFor(t *testing.T) {
	for limit, want := range map[uint64]uint64{1: 1024, 2048: 1024, 2049: 2048, 65_536: 32_768, 524_288: 262_144, 524_289: 524_288, math.MaxInt32: math.MaxInt32 / 8} {
		if got := BucketsFor(limit); got != want {
			t.Errorf("%d buckets for %d entries, want %d", got, limit, want)
		}
	}
}
