package remediate

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const limit = 16_384
	for name, c := range map[string]struct {
		count  func(ms int) uint64
		every  int // ms
		until  int // ms
		growth [2]float64
		pause  [2]time.Duration
	}{
		"still":                         {func(int) uint64 { return 5000 }, 1000, 20_000, [2]float64{0, 0}, [2]time.Duration{time.Second, time.Second}},
		"shrinking":                     {func(ms int) uint64 { return uint64(15_000 - ms/10) }, 1000, 20_000, [2]float64{0, 0}, [2]time.Duration{time.Second, time.Second}},
		"the ramp":                      {func(ms int) uint64 { return uint64(4096 + ms*6144/1000) }, 100, 1000, [2]float64{6100, 6200}, [2]time.Duration{95 * time.Millisecond, 105 * time.Millisecond}},
		"the ramp, looked at each 5 ms": {func(ms int) uint64 { return uint64(4096 + ms*6144/1000) }, 5, 1000, [2]float64{6100, 6200}, [2]time.Duration{80 * time.Millisecond, 105 * time.Millisecond}},
		"a cliff":                       {func(ms int) uint64 { return uint64(500 * ms) }, 5, 30, [2]float64{450_000, 550_000}, [2]time.Duration{5 * time.Millisecond, 5 * time.Millisecond}},
		"slow":                          {func(ms int) uint64 { return uint64(100 + ms/100) }, 1000, 20_000, [2]float64{9, 11}, [2]time.Duration{time.Second, time.Second}},
		"full":                          {func(ms int) uint64 { return uint64(min(16_000+ms, limit)) }, 100, 2000, [2]float64{0, 1}, [2]time.Duration{5 * time.Millisecond, 5 * time.Millisecond}},
		"a burst, and still":            {func(ms int) uint64 { return uint64(min(ms*10, 8000)) }, 100, 5000, [2]float64{0, 0}, [2]time.Duration{75 * time.Millisecond, 90 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			var p Pace
			for ms := 0; ms <= c.until; ms += c.every {
				p.Add(time.Duration(ms)*time.Millisecond, c.count(ms))
			}
			if g := p.Growth(); g < c.growth[0] || g > c.growth[1] {
				t.Errorf("growth %v, want %v", g, c.growth)
			}
			if b := p.Before(); b > c.count(max(0, c.until-1000)) && b > c.count(c.until) || p.looks[0].at < time.Duration(c.until-1100)*time.Millisecond {
				t.Errorf("%d entries a second ago", b)
			}
			if d := p.Pause(limit); d < c.pause[0] || d > c.pause[1] {
				t.Errorf("pause %v, want %v", d, c.pause)
			}
			if len(p.looks) > 30 {
				t.Errorf("%d looks are kept", len(p.looks))
			}
		})
	}
}

// TestPaceOfAStranger: a table that is seen for the first time and is not near empty is looked at again soon.
func TestPaceOfAStranger(t *testing.T) {
	for count, want := range map[uint64]time.Duration{0: time.Second, 4000: time.Second, 4096: paceSpacing, 16_000: paceSpacing, 16_384: leastPause} {
		var p Pace
		p.Add(time.Second, count)
		if d := p.Pause(16_384); d != want {
			t.Errorf("%d entries: again after %v, want %v", count, d, want)
		}
	}
}

// TestPaceForgets: what was fast once is not for ever.
func TestPaceForgets(t *testing.T) {
	var p Pace
	p.Add(0, 0)
	p.Add(time.Second, 8000)
	for s := 2; s < 20; s++ {
		p.Add(time.Duration(s)*time.Second, 8000)
	}
	if d := p.Pause(16_384); d != time.Second {
		t.Errorf("pause %v", d)
	}
	p.Add(time.Second, 16_000) // not later
	if g := p.Growth(); g != 0 {
		t.Errorf("growth %v of time that stands", g)
	}
	if d := p.Pause(0); d != time.Second {
		t.Errorf("pause %v without a limit", d)
	}
}

// TestTenSamplesRemain: once it was seen that a table fills, ten looks come before it is full, unless it fills in 50 ms.
func TestTenSamplesRemain(t *testing.T) {
	const limit = 16_384
	for _, rate := range []int{1000, 6144, 50_000, 200_000} {
		var p Pace
		count := func(at time.Duration) uint64 { return limit/4 + uint64(float64(rate)*at.Seconds()) }
		p.Add(time.Millisecond, count(0))
		looks, at := 0, leastPause
		for ; count(at) < limit; at += p.Pause(limit) {
			p.Add(at+time.Millisecond, count(at))
			looks++
		}
		if looks < samples {
			t.Errorf("at %d a second: %d looks", rate, looks)
		}
	}
}
