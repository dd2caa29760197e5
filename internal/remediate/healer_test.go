package remediate

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/control"
	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/record"
)

// machine stands for the kernel and the operator.
type machine struct {
	max, buckets uint64
	fail         error
	writes       []string
	state        control.State
	at           time.Duration
}

func (m *machine) set(name string, limit *uint64) func(uint64) (limits.Change, error) {
	return func(n uint64) (limits.Change, error) {
		m.writes = append(m.writes, fmt.Sprint(name, " ", n))
		if m.fail != nil {
			return limits.Change{}, m.fail
		}
		c := limits.Change{From: *limit, To: n, Took: 3 * time.Millisecond}
		*limit = n
		return c, nil
	}
}

func newMachine(mode Mode) (*machine, *Healer) {
	m := &machine{max: 65_536, buckets: 16_384, at: time.Hour}
	return m, NewHealer(Options{
		Mode: mode, Policy: DefaultPolicy(),
		SetMax: m.set("max", &m.max), SetBuckets: m.set("buckets", &m.buckets),
		Memory:  func() (Memory, error) { return roomy, nil },
		Control: func() (control.State, error) { return m.state, nil },
		Boot:    func() time.Duration { return m.at },
	})
}

// consider has a filling table considered now.
func (m *machine) consider(h *Healer, change func(*Situation)) []*record.Action {
	s := filling()
	s.Now, s.Max, s.Buckets = m.at, m.max, m.buckets
	s.Looks[0].At, s.Looks[1].At = m.at-2*time.Second, m.at
	if change != nil {
		change(&s)
	}
	told, _ := h.Consider(Place{NS: 7, Name: "gate"}, s, m.at-2*time.Millisecond)
	return told
}

func results(all []*record.Action) (words string) {
	for _, a := range all {
		words += fmt.Sprintf("%s %s %d->%d;", a.What, a.Result, a.From, a.To)
	}
	return words
}

func TestMaxFirst(t *testing.T) {
	m, h := newMachine(On)
	told := m.consider(h, nil)
	if got, want := results(told), "raise_max applied 65536->524288;raise_buckets applied 16384->262144;"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := strings.Join(m.writes, ", "), "max 524288, buckets 262144"; got != want {
		t.Errorf("wrote %s, want %s", got, want)
	}
	if a := told[0]; a.NS != 7 || a.Name != "gate" || a.Latency != 2e6 || a.Took != 3e6 {
		t.Errorf("%+v", a)
	}
	if h.OwesBuckets(m.max, m.buckets) || h.Raised() != 524_288 {
		t.Error("it owes buckets")
	}
}

func TestBucketsLater(t *testing.T) {
	m, h := newMachine(On)
	m.consider(h, func(s *Situation) { s.Trigger, s.Calm = ByRefusal, false })
	if got := strings.Join(m.writes, ", "); got != "max 524288" {
		t.Fatalf("wrote %s", got)
	}
	if !h.OwesBuckets(m.max, m.buckets) {
		t.Fatal("it owes no buckets")
	}
	later := func(calm bool) []*record.Action {
		s := filling()
		s.Now, s.Max, s.Buckets, s.Calm = m.at, m.max, m.buckets, calm
		return h.ConsiderBuckets(Place{}, s, m.at)
	}
	if told := later(false); len(told) != 0 || m.buckets != 16_384 {
		t.Errorf("while packets are refused: %s", results(told))
	}
	told := later(true)
	if got := results(told); got != "raise_buckets applied 16384->262144;" || told[0].Took != 3e6 {
		t.Errorf("%s %+v", got, told)
	}
	m.buckets = 16_384 // somebody else
	if h.OwesBuckets(m.max, m.buckets) {
		t.Error("twice in an incident")
	}
	if h.Calm(); h.OwesBuckets(m.max, m.buckets) {
		t.Error("twice at once")
	}
	m.at += tellAgain
	if h.Calm(); !h.OwesBuckets(m.max, m.buckets) {
		t.Error("never again")
	}
}

// TestBucketsThatCannotBeSet are tried now and then, and do not keep the limit from being raised.
func TestBucketsThatCannotBeSet(t *testing.T) {
	m, h := newMachine(On)
	m.consider(h, func(s *Situation) { s.Trigger, s.Calm = ByRefusal, false })
	m.fail = errors.New("no memory")
	for range 100 { // seconds
		m.at += time.Second
		h.Calm()
		if h.OwesBuckets(m.max, m.buckets) {
			s := filling()
			s.Now, s.Max, s.Buckets = m.at, m.max, m.buckets
			h.ConsiderBuckets(Place{}, s, m.at)
		}
	}
	if got := strings.Join(m.writes, ", "); got != "max 524288, buckets 262144" {
		t.Errorf("wrote %s", got)
	}
	m.fail = nil
	told := m.consider(h, func(s *Situation) { s.Count, s.Trigger, s.Calm = s.Max, ByRefusal, false; s.Looks[1].Entries = s.Max })
	if got := results(told); !strings.HasPrefix(got, "raise_max applied 524288->") {
		t.Errorf("%s", got)
	}
}

// TestReload: a module that is loaded anew has its defaults, and nobody is quarrelled with.
func TestReload(t *testing.T) {
	m, h := newMachine(On)
	m.consider(h, nil)
	h.Restart()
	if m.max, m.buckets = 65_536, 16_384; h.Lowered(m.max) {
		t.Error("a reload lowers")
	}
	if told := h.Changed(record.Limit{Key: conntrack.KeyMax, From: 524_288, To: 65_536}, time.Now()); len(told) != 0 {
		t.Errorf("%s", results(told))
	}
	m.at += coolDown
	if got := results(m.consider(h, nil)); got != "raise_max applied 65536->524288;raise_buckets applied 16384->262144;" {
		t.Errorf("%s", got)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	m, h := newMachine(DryRun)
	for range 3 {
		m.at += 30 * time.Second
		told := m.consider(h, nil)
		if got, want := results(told), "raise_max dry_run 65536->524288;"; got != want && got != "" || m.at == time.Hour+30*time.Second && got == "" {
			t.Errorf("%q", got)
		}
	}
	if len(m.writes) > 0 {
		t.Errorf("wrote %v", m.writes)
	}
	m.at += tellAgain
	if len(m.consider(h, nil)) != 1 {
		t.Error("not told again after a while")
	}
}

func TestSameRefusalIsToldOnce(t *testing.T) {
	m, h := newMachine(On)
	flood := func(s *Situation) { s.Looks[1].Pending = 0.9 }
	told := 0
	for range 100 {
		m.at += time.Second
		told += len(m.consider(h, flood))
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	if got := results(m.consider(h, func(s *Situation) { s.Memory = Memory{}; s.Looks = nil })); got != "raise_max refused 65536->0;" {
		t.Errorf("another reason: %q", got)
	}
	h.Forget(Place{NS: 7, Name: "gate"})
	if len(m.consider(h, flood)) != 1 {
		t.Error("a namespace of the same name is told of before")
	}
}

func TestFailures(t *testing.T) {
	m, h := newMachine(On)
	m.fail = errors.New("read-only file system")
	var all []*record.Action
	for range 100 {
		m.at += coolDown
		all = append(all, m.consider(h, nil)...)
	}
	if len(m.writes) != mostFailures {
		t.Errorf("%d writes", len(m.writes))
	}
	if got := results(all); !strings.HasPrefix(got, strings.Repeat("raise_max failed 65536->524288;", mostFailures)+"raise_max refused") {
		t.Errorf("%s", got)
	}
	if !strings.Contains(all[0].Why, "read-only file system") {
		t.Errorf("%s", all[0].Why)
	}
	soon := time.Now().Add(time.Second)
	m.state.ResumedAt, m.fail = &soon, nil
	if got := results(m.consider(h, nil)); !strings.HasPrefix(got, "raise_max applied") {
		t.Errorf("after a resume: %s", got)
	}
}

func TestSteps(t *testing.T) {
	m, h := newMachine(On)
	for range 1000 {
		m.at += coolDown / 3
		m.consider(h, func(s *Situation) { s.Count = s.Max - 1; s.Looks[1].Entries = s.Count })
	}
	raises := 0
	for _, w := range m.writes {
		if strings.HasPrefix(w, "max") {
			raises++
		}
	}
	if raises == 0 || raises > mostRaises {
		t.Errorf("%d raises: %v", raises, m.writes)
	}
}

func TestYield(t *testing.T) {
	m, h := newMachine(On)
	m.consider(h, nil)
	by := record.Writer{PID: 99, Comm: "kube-proxy"}
	m.max = 131_072
	told := h.Changed(record.Limit{Key: conntrack.KeyMax, From: 524_288, To: 131_072, Writer: by}, time.Now())
	if len(told) != 1 || told[0].Result != record.ResultYielded || told[0].From != 524_288 || told[0].To != 131_072 {
		t.Fatalf("%+v", told)
	}
	for _, w := range []string{"kube-proxy", "pid 99", "maxPerCore", "ctwatch limit resume"} {
		if !strings.Contains(told[0].Why, w) {
			t.Errorf("no %q in: %s", w, told[0].Why)
		}
	}
	writes := len(m.writes)
	for range 50 { // it goes on each second
		m.at += coolDown
		h.Changed(record.Limit{Key: conntrack.KeyMax, From: 131_073, To: 131_072, Writer: by}, time.Now())
		for _, a := range m.consider(h, nil) {
			if a.Result != record.ResultYielded {
				t.Errorf("%+v", a)
			}
		}
	}
	if len(m.writes) != writes {
		t.Errorf("wrote %v", m.writes)
	}
	long := time.Now().Add(-time.Hour)
	m.state.ResumedAt = &long
	m.at += coolDown
	if m.consider(h, nil); len(m.writes) != writes {
		t.Error("a resume from before ends it")
	}
	soon := time.Now().Add(time.Second)
	m.state.ResumedAt = &soon
	if m.consider(h, nil); len(m.writes) != writes+1 {
		t.Errorf("not resumed: %v", m.writes)
	}
}

func TestWhoWritesIsNoMatter(t *testing.T) {
	_, h := newMachine(On)
	l := record.Limit{Key: conntrack.KeyMax, From: 65_536, To: 16_384}
	if told := h.Changed(l, time.Now()); len(told) != 0 {
		t.Errorf("nothing was raised, and %s", results(told))
	}
	m, h := newMachine(On)
	m.consider(h, nil)
	if told := h.Changed(record.Limit{Key: conntrack.KeyMax, From: 524_288, To: 600_000}, time.Now()); len(told) != 0 {
		t.Errorf("raised by another, and %s", results(told))
	}
	if h.Lowered(600_000) || !h.Lowered(65_536) {
		t.Error("lowered is not told from raised")
	}
}

func TestOperator(t *testing.T) {
	for name, c := range map[string]struct {
		set  control.Set
		want string
	}{
		"undo":                  {control.Set{What: control.WhatUndo, Max: 65_536}, "undo applied 524288->65536;"},
		"set":                   {control.Set{What: control.WhatSet, Max: 65_536}, ""},
		"another number":        {control.Set{What: control.WhatSet, Max: 65_537}, "raise_max yielded 524288->65536;"},
		"long ago":              {control.Set{What: control.WhatSet, Max: 65_536, At: time.Now().Add(-time.Hour)}, "raise_max yielded 524288->65536;"},
		"in the future, or not": {control.Set{What: control.WhatSet, Max: 65_536, At: time.Now().Add(time.Hour)}, "raise_max yielded 524288->65536;"},
	} {
		t.Run(name, func(t *testing.T) {
			m, h := newMachine(On)
			m.consider(h, nil)
			if c.set.At.IsZero() {
				c.set.At = time.Now()
			}
			c.set.By = "eve\x1b[1m"
			m.state.Set = &c.set
			m.max = 65_536
			told := h.Changed(record.Limit{Key: conntrack.KeyMax, From: 524_288, To: 65_536}, time.Now())
			if got := results(told); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			for _, a := range told {
				if strings.Contains(a.Why, "\x1b") {
					t.Errorf("%q", a.Why)
				}
			}
			if c.want == "" {
				m.at += coolDown
				if got := results(m.consider(h, nil)); !strings.Contains(got, "raise_max applied") {
					t.Errorf("a new baseline ends remediation: %q", got)
				}
			}
		})
	}
}

func TestUnreadableControl(t *testing.T) {
	m, h := newMachine(On)
	h.o.Control = func() (control.State, error) { return control.State{}, errors.New("not root's") }
	told := m.consider(h, nil)
	if got := results(told); got != "raise_max refused 65536->0;" || !strings.Contains(told[0].Why, "not root's") {
		t.Errorf("%s %+v", got, told)
	}
}
