package hook

import "time"

// bucket says when the next call may begin: size of them at once, and one more for each interval that has passed.
type bucket struct {
	size  int
	every time.Duration
	full  time.Time // when it will be full again
}

// take takes a call out, and returns how long to wait until it may begin.
func (b *bucket) take(now time.Time) time.Duration {
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(b.every)
	return max(0, b.full.Sub(now)-time.Duration(b.size)*b.every)
}
