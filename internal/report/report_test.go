package report

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// attack is an hour of calm, and a table that is full for a minute.
func attack(s *scene) (*scene, record.NetNS) {
	s.start().sample(netns("a", 7, 10, 0))
	s.pass(time.Minute).sample(netns("a", 7, 500, 0))
	s.pass(time.Second).sample(netns("a", 7, 1000, 40))
	started := s.wall.Add(-500 * time.Millisecond)
	s.add(s.full(netns("a", 7, 1000, 40), "20261124-1", record.PhaseOpen, started, 40))
	for i := range uint64(60) {
		s.pass(time.Second).sample(netns("a", 7, 1000-i%2, 40+100*(i+1)))
		if i%10 == 0 {
			s.add(s.full(netns("a", 7, 1000, 0), "20261124-1", record.PhaseUpdate, started, 40+100*(i+1)))
		}
	}
	return s, netns("a", 7, 1000, 6040)
}

func TestClosed(t *testing.T) {
	s, n := attack(newScene(day.Add(time.Hour)))
	closing := s.full(n, "20261124-1", record.PhaseClose, s.wall.Add(-60500*time.Millisecond), 6040)
	s.pass(time.Minute).sample(netns("a", 7, 20, 6040)).add(closing)
	s.pass(time.Minute).sample(netns("a", 7, 10, 6040))
	s.add(&record.Stop{Totals: n.Drops})
	r := build(t, s.source())
	if len(r.Incidents) != 1 {
		t.Fatalf("%d incidents, want 1", len(r.Incidents))
	}
	i := &r.Incidents[0]
	if i.Interrupted || i.open() || i.refused() != 6040 {
		t.Errorf("interrupted %v, open %v, refused %d", i.Interrupted, i.open(), i.refused())
	}
	if got := r.Totals[conntrack.TableFull]; got != 6040 {
		t.Errorf("totals %d, want 6040", got)
	}
	if want := []string{"web-1"}; !cmp.Equal(want, r.Hosts) {
		t.Errorf("hosts %q, want %q", r.Hosts, want)
	}
	// The run took 1 + 61 + 120 seconds and a bit more.
	if got, want := time.Duration(r.Watched), 4*time.Minute+time.Second; got != want {
		t.Errorf("watched %v, want %v", got, want)
	}
	var why []string
	for _, u := range r.Unseen {
		why = append(why, u.Why)
	}
	if diff := cmp.Diff([]string{UnseenNotRunning, UnseenNotRunning}, why); diff != "" {
		t.Errorf("unseen (-want +got):\n%s", diff)
	}
	if got, want := r.plotted(i), 6040.0; got < want-0.01 || got > want+0.01 {
		t.Errorf("the plot shows %v refused packets, want %v", got, want)
	}
}

// plotted is how many refused packets an incident's plot shows.
func (r *Report) plotted(i *Incident) float64 {
	sum := 0.0
	for n := range i.plot.columns {
		sum += i.plot.columns[n].total()
	}
	return sum
}

// TestKilled: samples came after the last record of the incident, and then nothing.
func TestKilled(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		s, _ := attack(newScene(day.Add(time.Hour)))
		last := s.wall
		if restarted {
			s.pass(10 * time.Minute).start().sample(netns("a", 7, 5, 0))
			s.add(&record.Stop{})
		}
		r := build(t, s.source())
		i := &r.Incidents[0]
		if !i.Interrupted || i.open() {
			t.Errorf("restarted %v: interrupted %v, open %v", restarted, i.Interrupted, i.open())
		}
		if got := i.Drops[conntrack.TableFull]; got != 6040 {
			t.Errorf("restarted %v: %d refused, want 6040", restarted, got)
		}
		if got := r.Totals[conntrack.TableFull]; got != 6040 {
			t.Errorf("restarted %v: totals %d, want 6040", restarted, got)
		}
		if i.Ended == nil || !i.Ended.Equal(last) {
			t.Errorf("restarted %v: ended %v, want %v", restarted, i.Ended, last)
		}
		if text := all(t, r)["txt"]; !strings.Contains(text, "ctwatch itself ended before it was over") {
			t.Errorf("restarted %v: the text does not say that ctwatch ended:\n%s", restarted, text)
		}
		crashes := 0
		for _, u := range r.Unseen {
			if u.Why == UnseenCrash {
				crashes++
			}
		}
		if crashes != 1 {
			t.Errorf("restarted %v: %d crashes, want 1: %v", restarted, crashes, r.Unseen)
		}
	}
}

// TestOpen: the daemon runs, or the window ends before the records do.
func TestOpen(t *testing.T) {
	s, _ := attack(newScene(day.Add(time.Hour)))
	for name, change := range map[string]func(*Options){
		"running":          func(o *Options) { o.Running, o.Now = true, s.wall.Add(time.Second) },
		"window ends then": func(o *Options) { o.Until = s.wall.Add(time.Second) },
	} {
		r := build(t, s.source(), change)
		i := &r.Incidents[0]
		if i.Interrupted || !i.open() || i.refused() != 6040 {
			t.Errorf("%s: interrupted %v, open %v, refused %d", name, i.Interrupted, i.open(), i.refused())
		}
		if text := all(t, r)["md"]; !strings.Contains(text, "not over") {
			t.Errorf("%s: the report does not say that it goes on", name)
		}
	}
}

// TestOverlap: incidents of several namespaces, two of one name, stay apart.
func TestOverlap(t *testing.T) {
	s := newScene(day.Add(2 * time.Hour)).start()
	a, b := netns("same", 7, 1000, 0), netns("same", 8, 1000, 0)
	s.sample(a, b).pass(time.Second)
	a, b = netns("same", 7, 1000, 10), netns("same", 8, 1000, 3)
	begun := s.wall
	s.sample(a, b).add(s.full(a, "a", record.PhaseOpen, begun, 10)).add(s.full(b, "b", record.PhaseOpen, begun, 3))
	s.pass(time.Second)
	a = netns("same", 7, 1000, 30)
	s.sample(a).add(s.full(a, "a", record.PhaseClose, begun, 30)).add(s.full(b, "b", record.PhaseClose, begun, 3))
	s.add(&record.Stop{Totals: conntrack.Drops{conntrack.TableFull: 33}})
	r := build(t, s.source())
	if len(r.Incidents) != 2 || r.Incidents[0].refused() != 30 || r.Incidents[1].refused() != 3 {
		t.Fatalf("incidents %+v", r.Incidents)
	}
	if r.Totals.Total() != 33 {
		t.Errorf("totals %d, want 33", r.Totals.Total())
	}
	if len(r.NetNS) != 2 || r.NetNS[0].Drops.Total() != 30 || r.NetNS[1].Drops.Total() != 3 {
		t.Errorf("namespaces %+v", r.NetNS)
	}
	for i, want := range []float64{30, 3} {
		if got := r.plotted(&r.Incidents[i]); got < want-0.01 || got > want+0.01 {
			t.Errorf("plot %d shows %v, want %v", i, got, want)
		}
	}
	// The report of one of them says that there is another.
	one := build(t, s.source(), func(o *Options) { o.Incident = "b" })
	if len(one.Incidents) != 1 || one.Incidents[0].ID != "b" || one.Others != 1 {
		t.Errorf("asked for b: %d incidents, %d others", len(one.Incidents), one.Others)
	}
}

// TestClock: the clock is set a day forward or back while the table is full. Durations stay right.
func TestClock(t *testing.T) {
	for _, step := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		s := newScene(day.Add(12 * time.Hour)).start()
		s.sample(netns("a", 7, 10, 0)).pass(time.Second)
		n := netns("a", 7, 1000, 10)
		begun, boot := s.wall, s.boot
		s.sample(n).add(s.full(n, "a", record.PhaseOpen, begun, 10))
		s.pass(30 * time.Second)
		from := s.wall
		s.wall = s.wall.Add(step)
		s.add(&record.Gap{Why: "clock", From: from, To: s.wall})
		s.pass(30 * time.Second)
		n = netns("a", 7, 1000, 90)
		closing := s.full(n, "a", record.PhaseClose, begun, 90)
		closing.Duration = int64(s.boot - boot)
		s.sample(n).add(closing).add(&record.Stop{})
		r := build(t, s.source(), func(o *Options) {
			o.Since, o.Until, o.Now = day.Add(-48*time.Hour), day.Add(72*time.Hour), day.Add(72*time.Hour)
		})
		i := r.Incidents[0]
		if i.Duration != int64(time.Minute) || i.refused() != 90 || i.Interrupted {
			t.Errorf("step %v: %v, %d refused, interrupted %v", step, time.Duration(i.Duration), i.refused(), i.Interrupted)
		}
		if r.Watched != int64(61*time.Second) {
			t.Errorf("step %v: watched %v, want 61 s", step, time.Duration(r.Watched))
		}
		found := ""
		for _, u := range r.Unseen {
			if u.Why == "clock" {
				found = u.Text
			}
		}
		want := "The wall clock was set forward by about 1 d. Durations here go by a clock that nobody sets."
		if step < 0 {
			want = strings.Replace(want, "forward", "back", 1)
		}
		if found != want {
			t.Errorf("step %v: %q, want %q", step, found, want)
		}
		if got := r.plotted(&i); got < 89.99 || got > 90.01 {
			t.Errorf("step %v: the plot shows %v, want 90", step, got)
		}
	}
}

// TestBaseline: what was refused before the window is not of it, and the run's start need not be in it.
func TestBaseline(t *testing.T) {
	s := newScene(day.Add(time.Hour)).start()
	s.sample(netns("a", 7, 10, 5)).pass(time.Minute)
	for i := range uint64(300) {
		s.sample(netns("a", 7, 10, 1000+i)).pass(time.Minute)
	}
	since := day.Add(3 * time.Hour)
	r := build(t, s.source(), func(o *Options) { o.Since, o.Until = since, since.Add(time.Hour-time.Second) })
	if got := r.Totals.Total(); got != 60 {
		t.Errorf("totals %d, want 60", got)
	}
	// The same where what was read begins in the midst of the run.
	late := recordSource(Damage{}, s.records[60:]...)
	r = build(t, late, func(o *Options) { o.Since, o.Until = since, since.Add(time.Hour-time.Second) })
	if got := r.Totals.Total(); got != 60 {
		t.Errorf("without the start: totals %d, want 60", got)
	}
	// Where it begins within the window, the first sample tells where to count from.
	within := build(t, recordSource(Damage{}, s.records[150:]...), func(o *Options) { o.Since, o.Until = since, since.Add(time.Hour-time.Second) })
	if got := within.Totals.Total(); got != 30 {
		t.Errorf("from within the window: totals %d, want 30", got)
	}
	if len(r.Unseen) != 0 || r.Watched != int64(time.Hour-time.Second) {
		t.Errorf("watched %v, unseen %v", time.Duration(r.Watched), r.Unseen)
	}
	if text := all(t, r)["txt"]; !strings.Contains(text, "60 packets refused, and no incident") {
		t.Errorf("the headline does not tell:\n%s", text)
	}
}

// TestReload: conntrack was unloaded and loaded again. It is the same run, and its counts go on.
func TestReload(t *testing.T) {
	s := newScene(day.Add(time.Hour)).start()
	s.sample(netns("a", 7, 10, 5)).pass(time.Second)
	s.add(&record.Gap{Why: "restart", From: s.wall, To: s.wall.Add(3 * time.Second)}).pass(3 * time.Second)
	again := &record.Start{Hostname: "web-1", Probe: "kprobe"}
	again.Seq = 1 // so that the scene goes on counting
	s.add(again).pass(time.Second).sample(netns("a", 7, 10, 9)).add(&record.Stop{Totals: conntrack.Drops{9}})
	r := build(t, s.source())
	if got := r.Totals.Total(); got != 9 || len(r.Runs) != 1 {
		t.Errorf("totals %d, want 9; %d runs, want 1", got, len(r.Runs))
	}
}

func TestUnseen(t *testing.T) {
	s := newScene(day.Add(time.Hour)).start().sample(netns("a", 7, 10, 0)).pass(time.Minute)
	from := s.wall
	s.pass(2 * time.Hour).add(&record.Gap{Why: "suspend", From: from, To: s.wall})
	s.pass(time.Minute)
	s.add(&record.Sample{Lost: 3, Unattributed: 4, NetNS: []record.NetNS{netns("a", 7, 10, 0)}})
	s.pass(20 * time.Minute).add(&record.Sample{Lost: 5, Unattributed: 4})
	s.add(&record.Stop{Lost: 5, Unattributed: 4, Missed: 6})
	source := s.source()
	damaged := func(ctx context.Context, w Window, each func(record.Record) error) (Damage, error) {
		_, err := source(ctx, w, each)
		return Damage{Lines: 1, Unknown: 2, Lost: 7}, err
	}
	r := build(t, damaged)
	type short struct {
		why      string
		duration time.Duration
		count    uint64
	}
	var got []short
	for _, u := range r.Unseen {
		got = append(got, short{u.Why, time.Duration(u.Duration), u.Count})
	}
	want := []short{
		{UnseenNotRunning, time.Hour, 0}, {"suspend", 2 * time.Hour, 0}, {UnseenSilent, 20 * time.Minute, 0},
		{UnseenNotRunning, 24*time.Hour - 3*time.Hour - 22*time.Minute, 0},
		{UnseenUnattributed, 0, 4}, {UnseenSamples, 0, 5}, {UnseenMissed, 0, 6}, {UnseenLost, 0, 7}, {UnseenDamaged, 0, 1}, {UnseenUnknown, 0, 2},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(short{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r.Watched != int64(2*time.Minute) {
		t.Errorf("watched %v, want 2 minutes", time.Duration(r.Watched))
	}
}

// TestInterval: where samples are rare, a long time without a record is none in which records are missing.
func TestInterval(t *testing.T) {
	s := newScene(day).start()
	for range 3 {
		s.pass(10 * time.Minute)
		s.add(&record.Sample{Interval: int64(10 * time.Minute), NetNS: []record.NetNS{netns("a", 7, 10, 0)}})
	}
	s.add(&record.Stop{})
	r := build(t, s.source(), func(o *Options) { o.Until = s.wall })
	if len(r.Unseen) != 0 || r.Watched != int64(30*time.Minute) {
		t.Errorf("watched %v, unseen %v", time.Duration(r.Watched), r.Unseen)
	}
}

// TestEdge: a window that cuts through an incident says how much of it is in the window.
func TestEdge(t *testing.T) {
	s, _ := attack(newScene(day.Add(time.Hour)))
	r := build(t, s.source(), func(o *Options) { o.Since = s.wall.Add(-9 * time.Second) })
	if len(r.Incidents) != 1 || r.Incidents[0].refused() != 6040 || r.Totals.Total() != 1000 {
		t.Fatalf("%d incidents, totals %v", len(r.Incidents), r.Totals)
	}
	if text := strings.Join(strings.Fields(all(t, r)["txt"]), " "); !strings.Contains(text, "Of these, 1,000 packets were refused in the window itself.") {
		t.Errorf("the text does not tell:\n%s", text)
	}
}

// TestCalm: nothing happened, and the report has figures to show for it.
func TestCalm(t *testing.T) {
	s := newScene(day.Add(-time.Minute)).start()
	for range 24*60 + 1 {
		s.sample(netns("a", 7, 123, 0)).pass(time.Minute)
	}
	r := build(t, s.source(), func(o *Options) { o.Running = true })
	out := all(t, r)
	for name, want := range map[string]string{"txt": "Nothing was refused", "md": "# Nothing was refused", "html": "<h1>Nothing was refused</h1>"} {
		if !strings.Contains(out[name], want) {
			t.Errorf("%s lacks %q", name, want)
		}
	}
	for _, want := range []string{"12.3 %", "all", "1,440", "Nothing is known to be missing"} {
		if !strings.Contains(out["txt"], want) {
			t.Errorf("the text lacks %q:\n%s", want, out["txt"])
		}
	}
	if r.LoggedLines != nil {
		t.Error("logged lines of no incident are known")
	}
}

func TestEmpty(t *testing.T) {
	r := build(t, recordSource(Damage{}))
	for name, text := range all(t, r) {
		if name != "json" && !strings.Contains(text, "Nobody was watching") {
			t.Errorf("%s does not say that nobody watched:\n%s", name, text)
		}
	}
	if _, err := Build(t.Context(), recordSource(Damage{}), Options{Since: day, Until: day.Add(-time.Second), Now: day}); !errors.Is(err, ErrOrder) {
		t.Errorf("since after until: %v, want %v", err, ErrOrder)
	}
}

func TestFind(t *testing.T) {
	s := newScene(day.Add(time.Hour)).start()
	n := netns("a", 7, 1000, 0)
	for _, id := range []string{"20261124-010000-aaaa", "20261124-010000-bbbb", "20261124-020000-cccc"} {
		s.add(s.full(n, id, record.PhaseClose, s.wall, 1)).pass(time.Minute)
	}
	s.add(s.full(n, "20261124-030000-dddd", record.PhaseOpen, s.wall, 1)).pass(time.Hour).start()
	restart := s.wall
	for _, c := range []struct{ asked, id, err string }{
		{asked: Last, id: "20261124-030000-dddd"},
		{asked: "20261124-02", id: "20261124-020000-cccc"},
		{asked: "20261124-010000-aaaa", id: "20261124-010000-aaaa"},
		{asked: "20261124-01", err: `more than one incident begins with "20261124-01": 20261124-010000-aaaa, 20261124-010000-bbbb`},
		{asked: "x\x1b", err: `no incident "x\x1b"; the last ones are: 20261124-010000-aaaa, 20261124-010000-bbbb, 20261124-020000-cccc, 20261124-030000-dddd`},
	} {
		f, err := Find(t.Context(), s.source(), time.Time{}, day.Add(24*time.Hour), day.Add(24*time.Hour), c.asked)
		if c.err == "" != (err == nil) || err != nil && err.Error() != c.err {
			t.Errorf("%q: error %v, want %q", c.asked, err, c.err)
		}
		if f.ID != c.id {
			t.Errorf("%q: found %q, want %q", c.asked, f.ID, c.id)
		}
		if c.asked == Last && !f.Until.Equal(restart) {
			t.Errorf("the interrupted one ends %v, want the restart, %v", f.Until, restart)
		}
	}
	var unknown *UnknownError
	if _, err := Find(t.Context(), recordSource(Damage{}), time.Time{}, day, day, Last); !errors.As(err, &unknown) || err.Error() != "there is no incident" {
		t.Errorf("nothing there: %v", err)
	}
}

func TestLoggedLines(t *testing.T) {
	n := func(v uint64) *uint64 { return &v }
	incident := func(cookie uint64, from, to time.Duration, lines *uint64) Incident {
		end := day.Add(to)
		return Incident{Incident: record.Incident{Cookie: cookie, Started: day.Add(from), Ended: &end, LoggedLines: lines}}
	}
	for _, c := range []struct {
		name string
		in   []Incident
		want *uint64
	}{
		{name: "none"},
		{name: "unknown is not zero", in: []Incident{incident(1, 0, 1, n(3)), incident(2, 0, 1, nil)}},
		{name: "apart", in: []Incident{incident(1, 0, 1, n(3)), incident(1, 5, 6, n(4)), incident(2, 0, 6, n(1))}, want: n(8)},
		{name: "together", in: []Incident{incident(1, 0, 9, n(3)), incident(1, 5, 6, n(4))}, want: n(4)},
	} {
		if diff := cmp.Diff(c.want, loggedLines(c.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// TestFoundAfterAll: what the program found later is not told of as unattributed any more.
func TestFoundAfterAll(t *testing.T) {
	s := newScene(day.Add(time.Hour)).start()
	for _, missing := range []uint64{0, 1000, 990, 995} {
		n := netns("a", 7, 1000, 1000-missing)
		n.Unattributed = missing
		s.pass(time.Second).add(&record.Sample{Interval: int64(time.Second), Unattributed: missing, NetNS: []record.NetNS{n}})
	}
	r := build(t, s.source())
	if r.Unattributed != 995 || r.NetNS[0].Unattributed != 995 {
		t.Errorf("unattributed %d, of the namespace %d; want 995", r.Unattributed, r.NetNS[0].Unattributed)
	}
}

// TestLimitNow: what to do next goes by the limit as it is, not as it was when the incident ended.
func TestLimitNow(t *testing.T) {
	s, _ := attack(newScene(day.Add(time.Hour)).start())
	s.pass(10 * time.Minute).add(&record.Limit{Key: conntrack.KeyMax, From: 262144, To: 4194304})
	s.pass(time.Second).sample()
	for name, change := range map[string]func(*Options){
		"the whole window": func(*Options) {},
		"the incident alone": func(o *Options) {
			f, err := Find(t.Context(), s.source(), time.Time{}, time.Time{}, o.Now, Last)
			if err != nil {
				t.Fatal(err)
			}
			o.Incident, o.Since, o.Until, o.Limit = f.ID, f.Since, f.Until, f.Limit
		},
	} {
		r := build(t, s.source(), change)
		for format, text := range all(t, r) {
			if format != "json" && (!strings.Contains(text, "4,194,304") || strings.Contains(text, "Yes, with the next such load")) {
				t.Errorf("%s, %s: does not know the limit as it is now", name, format)
			}
		}
	}
}

// TestUnseenLoss: what was refused on a path that the program does not see is a loss like any other.
func TestUnseenLoss(t *testing.T) {
	s, n := attack(newScene(day.Add(time.Hour)).start())
	in := s.full(n, "20261124-013000-ffff", record.PhaseClose, s.wall, 0)
	in.Cause, in.VerdictKind, in.Unattributed, in.PeakFill = conntrack.Other, record.VerdictUnseen, 777, 0.03
	s.pass(time.Second).add(in)
	for format, text := range all(t, build(t, s.source())) {
		if format != "json" && (!strings.Contains(text, "777") || strings.Contains(text, "Table 3 % full") || strings.Contains(text, "sequence numbers that could not be adjusted")) {
			t.Errorf("%s:\n%s", format, text)
		}
	}
}
