package watch

import (
	"testing"
	"time"
)

func TestGapBetween(t *testing.T) {
	from := moment{time.Now(), time.Hour}
	for _, c := range []struct {
		name       string
		wall, boot time.Duration
		want       string
	}{
		{"a tick", time.Second, time.Second, ""},
		{"a late tick", 10 * time.Second, 10 * time.Second, ""},
		{"asleep for a minute, the wall clock set after it", time.Second, time.Minute, "suspend"},
		{"stopped for a minute, the machine awake", time.Minute, time.Minute, "suspend"},
		{"clocks that drift", time.Second, time.Second + tolerance/2, ""},
	} {
		to := moment{from.wall.Add(c.wall), from.boot + c.boot}
		if got := gapBetween(from, to); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	// Without the monotonic clock, a wall clock that was set is what differs.
	set := moment{from.wall.Round(0).Add(-time.Hour), from.boot + time.Second}
	if got := gapBetween(moment{from.wall.Round(0), from.boot}, set); got == "" {
		t.Error("a wall clock set back by an hour is no gap")
	}
}

func TestBudget(t *testing.T) {
	b := budget{perSecond: 2}
	at := time.Now()
	for i, want := range []bool{true, true, false, false} {
		if got := b.take(at.Add(time.Duration(i) * 100 * time.Millisecond)); got != want {
			t.Errorf("drop %d: %v", i, got)
		}
	}
	if !b.take(at.Add(time.Second)) {
		t.Error("the next second has a budget of its own")
	}
	var none budget
	if none.take(at) {
		t.Error("no budget, but a drop is told of")
	}
}
