package census

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestHalfWidth(t *testing.T) {
	tests := map[string]struct {
		sample sample
		share  float64
		want   float64
	}{
		"all of them":      {sample{100, 100}, 0.3, 0},
		"an empty table":   {sample{0, 0}, 0, 0},
		"none of them":     {sample{0, 100}, 0, 1},
		"half":             {sample{100, math.MaxUint64}, 0.5, 0.0962}, // Wilson: 0.4038 to 0.5962
		"a tenth":          {sample{100, math.MaxUint64}, 0.1, 0.0744}, // 0.0552 to 0.1744
		"nothing was seen": {sample{100, math.MaxUint64}, 0, 0.0370},   // 0 to 0.0370
		"all was":          {sample{100, math.MaxUint64}, 1, 0.0370},   // 0.9630 to 1
		"a finite table":   {sample{5000, 10_000}, 0.5, 0.00979},       // by sqrt(1/2) less than of an endless one
		"the usual sample": {sample{Sample, 1_000_000}, 0.5, 0.00975},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.sample.halfWidth(tt.share); math.Abs(got-tt.want) > 0.00005 {
				t.Errorf("%.5f, want %.5f", got, tt.want)
			}
		})
	}
}

// TestWidest: there is no share of a larger half width, and one that has it.
func TestWidest(t *testing.T) {
	for _, s := range []sample{{10, 1000}, {500, 3000}, {10_000, 1_000_000}, {7, 7}, {999, 1000}} {
		var found float64
		for i := range 10_001 {
			found = max(found, s.halfWidth(float64(i)/10_000))
		}
		if got := s.widest(); found > got+1e-12 || found < got*0.9999 {
			t.Errorf("%+v: %v, want %v", s, got, found)
		}
	}
}

// TestCoverage draws samples without replacement: the interval must hold the true share in 95 of 100 cases.
func TestCoverage(t *testing.T) {
	const of, draws = 1000, 4000
	r := rand.New(rand.NewPCG(5, 6))
	for _, walked := range []uint64{20, 100, 600} {
		for _, marked := range []uint64{0, 1, 10, 100, 500, 900, 1000} {
			s, held := sample{walked, of}, 0
			truth := float64(marked) / of
			for range draws {
				var n uint64
				for i := range walked { // of those that are left, so many are marked
					if r.Uint64N(of-i) < marked-n {
						n++
					}
				}
				share := s.share(n)
				if math.Abs(share-truth) <= s.halfWidth(share) {
					held++
				}
			}
			if float64(held) < 0.94*draws {
				t.Errorf("%d of %d walked, %d marked: held in %.1f %%", walked, of, marked, 100*float64(held)/draws)
			}
		}
	}
}
