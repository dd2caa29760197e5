package incident

import (
	"fmt"

	"github.com/ctwatch/ctwatch/internal/record"
)

// MostlyPending is from which share on pending entries are no matter of a service that works.
const MostlyPending = 0.5

// Pending is how much of a table is of connections that were never completed: nobody answered, or nobody answered the
// answer.
type Pending struct {
	Share    float64 // of the entries
	Text     string  // the same in words, with what it rests on
	halfOpen bool    // many of them are TCP that was answered, and the answer was not: then unassured tells them, not unreplied
}

// PendingIn is what a look into a table says of that.
func PendingIn(f *record.Fillers) Pending {
	halfOpen := 0.0
	for _, s := range f.State {
		if s.Key == "tcp/SYN_RECV" {
			halfOpen = s.Share
		}
	}
	p := Pending{Share: 1 - f.Replied + halfOpen, halfOpen: halfOpen > 1-f.Replied}
	p.Text = fmt.Sprintf("%.1f %% of the entries never saw an answer", 100*(1-f.Replied))
	if halfOpen > 0 {
		p.Text += fmt.Sprintf(", and %.1f %% never answered it (tcp/SYN_RECV)", 100*halfOpen)
	}
	if !f.Exact {
		p.Text += fmt.Sprintf(" (± %.1f, of %d looked at)", 100*f.Error, f.Walked)
	}
	return p
}

// Of is the part of all pending entries that a row of a ranking has.
func (p Pending) Of(s record.Share) float64 {
	if p.halfOpen {
		return min(1, s.Share*(1-s.Assured)/p.Share)
	}
	return min(1, s.Share*(1-s.Replied)/p.Share)
}
