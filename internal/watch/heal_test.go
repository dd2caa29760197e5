package watch_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/control"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/remediate"
	"github.com/ctwatch/ctwatch/internal/watch"
	"github.com/ctwatch/ctwatch/test/lab"
)

// small is the limit that the tests of raising begin with.
const small = 16_384

// healing starts a run that may raise limits, beside which nobody pauses or has paused anything.
func healing(t *testing.T, mode remediate.Mode, more func(*watch.Options)) *session {
	t.Helper()
	o := watch.Options{Samples: 100, Files: t.TempDir(), Interval: time.Second}
	o.Remediate = remediate.Options{Mode: mode, Policy: remediate.DefaultPolicy(), Control: func() (control.State, error) { return control.State{}, nil }}
	if more != nil {
		more(&o)
	}
	return watching(t, o)
}

// newPath is a path under a small limit.
func newPath(t *testing.T) (*lab.Lab, *lab.Path) {
	t.Helper()
	l := openLab(t)
	t.Cleanup(func() { must(t, l.Close()) })
	p, err := l.Path("router")
	must(t, err)
	must(t, l.SetLimit(lab.Max, small))
	buckets, err := l.Limit(lab.Buckets)
	must(t, err)
	must(t, l.SetLimit(lab.Buckets, buckets)) // so that it comes back, whoever changes it
	return l, p
}

// actions are those of a kind so far.
func (s *session) actions(what string) []*record.Action {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*record.Action
	for _, r := range s.records {
		if a, ok := r.(*record.Action); ok && a.What == what {
			out = append(out, a)
		}
	}
	return out
}

// awaitAction waits for an action with a result and returns it.
func (s *session) awaitAction(what, result string) (found *record.Action) {
	s.t.Helper()
	s.await(what+" "+result, func(r record.Record) bool {
		a, ok := r.(*record.Action)
		if ok && a.What == what && a.Result == result {
			found = a
		}
		return found != nil
	})
	return found
}

// TestRaisedInTime: on a ramp of connections that work, the limit is raised before anything is refused.
func TestRaisedInTime(t *testing.T) {
	l, p := newPath(t)
	s := healing(t, remediate.On, nil)
	ramped, err := p.Ramp(t.Context(), lab.Ramp{From: small / 4, To: 2 * small, Rate: small * 3 / 4 / 2})
	must(t, err)
	s.stop()
	raises := s.actions(record.ActionRaiseMax)
	if len(raises) != 1 || raises[0].Result != record.ResultApplied || raises[0].From != small {
		t.Fatalf("want one raise, got %+v", raises)
	}
	a := raises[0]
	if now, err := l.Limit(lab.Max); err != nil || now != a.To || now < 4*small {
		t.Errorf("the limit is %d, raised to %d, %v", now, a.To, err)
	}
	if ramped.Refused != 0 {
		t.Errorf("%d packets refused: %+v", ramped.Refused, a)
	}
	s.await("who raised the limit", func(r record.Record) bool {
		l, ok := r.(*record.Limit)
		return ok && l.To == a.To && l.PID == os.Getpid()
	})
	if a.Latency <= 0 || a.Latency > time.Second.Nanoseconds() {
		t.Errorf("latency %v", time.Duration(a.Latency))
	}
	for _, word := range []string{`"` + p.Router.Name + `": `, " of 16,384 entries", "growing", "full in", "so: raise to ", "never saw an answer", "bytes each"} {
		if !strings.Contains(a.Why, word) {
			t.Errorf("no %q in the derivation: %s", word, a.Why)
		}
	}
	if b := s.actions(record.ActionPersist); len(b) != 0 {
		t.Errorf("nobody asked to persist: %+v", b)
	}
}

// TestRaisedAtTheBrink: a table that is nearly full is one burst away, whether or not it grows.
func TestRaisedAtTheBrink(t *testing.T) {
	_, p := newPath(t)
	must(t, p.Router.Fill(t.Context(), small-8))
	s := healing(t, remediate.On, func(o *watch.Options) { o.Remediate.Policy.RaiseAt = 1 })
	s.awaitAction(record.ActionRaiseMax, record.ResultApplied)
	if stop := s.stop(); stop.Totals.Total() != 0 {
		t.Errorf("refused %v", stop.Totals)
	}
}

// TestRaisedAtFirstLoss: a table that is full before anybody could see it coming.
func TestRaisedAtFirstLoss(t *testing.T) {
	l, p := newPath(t)
	s := healing(t, remediate.On, func(o *watch.Options) { o.Remediate.Policy.RaiseAt = 1 })
	ramped, err := p.Ramp(t.Context(), lab.Ramp{From: small - 16, To: small + 2000, Rate: 1000})
	must(t, err)
	a := s.awaitAction(record.ActionRaiseMax, record.ResultApplied)
	s.stop()
	if a.From != small || a.NS == 0 || a.Name != p.Router.Name {
		t.Errorf("raised %+v", a)
	}
	// A tenth of the time is generous: a raise takes a millisecond or two.
	if now, err := l.Limit(lab.Max); err != nil || now != a.To || ramped.Refused*10 > ramped.Sent {
		t.Errorf("%d of %d refused; the limit is %d, %v", ramped.Refused, ramped.Sent, now, err)
	}
}

// TestFloodIsNotFed: a flood is no reason to raise, on whatever path it is noticed, and one refusal is told, not thousands.
func TestFloodIsNotFed(t *testing.T) {
	const afterRamp = "after a ramp of real ones"
	for name, r := range map[string]lab.Ramp{
		"many sources": {From: small / 8, To: 3 * small, Unanswered: true, Rate: 20_000},
		"one network":  {From: small / 8, To: 3 * small, Unanswered: true, OneNet: true, Rate: 20_000, Kinds: []lab.Kind{lab.UDP4}},
		// Half of the table is of connections that work, before the flood begins.
		"over real load": {From: small * 45 / 100, To: 3 * small, Unanswered: true, Rate: 5_000},
		// Few that came lately have to be told among many.
		"over much real load": {From: small * 85 / 100, To: small * 5 / 4, Unanswered: true, Rate: 1_000},
		// The table was growing by connections that work, until a moment ago.
		afterRamp: {From: small / 4, To: small * 5 / 4, Unanswered: true, Rate: 4_000},
	} {
		t.Run(name, func(t *testing.T) {
			l, p := newPath(t)
			must(t, p.Router.Fill(t.Context(), r.From)) // before anybody looks
			s := healing(t, remediate.On, nil)
			if name == afterRamp {
				_, err := p.Ramp(t.Context(), lab.Ramp{From: r.From, To: small * 40 / 100, Rate: 2_000})
				must(t, err)
				r.From = 0 // nothing is missing
			}
			_, err := p.Ramp(t.Context(), r)
			must(t, err)
			a := s.awaitAction(record.ActionRaiseMax, record.ResultRefused)
			s.stop()
			if !strings.Contains(a.Why, "flood") {
				t.Errorf("refused for another reason: %s", a.Why)
			}
			if now, err := l.Limit(lab.Max); err != nil || now != small {
				t.Errorf("the limit is %d, %v", now, err)
				for _, a := range s.actions(record.ActionRaiseMax) {
					t.Logf("%s %s: %s", a.Time, a.Result, a.Why)
				}
			}
			if all := s.actions(record.ActionRaiseMax); len(all) > 3 {
				t.Errorf("%d records of one decision", len(all))
			}
		})
	}
}

// TestDryRun tells what would be done, once, and does nothing.
func TestDryRun(t *testing.T) {
	l, p := newPath(t)
	s := healing(t, remediate.DryRun, nil)
	_, err := p.Ramp(t.Context(), lab.Ramp{From: small / 4, To: small * 9 / 10, Rate: 10_000})
	must(t, err)
	a := s.awaitAction(record.ActionRaiseMax, record.ResultDryRun)
	s.stop()
	if now, err := l.Limit(lab.Max); err != nil || now != small {
		t.Errorf("the limit is %d, %v", now, err)
	}
	if a.From != small || a.To < 4*small {
		t.Errorf("would raise from %d to %d", a.From, a.To)
	}
	if all := s.actions(record.ActionRaiseMax); len(all) > 2 {
		t.Errorf("told %d times", len(all))
	}
}

// TestYields: somebody who lowers the limit again and again has the last word, and is told where to set it.
func TestYields(t *testing.T) {
	l, p := newPath(t)
	s := healing(t, remediate.On, nil)
	s.grow(p)
	s.awaitAction(record.ActionRaiseMax, record.ResultApplied)
	fights := make(chan error)
	stop := make(chan struct{})
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if err := l.SetLimit(lab.Max, small); err != nil {
				fights <- err
				return
			}
			select {
			case <-stop:
				fights <- nil
				return
			case <-tick.C:
			}
		}
	}()
	y := s.awaitAction(record.ActionRaiseMax, record.ResultYielded)
	_, err := p.Ramp(t.Context(), lab.Ramp{From: small * 7 / 10, To: 2 * small, Rate: 20_000})
	must(t, err)
	close(stop)
	must(t, <-fights)
	s.stop()
	applied := 0
	for _, a := range s.actions(record.ActionRaiseMax) {
		if a.Result == record.ResultApplied {
			applied++
		}
	}
	if applied > 2 {
		t.Errorf("wrote %d times", applied)
	}
	if y.To != small || !strings.Contains(y.Why, "ctwatch limit resume") {
		t.Errorf("yielded: %+v", y)
	}
	if now, err := l.Limit(lab.Max); err != nil || now != small {
		t.Errorf("the limit is %d, %v", now, err)
	}
}

// TestOperator: what an operator sets by our own command is no quarrel, and a pause is a pause.
func TestOperator(t *testing.T) {
	l, p := newPath(t)
	var state stateBox
	s := healing(t, remediate.On, func(o *watch.Options) { o.Remediate.Control = state.read })
	state.set(control.State{Paused: &control.Paused{At: time.Now(), By: "eve"}})
	s.grow(p)
	if a := s.awaitAction(record.ActionRaiseMax, record.ResultRefused); !strings.Contains(a.Why, `"eve"`) {
		t.Errorf("refused: %s", a.Why)
	}
	state.set(control.State{})
	must(t, p.Router.Fill(t.Context(), small*3/10)) // to the brink
	raised := s.awaitAction(record.ActionRaiseMax, record.ResultApplied).To
	state.set(control.State{Set: &control.Set{ID: "1", What: control.WhatUndo, Max: small, At: time.Now(), By: "eve"}})
	must(t, l.SetLimit(lab.Max, small))
	undo := s.awaitAction(record.ActionUndo, record.ResultApplied)
	if undo.From != raised || undo.To != small || !strings.Contains(undo.Why, "eve") {
		t.Errorf("undone: %+v", undo)
	}
	s.stop()
	for _, a := range s.actions(record.ActionRaiseMax) {
		if a.Result == record.ResultYielded {
			t.Errorf("yielded to the operator: %s", a.Why)
		}
	}
}

// TestBucketsWithTheLimit: a raise in calm brings the buckets that belong to it, and tells how long that took.
func TestBucketsWithTheLimit(t *testing.T) {
	l, p := newPath(t)
	must(t, l.SetLimit(lab.Buckets, 4096))
	s := healing(t, remediate.On, nil)
	s.grow(p)
	a := s.awaitAction(record.ActionRaiseBuckets, record.ResultApplied)
	s.stop()
	limit, err := l.Limit(lab.Max)
	must(t, err)
	buckets, err := l.Limit(lab.Buckets)
	must(t, err)
	if a.From != 4096 || a.To != buckets || limit > 4*buckets || a.Took <= 0 {
		t.Errorf("%+v; now %d entries, %d buckets", a, limit, buckets)
	}
}

// TestPersists: what was raised is written where the next boot finds it, and how it was before is kept.
func TestPersists(t *testing.T) {
	_, p := newPath(t)
	root := rootTree(t)
	s := healing(t, remediate.On, func(o *watch.Options) { o.Persist, o.Files = true, root })
	s.grow(p)
	raised := s.awaitAction(record.ActionRaiseMax, record.ResultApplied)
	a := s.awaitAction(record.ActionPersist, record.ResultApplied)
	s.stop()
	text, err := os.ReadFile(filepath.Join(root, "etc/sysctl.d/99-zz-ctwatch.conf"))
	must(t, err)
	if a.To != raised.To || !strings.Contains(string(text), "nf_conntrack_max = "+uintText(raised.To)) {
		t.Errorf("persisted %+v:\n%s", a, text)
	}
	kept, err := filepath.Glob(filepath.Join(root, "var/lib/ctwatch/backup/*"))
	if err != nil || len(kept) == 0 {
		t.Errorf("nothing was kept: %v, %v", kept, err)
	}
}

// TestOffDoesNothing: without being asked to, nobody raises anything.
func TestOffDoesNothing(t *testing.T) {
	l, p := newPath(t)
	s := healing(t, remediate.Off, nil)
	ramped, err := p.Ramp(t.Context(), lab.Ramp{From: small / 2, To: small + 1000, Rate: 20_000})
	must(t, err)
	stop := s.stop()
	if now, err := l.Limit(lab.Max); err != nil || now != small {
		t.Errorf("the limit is %d, %v", now, err)
	}
	if ramped.Refused == 0 || stop.Totals[conntrack.TableFull] != ramped.Refused {
		t.Errorf("refused %d, counted %v", ramped.Refused, stop.Totals)
	}
	if all := s.actions(record.ActionRaiseMax); len(all) != 0 {
		t.Errorf("actions: %+v", all)
	}
}

// grow has the table grow past the half while somebody looks.
func (s *session) grow(p *lab.Path) {
	s.t.Helper()
	s.await("a look", func(r record.Record) bool { _, ok := r.(*record.Sample); return ok })
	must(s.t, p.Router.Fill(s.t.Context(), small*62/100))
}

// stateBox is what an operator says, changed while a run reads it.
type stateBox struct {
	mu    sync.Mutex
	state control.State
}

func (b *stateBox) read() (control.State, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state, nil
}

func (b *stateBox) set(s control.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = s
}

func uintText(n uint64) string { return strconv.FormatUint(n, 10) }

// rootTree is a copy of a machine's files, without the running kernel's.
func rootTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.CopyFS(root, os.DirFS(filepath.FromSlash("../../testdata/roots/debian13"))))
	return root
}

// TestLongChainsGetBuckets: where chains are too long more buckets are the cure, and come at once: packets are lost all the
// same. A higher limit is none.
func TestLongChainsGetBuckets(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		l, p := newPath(t)
		must(t, l.LongChains(t.Context(), p.Router))
		s := healing(t, remediate.On, func(o *watch.Options) { o.Probe = probe })
		before, err := l.Limit(lab.Max)
		must(t, err)
		_, err = p.Ramp(t.Context(), lab.Ramp{From: 35_840, To: 36_840, Rate: 1000})
		must(t, err)
		a := s.awaitAction(record.ActionRaiseBuckets, record.ResultApplied)
		s.stop()
		after, err := l.Limit(lab.Max)
		must(t, err)
		if a.From != 512 || a.To < 32_768 || a.Took <= 0 || !strings.Contains(a.Why, "chains are longer") {
			t.Errorf("%+v", a)
		}
		if after != before {
			t.Errorf("the limit was %d, and is %d", before, after)
		}
	})
}
