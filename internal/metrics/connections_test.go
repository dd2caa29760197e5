package metrics

import (
	"testing"
	"time"
)

func TestWorst(t *testing.T) {
	at := func(seconds int64, requests int) *connection {
		return &connection{used: time.Unix(seconds, 0), requests: requests}
	}
	for _, c := range []struct {
		name        string
		connections []*connection // the first is the worst
	}{
		{"one", []*connection{at(1, 0)}},
		{"the oldest", []*connection{at(1, 0), at(2, 0), at(3, 0)}},
		{"not one that waits for an answer", []*connection{at(3, 0), at(1, 1), at(2, 2)}},
		{"all wait", []*connection{at(1, 2), at(2, 1), at(3, 1)}},
	} {
		l := newListener(nil)
		for _, x := range c.connections {
			l.connections[x] = struct{}{}
		}
		for range 20 { // the order of a map is random
			if got := l.worst(); got != c.connections[0] {
				t.Errorf("%s: it is %+v", c.name, got)
			}
		}
	}
}
