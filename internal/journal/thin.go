package journal

import "github.com/ctwatch/ctwatch/internal/record"

// Of the drop records of a namespace and cause, the first burst are journalled, and then one a second. A second without
// any gives one back to the burst. An hour of flood is then some 1 MB.
const (
	burst  = 100
	second = int64(1e9) // in ns
)

// thinning chooses the drop records that are journalled.
type thinning map[stream]*allowance

// stream is the drop records of one namespace and cause.
type stream struct {
	place
	cause uint8
}

type allowance struct {
	left int
	at   int64 // CLOCK_BOOTTIME, ns: until when it is counted
}

// keep reports whether a record is one to journal.
func (t thinning) keep(d *record.Drop) bool {
	k := stream{place{d.Cookie, d.NS}, uint8(d.Cause)}
	a := t[k]
	if a == nil {
		t.tidy(d.Boottime)
		a = &allowance{burst, d.Boottime}
		t[k] = a
	}
	if n := (d.Boottime - a.at) / second; n > 0 {
		a.left = int(min(burst, int64(a.left)+n))
		a.at += n * second
	}
	if a.left == 0 {
		return false
	}
	a.left--
	return true
}

// tidy forgets those that would have their whole burst again: namespaces come and go.
func (t thinning) tidy(now int64) {
	if len(t)%1024 != 1023 {
		return
	}
	for k, a := range t {
		if now-a.at >= burst*second {
			delete(t, k)
		}
	}
}
