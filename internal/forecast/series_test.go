package forecast

import (
	"math"
	"testing"
	"time"
)

// looks adds count(i) of max entries every step, from i = 0 to n-1.
func looks(f *Series, step time.Duration, n int, max uint64, count func(i int) uint64) {
	for i := range n {
		f.Add(time.Minute+time.Duration(i)*step, count(i), max)
	}
}

func TestSeries(t *testing.T) {
	ramp := func(i int) uint64 { return uint64(1000 + 100*i) }
	for _, c := range []struct {
		name  string
		step  time.Duration
		n     int
		max   uint64
		count func(i int) uint64
		want  float64 // seconds
	}{
		{"nothing known", time.Second, 0, 0, nil, math.Inf(1)},
		{"one look", time.Second, 1, 5000, ramp, math.Inf(1)},
		{"two looks may be a step", time.Second, 2, 5000, ramp, math.Inf(1)},
		{"three tell", time.Second, 3, 5000, ramp, 38},
		{"a steady ramp", time.Second, 20, 5000, ramp, 21},
		{"looked at ten times a second", time.Second / 10, 200, 30000, ramp, 9.1},
		{"looked at once a minute", time.Minute, 10, 5000, ramp, 31 * 60},
		{"no limit", time.Second, 20, 0, ramp, math.Inf(1)},
		{"full", time.Second, 20, 2900, ramp, 0},
		{"over the limit, which was lowered", time.Second, 20, 100, ramp, 0},
		{"calm", time.Second, 20, 5000, func(int) uint64 { return 1000 }, math.Inf(1)},
		{"falling", time.Second, 20, 5000, func(i int) uint64 { return uint64(4000 - 100*i) }, math.Inf(1)},
		{"up and down", time.Second, 20, 5000, func(i int) uint64 { return uint64(1000 + 500*(i%2)) }, math.Inf(1)},
		{"one step, now", time.Second, 12, 5000, func(i int) uint64 { return uint64(1000 + 3000*(i/11)) }, math.Inf(1)},
		{"one step, a moment ago", time.Second, 12, 5000, func(i int) uint64 { return uint64(1000 + 3000*(i/9)) }, math.Inf(1)},
		{"a flood is seen at its second look", time.Second, 12, 10000, func(i int) uint64 { return uint64(1000 + 1000*max(0, i-9)) }, 7},
		{"a flood that is over", time.Second, 12, 10000, func(i int) uint64 { return uint64(1000 + 500*min(i, 9)) }, math.Inf(1)},
		{"a ramp with ups and downs", time.Second, 12, 5000, func(i int) uint64 { return ramp(i) + uint64(150*(i%2)) }, 27.5},
		{"one look is out of line", time.Second, 12, 10000, func(i int) uint64 {
			if i == 6 {
				return 0
			}
			return ramp(i)
		}, 79},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f Series
			looks(&f, c.step, c.n, c.max, c.count)
			if got := f.SecondsToFull(); got != c.want && !(math.Abs(got-c.want) <= min(c.want, 1e6)/100) {
				t.Errorf("full in %v s, want %v", got, c.want)
			}
		})
	}
}

func TestKeepsFewLooks(t *testing.T) {
	var f Series
	looks(&f, time.Millisecond, 100_000, 1<<40, func(i int) uint64 { return uint64(i) })
	if n := len(f.points); n < 10 || n > 30 {
		t.Errorf("%d looks are kept", n)
	}
	if got := f.Growth(); math.Abs(got-1000) > 1 {
		t.Errorf("growth of %v a second, want 1000", got)
	}
}

func TestIgnoresTimeThatStands(t *testing.T) {
	var f Series
	for i := range 5 {
		f.Add(time.Second, uint64(1000*i), 5000)
	}
	if got := f.SecondsToFull(); !math.IsInf(got, 1) {
		t.Errorf("full in %v s", got)
	}
}
