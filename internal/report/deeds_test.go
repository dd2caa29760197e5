package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/rival"
)

const (
	derived = "host: 990 of 1,000 entries (99.0 %), growing 4,100/s, refusing packets; peak 42,000 of 1,000; 524,288 brings that to 8.0 %; 524,288 entries cost at most 200 MiB of 23.5 GiB; " +
		"4.0 % of the entries never saw an answer; the largest source, 203.0.113.0/24, holds 4.0 %; so: raise to 524,288"
	flooded = "host: 1,000 of 1,000 entries (100.0 %), refusing packets; it is a flood, which would fill a larger table as well: 71.4 % of the entries never saw an answer; so: leave the limit"
	yielded = "ctwatch had set nf_conntrack_max to 524,288, and \"kube-proxy\" (pid 4711, \"pod:2a4e9d2c-8d3c-4c4b-9c53-0d6a1f1c7d11\") made it 131,072 at 2026-11-24T01:00:20Z: ctwatch yields; " +
		"`ctwatch limit resume` ends the yielding"
)

var kubeProxy = record.Writer{PID: 4711, Comm: "kube-proxy", Unit: "pod:2a4e9d2c-8d3c-4c4b-9c53-0d6a1f1c7d11"}

// healed is an incident of a namespace with all that may be done about it, and something that is done for another.
func healed() *scene {
	s := newScene(day.Add(time.Hour)).start()
	n := netns("a", 7, 500, 0)
	about := func(what, result string, from, to uint64, latency time.Duration, why string) {
		s.add(&record.Action{What: what, Result: result, From: from, To: to, Latency: latency.Nanoseconds(), Why: why, NS: n.NS, Cookie: n.Cookie, Name: n.Name})
	}
	s.sample(n).pass(time.Second)
	begun := s.wall
	n = netns("a", 7, 1000, 3)
	in := s.full(n, "20261124-1", record.PhaseOpen, begun, 3)
	in.Trigger = record.TriggerDrop
	s.add(in).sample(n).pass(1500 * time.Microsecond)
	about(record.ActionRaiseMax, record.ResultFailed, 1000, 524288, 1100*time.Microsecond, derived+"; but: write /proc/sys/net/netfilter/nf_conntrack_max: input/output error")
	s.pass(4 * time.Second)
	about(record.ActionRaiseMax, record.ResultApplied, 1000, 524288, 900*time.Microsecond, derived)
	s.add(&record.Limit{Key: conntrack.KeyMax, From: 1000, To: 524288, Writer: record.Writer{PID: 812, Comm: "ctwatch", Unit: "ctwatch.service"}})
	for range 7 {
		s.add(&record.Action{What: record.ActionHook, Result: record.ResultApplied, Latency: int64(12 * time.Millisecond)}).pass(time.Second)
	}
	s.add(&record.Action{What: record.ActionHook, Result: record.ResultFailed, Why: "it ended with status 3"})
	s.add(&record.Action{What: record.ActionHook, Result: record.ResultFailed, Why: "it took longer than 10s, and was killed"})
	about(record.ActionPersist, record.ResultFailed, 0, 524288, time.Second, "/etc/sysctl.d/zzz.conf:3 sets it later, to 65,536")
	s.pass(8 * time.Second)
	s.add(&record.Limit{Key: conntrack.KeyMax, From: 524288, To: 131072, Writer: kubeProxy})
	about(record.ActionRaiseMax, record.ResultYielded, 524288, 131072, 0, yielded)
	for i := range 3 {
		s.pass(5 * time.Second)
		about(record.ActionRaiseMax, record.ResultRefused, 131072, 0, 0, strings.ReplaceAll(flooded, "71.4", []string{"71.4", "88.0", "93.25"}[i]))
	}
	s.add(&record.Action{What: record.ActionRaiseBuckets, Result: record.ResultRefused, From: 65536, NS: 4026539999, Cookie: 99, Name: "elsewhere", Why: "this is of another namespace"})
	s.pass(10 * time.Second)
	about(record.ActionRaiseBuckets, record.ResultApplied, 65536, 131072, 31*time.Millisecond, "with nf_conntrack_max of 524,288, while it is calm")
	s.records[len(s.records)-1].(*record.Action).Took = int64(31 * time.Millisecond)
	about(record.ActionPersist, record.ResultDryRun, 0, 524288, 0, "")
	n = netns("a", 7, 900, 40)
	closing := s.full(n, "20261124-1", record.PhaseClose, begun, 40)
	closing.Trigger, closing.PeakCount, closing.Limits = record.TriggerDrop, 42000, record.Limits{Before: 1000, After: 131072}
	next := uint64(65536)
	closing.Limits.NextBoot, closing.Limits.Why = &next, "/etc/sysctl.d/zzz.conf:3"
	closing.Changes = []record.Change{{Time: begun.Add(4 * time.Second), Key: conntrack.KeyMax, From: 1000, To: 524288, Writer: record.Writer{PID: 812, Comm: "ctwatch", Unit: "ctwatch.service"}},
		{Time: begun.Add(19 * time.Second), Key: conntrack.KeyMax, From: 524288, To: 131072, Writer: kubeProxy}}
	s.sample(n).add(closing).pass(10 * time.Minute)
	s.add(&record.Action{What: record.ActionRaiseMax, Result: record.ResultDryRun, From: 131072, To: 524288, NS: 4026539999, Cookie: 99, Name: "elsewhere", Why: "on trial"})
	return s.add(&record.Stop{})
}

// TestDone: the report of an incident tells what was done about it, in every format as the files in testdata have it.
func TestDone(t *testing.T) {
	r := build(t, healed().source())
	for format, got := range all(t, r) {
		path := filepath.Join("testdata", "healed."+format)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	checkWidth(t, "healed", all(t, r)["txt"])
	checkMarkdown(t, "healed", all(t, r)["md"])
	checkHTML(t, "healed", all(t, r)["html"])
}

// TestConcerns: an action belongs to the incidents of its namespace and time, and what was done to the limits to all of that
// time.
func TestConcerns(t *testing.T) {
	end := day.Add(10 * time.Minute)
	i := &Incident{Incident: record.Incident{NS: 5, Cookie: 7, Started: day, Ended: &end}}
	for _, c := range []struct {
		name   string
		at     time.Duration
		action record.Action
		want   bool
	}{
		{"of no namespace", time.Minute, record.Action{}, true},
		{"shortly before", -50 * time.Second, record.Action{}, true},
		{"before", -2 * time.Minute, record.Action{}, false},
		{"shortly after", 10*time.Minute + 50*time.Second, record.Action{}, true},
		{"after", 12 * time.Minute, record.Action{}, false},
		{"of its namespace", time.Minute, record.Action{NS: 5, Cookie: 7, What: record.ActionRaiseMax, Result: record.ResultRefused}, true},
		{"of another", time.Minute, record.Action{NS: 6, Cookie: 8, What: record.ActionRaiseMax, Result: record.ResultRefused}, false},
		{"of one that had its number", time.Minute, record.Action{NS: 5, Cookie: 8, What: record.ActionRaiseMax, Result: record.ResultRefused}, false},
		{"raised for another", time.Minute, record.Action{NS: 6, Cookie: 8, What: record.ActionRaiseMax, Result: record.ResultApplied}, true},
		{"raised for another, long before", -time.Hour, record.Action{NS: 6, Cookie: 8, What: record.ActionRaiseMax, Result: record.ResultApplied}, false},
		{"the hook for another", time.Minute, record.Action{NS: 6, Cookie: 8, What: record.ActionHook, Result: record.ResultApplied}, false},
	} {
		c.action.Time = day.Add(c.at)
		if got := i.concerns(&c.action); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestDoing: what each action is in words, and how it stands to the first loss.
func TestDoing(t *testing.T) {
	end := day.Add(10 * time.Minute)
	in := &Incident{Incident: record.Incident{NS: 5, Started: day, Ended: &end, Trigger: record.TriggerDrop, Drops: conntrack.Drops{5}}}
	announced := &Incident{Incident: record.Incident{NS: 5, Started: day, Ended: &end, Trigger: record.TriggerFill, Drops: conntrack.Drops{5}}}
	loss := day.Add(time.Minute)
	announced.lossAt = &loss
	calm := &Incident{Incident: record.Incident{NS: 5, Started: day, Ended: &end, Trigger: record.TriggerEvicted}}
	for _, c := range []struct {
		in      *Incident
		at      time.Duration
		action  record.Action
		repeats int
		want    string
	}{
		{in, 3 * time.Millisecond, record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, From: 1000, To: 2000, NS: 5, Latency: 1e6}, 0,
			"ctwatch raised nf_conntrack_max from 1,000 to 2,000, 1 ms after the first packet was refused."},
		{in, 3 * time.Second, record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, From: 1000, To: 2000, NS: 5, Latency: 1e6}, 0,
			"ctwatch raised nf_conntrack_max from 1,000 to 2,000, 3 s after the first packet was refused."},
		{in, -8 * time.Second, record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, From: 1000, To: 2000, NS: 5}, 0,
			"ctwatch raised nf_conntrack_max from 1,000 to 2,000, 8 s before the first packet was refused."},
		{announced, 8 * time.Second, record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, From: 1000, To: 2000, NS: 5}, 0,
			"ctwatch raised nf_conntrack_max from 1,000 to 2,000, before the first packet was refused."},
		{announced, 70 * time.Second, record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, From: 1000, To: 2000, NS: 5}, 0,
			"ctwatch raised nf_conntrack_max from 1,000 to 2,000, 10 s after the first packet was refused."},
		{calm, time.Second, record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, From: 1000, To: 2000, NS: 5}, 0,
			"ctwatch raised nf_conntrack_max from 1,000 to 2,000, and no packet was refused."},
		{nil, 0, record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, From: 1000, To: 0, NS: 9, Name: "n"}, 0,
			"ctwatch raised nf_conntrack_max, which was 1,000 (for n)."},
		{in, 0, record.Action{What: record.ActionRaiseBuckets, Result: record.ResultApplied, From: 1024, To: 2048, Took: 31e6, NS: 5}, 0,
			"ctwatch raised nf_conntrack_buckets from 1,024 to 2,048, 0 s after the first packet was refused; all tracked traffic waited for it, for at most 31 ms."},
		{in, time.Second, record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, From: 1000, To: 2000, Why: "\"root\" ran `ctwatch limit set`"}, 0,
			"An operator raised nf_conntrack_max from 1,000 to 2,000, 1 s after the first packet was refused. Why: \"root\" ran ctwatch limit set."},
		{in, 0, record.Action{What: record.ActionRaiseMax, Result: record.ResultDryRun, From: 1000, To: 2000, Why: "peak 9999 of 1000"}, 0,
			"On trial only, ctwatch would have raised nf_conntrack_max from 1,000 to 2,000. Why: peak 9,999 of 1,000."},
		{in, 0, record.Action{What: record.ActionRaiseMax, Result: record.ResultRefused, From: 1000, Why: "it is a flood."}, 2,
			"ctwatch refused to raise nf_conntrack_max, which was 1,000 (3 times, the last time at 01:00:02). Why: it is a flood."},
		{in, 0, record.Action{What: record.ActionRaiseMax, Result: record.ResultYielded, From: 2000, To: 1000}, 0,
			"ctwatch yielded to whoever lowered nf_conntrack_max from 2,000 to 1,000."},
		{in, 0, record.Action{What: record.ActionRaiseMax, Result: record.ResultYielded, From: 1000}, 0,
			"ctwatch yielded, and did not raise nf_conntrack_max, which was 1,000."},
		{in, 0, record.Action{What: record.ActionRaiseBuckets, Result: record.ResultFailed, From: 1024, To: 2048, Why: "but: no"}, 0,
			"ctwatch tried to raise nf_conntrack_buckets from 1,024 to 2,048, and failed. Why: but: no."},
		{in, 0, record.Action{What: record.ActionPersist, Result: record.ResultApplied, To: 2000}, 0,
			"ctwatch wrote the limit of 2,000 into files of the machine, for the next boots."},
		{in, 0, record.Action{What: record.ActionPersist, Result: record.ResultFailed, Why: "read-only"}, 0,
			"ctwatch tried to write the limits into files of the machine, for the next boots, and failed. Why: read-only."},
		{in, 0, record.Action{What: record.ActionUndo, Result: record.ResultApplied, From: 2000, To: 1000}, 0,
			"The last change was taken back: nf_conntrack_max from 2,000 to 1,000."},
		{in, 0, record.Action{What: record.ActionHook, Result: record.ResultApplied}, 4, "The operator's hook ran 5 times."},
		{in, 0, record.Action{What: record.ActionHook, Result: record.ResultFailed, NS: 5, Why: "status 3"}, 0, "The operator's hook failed 1 time. The last time: status 3."},
		{in, 0, record.Action{What: "reboot", Result: record.ResultApplied}, 0, "ctwatch: reboot, applied."},
		{in, 0, record.Action{What: record.ActionUndo, Result: "lost"}, 0, "ctwatch: undo, lost."},
	} {
		var all []*record.Action
		for n := range c.repeats + 1 {
			a := c.action
			a.Time = day.Add(c.at + time.Duration(n)*time.Second)
			all = append(all, &a)
		}
		d := gather(all)
		if len(d) != 1 {
			t.Errorf("%q: %d deeds, want 1", c.want, len(d))
		}
		if got := d[0].told(c.in, clock{cet}, true).String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestGather: what differs in more than its figures stays apart.
func TestGather(t *testing.T) {
	refused := record.Action{What: record.ActionRaiseMax, Result: record.ResultRefused, From: 1000, Why: "71.4 % never saw an answer"}
	other, elsewhere, memory, raised, more := refused, refused, refused, refused, refused
	other.Why, other.From = "93.25 % never saw an answer", 2000
	elsewhere.NS = 9
	memory.Why = "memory is short"
	raised.Result, raised.To = record.ResultApplied, 2000
	more.Result, more.From, more.To = record.ResultApplied, 2000, 4000
	got := gather([]*record.Action{&refused, &other, &elsewhere, &memory, &raised, &more, &refused})
	var times []uint64
	for _, d := range got {
		times = append(times, d.times)
	}
	if diff := cmp.Diff([]uint64{3, 1, 1, 1, 1}, times); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestInTime: a limit that was raised before anything was refused is what a calm window has to tell.
func TestInTime(t *testing.T) {
	s := newScene(day.Add(time.Hour)).start().sample(netns("a", 7, 600, 0)).pass(time.Second)
	s.add(&record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, From: 1000, To: 524288, NS: 4026532007, Cookie: 7, Name: "a", Latency: 1e6, Why: "full in 1.1 s"})
	s.add(&record.Limit{Key: conntrack.KeyMax, From: 1000, To: 524288, Writer: record.Writer{PID: 812, Comm: "ctwatch", Unit: "ctwatch.service"}})
	s.sample(netns("a", 7, 900, 0)).add(&record.Stop{})
	text := strings.Join(strings.Fields(all(t, build(t, s.source()))["txt"]), " ")
	for _, want := range []string{"Nothing was refused", "ctwatch raised the limit from 1,000 to 524,288 at 2026-11-24 02:00:01.",
		"ctwatch raised nf_conntrack_max from 1,000 to 524,288 (for a). Why: full in 1.1 s."} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "ctwatch (pid 812") {
		t.Error("what ctwatch did is told of twice")
	}
}

// TestAftermath: what is to be done goes by what ctwatch did.
func TestAftermath(t *testing.T) {
	next := uint64(1000)
	for _, c := range []struct {
		name   string
		action record.Action
		now    uint64
		want   []string
		not    []string
	}{
		{"nothing", record.Action{What: record.ActionHook, Result: record.ResultApplied}, 1000,
			[]string{"ctwatch run --remediate dry-run", "ctwatch limit set 524288 --persist", "ctwatch did nothing about limits", "ctwatch limit plan"}, []string{"limit resume"}},
		{"on trial", record.Action{What: record.ActionRaiseMax, Result: record.ResultDryRun, From: 1000, To: 524288}, 1000,
			[]string{"ctwatch run --remediate on", "On trial only", "Remediation is on trial"}, []string{"dry-run"}},
		{"applied, and not for the next boot", record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, From: 1000, To: 524288, NS: 4026532007, Cookie: 7}, 524288,
			[]string{"does **not** survive a reboot", "ctwatch limit persist\n", "ctwatch limit undo", "Remediation is on: "}, []string{"ctwatch limit set", "--remediate"}},
		{"an operator did", record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, From: 1000, To: 524288}, 524288,
			[]string{"An operator raised the limit from **1,000** to **524,288**", "Whether ctwatch would have", "ctwatch limit undo"}, []string{"Remediation is on", "ctwatch raised"}},
		{"yielded", record.Action{What: record.ActionRaiseMax, Result: record.ResultYielded, From: 524288, To: 1000}, 1000,
			[]string{"ctwatch limit resume", "conntrack.maxPerCore: 0", "**yielded** to `kube-proxy`", "Remediation has yielded"}, []string{"--remediate"}},
		{"refused", record.Action{What: record.ActionRaiseMax, Result: record.ResultRefused, From: 1000, Why: "memory is short"}, 1000,
			[]string{"**refused** to raise the limit", "memory is short", "ctwatch limit set 524288 --persist"}, []string{"--remediate"}},
		{"failed", record.Action{What: record.ActionRaiseMax, Result: record.ResultFailed, From: 1000, To: 524288, Why: "but: EIO"}, 1000,
			[]string{"tried to raise the limit to 524,288, and **failed**", "but: EIO", "could not raise"}, []string{"--remediate"}},
	} {
		s := newScene(day.Add(time.Hour)).start()
		n := netns("a", 7, 1000, 5)
		s.sample(n)
		if c.action.Result == record.ResultYielded {
			s.add(&record.Limit{Key: conntrack.KeyMax, From: 524288, To: 1000, Writer: kubeProxy})
		}
		in := s.full(n, "id", record.PhaseClose, s.wall, 5)
		in.Limits = record.Limits{Before: 1000, After: c.now, NextBoot: &next}
		s.add(in).add(&c.action)
		if c.now != 1000 {
			s.add(&record.Limit{Key: conntrack.KeyMax, From: 1000, To: c.now, Writer: record.Writer{PID: 8, Comm: "ctwatch"}})
		}
		text := all(t, build(t, s.add(&record.Stop{}).source()))["md"]
		for _, w := range c.want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: the report lacks %q", c.name, w)
			}
		}
		for _, w := range c.not {
			if strings.Contains(text, w) {
				t.Errorf("%s: the report holds %q", c.name, w)
			}
		}
	}
}

// TestWritten: what was written for the next boot after the incident's last record counts, until it is taken back.
func TestWritten(t *testing.T) {
	s := newScene(day.Add(time.Hour)).start()
	n := netns("a", 7, 1000, 5)
	in := s.sample(n).full(n, "id", record.PhaseClose, s.wall, 5)
	was := uint64(1000)
	in.Limits.NextBoot = &was
	s.add(in).pass(time.Second).add(&record.Action{What: record.ActionPersist, Result: record.ResultApplied, To: 2048})
	if got := build(t, s.source()).Incidents[0].nextBoot(); *got != 2048 {
		t.Errorf("the next boot sets %d, want 2048", *got)
	}
	s.pass(time.Second).add(&record.Action{What: record.ActionUndo, Result: record.ResultApplied, From: 2048, To: 1000})
	if got := build(t, s.source()).Incidents[0].nextBoot(); *got != 1000 {
		t.Errorf("the next boot sets %d after that was taken back, want 1000", *got)
	}
}

// TestFirstLoss: where an incident was open before its first loss, the samples tell when that was.
func TestFirstLoss(t *testing.T) {
	s := newScene(day.Add(time.Hour)).start().sample(netns("a", 7, 960, 0))
	begun := s.wall
	in := s.full(netns("a", 7, 960, 0), "id", record.PhaseOpen, begun, 0)
	in.Trigger = record.TriggerFill
	s.add(in).pass(5 * time.Second).add(&record.Action{What: record.ActionRaiseMax, Result: record.ResultFailed, From: 1000, To: 2000})
	s.pass(5 * time.Second).sample(netns("a", 7, 1000, 30)).pass(2 * time.Second)
	s.add(&record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, From: 1000, To: 524288, NS: in.NS, Cookie: in.Cookie})
	closing := s.full(netns("a", 7, 1000, 30), "id", record.PhaseClose, begun, 30)
	closing.Trigger = record.TriggerFill
	s.pass(time.Second).sample(netns("a", 7, 1000, 30)).add(closing).add(&record.Stop{})
	text := strings.Join(strings.Fields(all(t, build(t, s.source()))["txt"]), " ")
	if want := "ctwatch raised the limit from 1,000 to 524,288, 2 s after the first packet was refused."; !strings.Contains(text, want) {
		t.Errorf("the text lacks %q:\n%s", want, text)
	}
}

// TestElsewhere: what was done outside of incidents is told day by day.
func TestElsewhere(t *testing.T) {
	s := newScene(day.Add(-24 * time.Hour)).start()
	for range 3 {
		s.pass(8 * time.Hour)
		for range 2 {
			s.add(&record.Action{What: record.ActionHook, Result: record.ResultApplied})
		}
	}
	r := build(t, s.source(), func(o *Options) { o.Since = day.Add(-48 * time.Hour) })
	var got []string
	for _, e := range r.elsewhere(clock{time.UTC}).Timeline {
		got = append(got, e.Time+" "+e.Text.String())
	}
	if diff := cmp.Diff([]string{"2026-11-23 08:00:00 The operator's hook ran 4 times.", "2026-11-24 00:00:00 The operator's hook ran 2 times."}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTruce: it is the last of others to lower the limit that ctwatch yields to, and what ends it is told once.
func TestTruce(t *testing.T) {
	other := record.Writer{PID: 3, Comm: "tuned", Unit: "tuned.service"}
	r := &Report{Limits: []record.Limit{
		{Envelope: record.Envelope{Time: day}, Key: conntrack.KeyMax, From: 9, To: 8, Writer: other},
		{Envelope: record.Envelope{Time: day.Add(1)}, Key: conntrack.KeyMax, From: 8, To: 7, Writer: kubeProxy},
		{Envelope: record.Envelope{Time: day.Add(2)}, Key: conntrack.KeyMax, From: 7, To: 6, Writer: record.Writer{PID: 8, Comm: "ctwatch"}},
		{Envelope: record.Envelope{Time: day.Add(3)}, Key: conntrack.KeyBuckets, From: 9, To: 8, Writer: other},
		{Envelope: record.Envelope{Time: day.Add(4)}, Key: conntrack.KeyMax, From: 6, To: 9, Writer: other},
		{Envelope: record.Envelope{Time: day.Add(9)}, Key: conntrack.KeyMax, From: 9, To: 1, Writer: other},
	}}
	a := record.Action{Envelope: record.Envelope{Time: day.Add(5)}, What: record.ActionRaiseMax, Result: record.ResultYielded}
	setting := rival.Of(kubeProxy).Setting
	if got := r.truce(&Incident{}, &gather([]*record.Action{&a})[0]).String(); !strings.Contains(got, "the quarrel with kube-proxy") || !strings.Contains(got, "resume") {
		t.Errorf("%q", got)
	}
	a.Why = "kube-proxy did it; " + setting
	if got := r.truce(&Incident{}, &gather([]*record.Action{&a})[0]).String(); got != "" {
		t.Errorf("what the reason says is told again: %q", got)
	}
	if got := (&Report{}).truce(&Incident{}, &gather([]*record.Action{&a})[0]).String(); !strings.Contains(got, "resume") {
		t.Errorf("nobody on record: %q", got)
	}
}
