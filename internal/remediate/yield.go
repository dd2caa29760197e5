package remediate

import (
	"fmt"
	"os"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/control"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/rival"
)

// yield is that somebody took back what we did: we do nothing more until an operator says so.
type yield struct {
	at      time.Time
	limit   record.Limit
	against uint64 // what we had set
}

// operatorAge is how long before a limit changed an operator may have said that he would change it.
const operatorAge = time.Minute

// String says to whom and what ends it.
func (y *yield) String() string {
	text := fmt.Sprintf("ctwatch had set %s to %s, and %s made it %s at %s: ctwatch yields",
		y.limit.Key, Thousands(y.against), rival.Who(y.limit.Writer), Thousands(y.limit.To), y.at.UTC().Format(time.RFC3339))
	if y.limit.PID != 0 {
		text += "; " + rival.Of(y.limit.Writer).Setting
	}
	return text + "; `ctwatch limit resume` ends the yielding"
}

// Lowered reports whether a limit is below what it was raised to.
func (h *Healer) Lowered(limit uint64) bool {
	return h.yield == nil && h.raised > 0 && limit < h.raised
}

// Raised is what max was raised to; 0 if it was not, or if somebody else has set it since.
func (h *Healer) Raised() uint64 { return h.raised }

// Changed takes notice of a limit that is another now. Of what an operator did by ctwatch's own commands it returns an
// action; of a limit that somebody else lowered after it was raised here, that it yields.
func (h *Healer) Changed(l record.Limit, at time.Time) []*record.Action {
	if set := h.operator(l, at); set != nil {
		h.raised, h.buckets = 0, 0
		a := &record.Action{From: l.From, To: l.To, Result: record.ResultApplied, Why: fmt.Sprintf("%q ran `ctwatch limit %s`", set.By, set.What)}
		switch {
		case set.What == control.WhatUndo:
			a.What = record.ActionUndo
		case l.To <= l.From:
			return nil // no word for it: the limit's own record tells
		case l.Key == conntrack.KeyMax:
			a.What = record.ActionRaiseMax
		default:
			a.What = record.ActionRaiseBuckets
		}
		return []*record.Action{a}
	}
	ours, what := &h.raised, record.ActionRaiseMax
	if l.Key == conntrack.KeyBuckets {
		ours, what = &h.buckets, record.ActionRaiseBuckets
	}
	if *ours == 0 || l.To >= *ours || h.yield != nil {
		return nil
	}
	h.yield = &yield{at: at, limit: l, against: *ours}
	*ours = 0
	return []*record.Action{{What: what, From: l.From, To: l.To, Result: record.ResultYielded, Why: h.yield.String()}}
}

// operator is the operator's command that changed a limit; nil if none did.
func (h *Healer) operator(l record.Limit, at time.Time) *control.Set {
	state, err := h.o.Control()
	if err != nil || state.Set == nil {
		return nil
	}
	set, to, rounded := state.Set, state.Set.Max, uint64(0)
	if l.Key == conntrack.KeyBuckets {
		to, rounded = set.Buckets, uint64(os.Getpagesize())/8-1 // the kernel rounds buckets up to whole pages
	}
	if l.To < to || l.To-to > rounded || set.At.After(at) || at.Sub(set.At) > operatorAge {
		return nil
	}
	return set
}
