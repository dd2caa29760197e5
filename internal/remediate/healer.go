package remediate

import (
	"fmt"
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/control"
	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/record"
)

// Options says how to heal. What is nil is the machine's own.
type Options struct {
	Mode   Mode
	Policy Policy
	Root   string // where proc, sys, run are; "" is the machine's own

	SetMax     func(n uint64) (limits.Change, error)
	SetBuckets func(n uint64) (limits.Change, error)
	Memory     func() (Memory, error)
	Control    func() (control.State, error)
	Boot       func() time.Duration // CLOCK_BOOTTIME
}

// Healer raises limits, or says why not, and remembers what it did. It is for one goroutine.
type Healer struct {
	o       Options
	raised  uint64 // what max was raised to; 0 if it was not, or if somebody else has set it since
	buckets uint64 // the same of buckets
	raises  []time.Duration
	tried   time.Duration // the last write of max, whatever became of it
	failed  int           // writes of max running that failed
	lately  time.Time     // when the last of them did
	resized time.Duration // the last write of buckets, whatever became of it; 0 is none that counts
	yield   *yield
	told    map[Place]map[string]time.Duration // what was told of a place last, and when
}

// Place is the namespace whose table is decided about.
type Place struct {
	NS, Cookie uint64
	Name       string // untrusted text
}

const (
	// tellAgain is after how long the same decision is told again.
	tellAgain = 10 * time.Minute
	// mostFailures is how many writes may fail running until none is tried any more.
	mostFailures = 3
)

// NewHealer returns one that has done nothing yet. The mode is not Off.
func NewHealer(o Options) *Healer {
	if o.SetMax == nil {
		o.SetMax = func(n uint64) (limits.Change, error) { return limits.SetMax(o.Root, n) }
	}
	if o.SetBuckets == nil {
		o.SetBuckets = func(n uint64) (limits.Change, error) { return limits.SetBuckets(o.Root, n) }
	}
	if o.Memory == nil {
		o.Memory = func() (Memory, error) { return ReadMemory(o.Root) }
	}
	if o.Control == nil {
		o.Control = func() (control.State, error) { return control.Read(o.Root) }
	}
	return &Healer{o: o, told: map[Place]map[string]time.Duration{}}
}

// Policy is the one that the healer decides by.
func (h *Healer) Policy() Policy { return h.o.Policy }

// Consider decides whether the limit is to be raised for a table, and raises it. since is when what gave rise to it
// happened, by CLOCK_BOOTTIME. It returns what is to be recorded; a decision that was told lately is not told again.
func (h *Healer) Consider(p Place, s Situation, since time.Duration) (told []*record.Action, d Decision) {
	h.prepare(&s)
	d = h.o.Policy.Decide(s)
	a := h.action(p, record.ActionRaiseMax, s.Max, d.Max, d)
	switch {
	case d.Refused == CoolingDown, d.Refused == Unclear, d.Refused == Enough:
		return nil, d // it will be asked again
	case d.Refused != "":
		return h.tell(p, a, string(d.Refused), since), d
	case h.o.Mode != On:
		a.Result = record.ResultDryRun
		return h.tell(p, a, fmt.Sprintf("%s %d", DryRun, d.Max), since), d
	}
	h.apply(a, h.o.SetMax)
	h.tried = h.o.Boot()
	if h.failed++; a.Result == record.ResultApplied {
		h.failed = 0
	}
	h.lately = time.Now()
	told = h.tell(p, a, "", since)
	if a.Result != record.ResultApplied {
		return told, d
	}
	h.raised = a.To
	h.raises = append(h.raises, h.tried)
	if d.Buckets > 0 {
		b := h.action(p, record.ActionRaiseBuckets, s.Buckets, d.Buckets, d)
		b.Why = fmt.Sprintf("with nf_conntrack_max of %s, while it is calm", Thousands(d.Max))
		told = append(told, h.resize(p, b, since)...)
	}
	return told, d
}

// ConsiderBuckets decides whether there are to be more buckets, and sets them; see [Healer.Consider].
func (h *Healer) ConsiderBuckets(p Place, s Situation, since time.Duration) []*record.Action {
	h.prepare(&s)
	d := h.o.Policy.DecideBuckets(s)
	a := h.action(p, record.ActionRaiseBuckets, s.Buckets, d.Buckets, d)
	switch {
	case d.Refused != "" && s.Cause != conntrack.ChainTooLong:
		return nil // nobody waits for them
	case d.Refused != "":
		return h.tell(p, a, "buckets "+string(d.Refused), since)
	case h.o.Mode != On:
		a.Result = record.ResultDryRun
		return h.tell(p, a, fmt.Sprintf("%s buckets %d", DryRun, d.Buckets), since)
	}
	return h.resize(p, a, since)
}

// OwesBuckets reports whether max was raised so far that more buckets belong to it, and nobody saw to that yet.
func (h *Healer) OwesBuckets(limit, now uint64) bool {
	return h.raised > 0 && h.raised == limit && h.resized == 0 && buckets(limit, now) > now
}

// Calm says that no incident is open: some time after they were changed, buckets may be changed again.
func (h *Healer) Calm() {
	if h.o.Boot()-h.resized >= tellAgain {
		h.resized = 0
	}
}

// Restart says that conntrack was loaded anew: it has limits of its own, and nobody took anything back.
func (h *Healer) Restart() { h.raised, h.buckets, h.resized = 0, 0, 0 }

// Forget lets go of what was told of a namespace that is gone.
func (h *Healer) Forget(p Place) { delete(h.told, p) }

func (h *Healer) resize(p Place, a *record.Action, since time.Duration) []*record.Action {
	h.apply(a, h.o.SetBuckets)
	h.resized = h.o.Boot() // also if it failed: once is enough
	if a.Result == record.ResultApplied {
		h.buckets = a.To
	}
	return h.tell(p, a, "", since)
}

// prepare adds to a situation what the healer knows.
func (h *Healer) prepare(s *Situation) {
	h.raises = slices.DeleteFunc(h.raises, func(at time.Duration) bool { return s.Now-at > raisesWindow })
	s.Hands = Hands{Raises: len(h.raises), LastTry: h.tried, Resized: h.resized != 0, Paused: h.listen()}
	if h.failed >= mostFailures {
		s.Hands.Failed = h.failed
	}
	if h.yield != nil {
		s.Hands.Yielded = h.yield.String()
	}
	var err error
	if s.Memory, err = h.o.Memory(); err != nil {
		s.Unknown = err.Error()
	}
}

// listen hears what operators said, and returns by whom remediation is paused.
func (h *Healer) listen() (paused string) {
	state, err := h.o.Control()
	if err != nil {
		return fmt.Sprintf("for what an operator said cannot be read (%v)", err)
	}
	if h.yield != nil && state.ResumedAt != nil && state.ResumedAt.After(h.yield.at) {
		h.yield, h.raised, h.buckets = nil, 0, 0
	}
	if h.failed > 0 && state.ResumedAt != nil && state.ResumedAt.After(h.lately) {
		h.failed = 0
	}
	if state.Paused == nil {
		return ""
	}
	return fmt.Sprintf("since %s, by %q", state.Paused.At.UTC().Format(time.RFC3339), state.Paused.By)
}

// apply sets a limit to a.To.
func (h *Healer) apply(a *record.Action, set func(uint64) (limits.Change, error)) {
	c, err := set(a.To)
	a.Took = c.Took.Nanoseconds()
	if err != nil {
		a.Result = record.ResultFailed
		a.Why += fmt.Sprintf("; but: %v", err)
		return
	}
	a.Result, a.From, a.To = record.ResultApplied, c.From, c.To
}

func (h *Healer) action(p Place, what string, from, to uint64, d Decision) *record.Action {
	a := &record.Action{What: what, From: from, To: to, Why: d.Why, NS: p.NS, Cookie: p.Cookie, Name: p.Name}
	switch d.Refused {
	case "":
	case Yielded:
		a.Result = record.ResultYielded
	default:
		a.Result = record.ResultRefused
	}
	return a
}

// tell returns the action if nothing like it was told lately. What has no likeness, "", is always told.
func (h *Healer) tell(p Place, a *record.Action, like string, since time.Duration) []*record.Action {
	now := h.o.Boot()
	a.Latency = max(0, now-since).Nanoseconds()
	if like == "" {
		delete(h.told, p) // what comes after is another story
		return []*record.Action{a}
	}
	if last, again := h.told[p][like]; again && now-last < tellAgain {
		return nil
	}
	if h.told[p] == nil {
		h.told[p] = map[string]time.Duration{}
	}
	h.told[p][like] = now
	return []*record.Action{a}
}
