package incident_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/incident"
	"github.com/ctwatch/ctwatch/internal/record"
)

// story feeds an engine with records, one sample a second, and keeps what it says.
type story struct {
	engine *incident.Engine
	boot   time.Duration
	wall   time.Time
	tables map[uint64]*record.NetNS
	lines  *uint64
	out    []*record.Incident
}

func newStory() *story {
	s := &story{boot: time.Hour, wall: time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC), tables: map[uint64]*record.NetNS{}}
	s.engine = incident.New(incident.Options{Lines: func(uint64, bool) *uint64 {
		if s.lines == nil {
			return nil
		}
		n := *s.lines
		return &n
	}})
	s.feed(&record.Start{Buckets: 1024, Max: 1000})
	return s
}

// table is a namespace of the story, with count of max entries.
func (s *story) table(ns, count, limit uint64) *record.NetNS {
	n := s.tables[ns]
	if n == nil {
		n = &record.NetNS{NS: ns, Cookie: ns + 100, Name: fmt.Sprintf("ns%d", ns)}
		s.tables[ns] = n
	}
	fill := float64(count) / float64(limit)
	n.Count, n.Max, n.Fill = &count, &limit, &fill
	return n
}

func (s *story) feed(r record.Record) {
	record.Stamp(r, 1, s.wall, s.boot)
	s.out = append(s.out, s.engine.Record(r)...)
}

// sample takes one of those tables that are listed: all of them in the order of their numbers, if none is named.
func (s *story) sample(after time.Duration, listed ...uint64) {
	s.boot += after
	s.wall = s.wall.Add(after)
	if listed == nil {
		for ns := range s.tables {
			listed = append(listed, ns)
		}
		slices.Sort(listed)
	}
	sample := &record.Sample{Buckets: 1024}
	for _, ns := range listed {
		sample.NetNS = append(sample.NetNS, *s.tables[ns])
	}
	s.feed(sample)
}

// calm lets time pass in which nothing changes.
func (s *story) calm(d time.Duration) {
	for range int(d / time.Second) {
		s.sample(time.Second, []uint64{}...)
	}
}

func (s *story) drop(ns uint64, c conntrack.Cause, src string) {
	s.feed(&record.Drop{NS: ns, Cookie: ns + 100, Cause: c, Src: src, Dst: "192.0.2.1", Proto: "tcp", Dport: 443, Ifname: "eth0"})
}

// phases is what was said, as "open table_full ns1".
func (s *story) phases() []string {
	var out []string
	for _, in := range s.out {
		out = append(out, fmt.Sprintf("%s %s %s", in.Phase, in.Cause, in.Name))
	}
	return out
}

// last is the last that was said of a cause in a namespace.
func (s *story) last(t *testing.T, ns uint64, c conntrack.Cause) *record.Incident {
	t.Helper()
	for _, in := range slices.Backward(s.out) {
		if in.NS == ns && in.Cause == c {
			return in
		}
	}
	t.Fatalf("no incident of %s in %d: %v", c, ns, s.phases())
	return nil
}

func want[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestOneIncident(t *testing.T) {
	s := newStory()
	lines := uint64(7)
	s.lines = &lines
	s.table(1, 500, 1000)
	s.sample(time.Second)
	s.table(1, 980, 1000)
	s.sample(time.Second)
	s.drop(1, conntrack.TableFull, "203.0.113.9")
	s.table(1, 1000, 1000).Drops[conntrack.TableFull] = 300
	s.sample(time.Second)
	s.drop(1, conntrack.TableFull, "203.0.113.9")
	s.drop(1, conntrack.TableFull, "203.0.113.10")
	s.table(1, 1000, 1000).Drops[conntrack.TableFull] = 5300
	s.tables[1].Evicted = 40
	lines = 19
	s.sample(time.Second)
	s.table(1, 990, 1000)
	s.sample(time.Second)
	s.table(1, 100, 1000)
	s.sample(time.Second)
	s.calm(2 * time.Minute)

	want(t, "phases", []string{"open table_full ns1", "update table_full ns1", "close table_full ns1"}, s.phases())
	opened, closed := s.out[0], s.out[2]
	want(t, "drops at the opening", uint64(300), opened.Drops.Total())
	want(t, "id", opened.ID, closed.ID)
	want(t, "drops", uint64(5300), closed.Drops[conntrack.TableFull])
	want(t, "evicted", uint64(40), closed.Evicted)
	want(t, "peak count", uint64(1000), closed.PeakCount)
	want(t, "peak fill", 1.0, closed.PeakFill)
	want(t, "peak rate", 5000.0, closed.PeakDropRate)
	want(t, "time nearly full", 4*time.Second, time.Duration(closed.Above95))
	want(t, "trigger", record.TriggerDrop, closed.Trigger)
	want(t, "limit before", uint64(1000), closed.Limits.Before)
	want(t, "closed", "quiet", closed.Closed)
	want(t, "duration, until something last happened", 2*time.Second, time.Duration(closed.Duration))
	want(t, "ended", closed.Started.Add(2*time.Second), *closed.Ended)
	want(t, "lines logged", uint64(12), *closed.LoggedLines)
	want(t, "packets looked at", uint64(3), closed.Sufferers.Packets)
	want(t, "who suffered", "203.0.113.9", closed.Sufferers.Src[0].Key)
}

func TestUnreadableLogIsNull(t *testing.T) {
	s := newStory()
	s.table(1, 1000, 1000).Drops[conntrack.TableFull] = 3
	s.sample(time.Second)
	if got := s.last(t, 1, conntrack.TableFull).LoggedLines; got != nil {
		t.Errorf("%d lines of a log that cannot be read", *got)
	}
}

func TestCausesAndNamespacesStayApart(t *testing.T) {
	s := newStory()
	s.table(1, 1000, 1000)
	s.table(2, 10, 1000)
	s.sample(time.Second)
	s.tables[1].Drops[conntrack.TableFull] = 10
	s.tables[2].Drops[conntrack.Clash] = 4
	s.sample(time.Second)
	s.tables[2].Drops[conntrack.Clash] = 5
	s.tables[2].Drops[conntrack.ChainTooLong] = 2
	s.tables[2].Drops[conntrack.AllocFailed] = 1
	s.sample(time.Second)
	want(t, "phases", []string{"open table_full ns1", "open clash ns2", "open chain_too_long ns2", "open alloc_failed ns2"}, s.phases())
	s.out = append(s.out, s.engine.Stop("stop")...)
	var all conntrack.Drops
	for _, in := range s.out[4:] {
		want(t, "why closed", "stop", in.Closed)
		all = all.Add(in.Drops)
	}
	want(t, "all refused packets, each once", conntrack.Drops{conntrack.TableFull: 10, conntrack.Clash: 5, conntrack.ChainTooLong: 2, conntrack.AllocFailed: 1}, all)
	want(t, "verdict of clash", record.VerdictPortCollision, s.last(t, 2, conntrack.Clash).VerdictKind)
	want(t, "verdict of chain_too_long", record.VerdictFewBuckets, s.last(t, 2, conntrack.ChainTooLong).VerdictKind)
	want(t, "verdict of alloc_failed", record.VerdictMemoryShort, s.last(t, 2, conntrack.AllocFailed).VerdictKind)
}

func TestFlappingIsFewIncidents(t *testing.T) {
	s := newStory()
	s.table(1, 100, 1000)
	for range 50 {
		s.tables[1].Drops[conntrack.TableFull] += 9
		s.sample(time.Second)
		s.calm(119 * time.Second)
	}
	s.out = append(s.out, s.engine.Stop("stop")...)
	var opened, closed, refused uint64
	for _, in := range s.out {
		switch in.Phase {
		case record.PhaseOpen:
			opened++
		case record.PhaseClose:
			closed++
			refused += in.Drops.Total()
		}
	}
	if opened > 4 || opened == 0 || opened != closed {
		t.Errorf("%d incidents opened and %d closed of one that flaps every two minutes", opened, closed)
	}
	want(t, "refused in all of them", uint64(450), refused)
}

func TestSustainedFillAnnounces(t *testing.T) {
	s := newStory()
	s.table(1, 960, 1000)
	s.sample(time.Second)
	s.calm(9 * time.Second)
	want(t, "phases while it may be a peak", nil, s.phases())
	s.calm(2 * time.Second)
	want(t, "phases", []string{"open table_full ns1"}, s.phases())
	in := s.out[0]
	want(t, "trigger", record.TriggerFill, in.Trigger)
	want(t, "drops", uint64(0), in.Drops.Total())
	want(t, "time nearly full", 10*time.Second, time.Duration(in.Above95))
	s.calm(time.Hour)
	if in := s.last(t, 1, conntrack.TableFull); in.Phase == record.PhaseClose || time.Duration(in.Above95) < time.Hour {
		t.Errorf("%s after an hour nearly full, of which %v were counted", in.Phase, time.Duration(in.Above95))
	}
	s.table(1, 100, 1000)
	s.sample(time.Second)
	s.calm(2 * time.Minute)
	want(t, "phase once there is room again", record.PhaseClose, s.last(t, 1, conntrack.TableFull).Phase)
}

func TestEvictionsAnnounce(t *testing.T) {
	s := newStory()
	s.table(1, 900, 1000).Evicted = 5
	s.sample(time.Second)
	s.calm(time.Minute)
	want(t, "phases after one eviction", nil, s.phases())
	s.tables[1].Evicted = 15
	s.sample(time.Second)
	s.tables[1].Evicted = 45
	s.sample(time.Second)
	want(t, "phases", []string{"open table_full ns1"}, s.phases())
	want(t, "trigger", record.TriggerEvicted, s.out[0].Trigger)
	want(t, "evicted since it was announced", uint64(40), s.out[0].Evicted)
}

func TestUnattributed(t *testing.T) {
	s := newStory()
	s.table(1, 1000, 1000).Unattributed = 4
	s.sample(time.Second)
	s.tables[1].Unattributed = 0 // the program found them
	s.sample(time.Second)
	s.calm(5 * time.Second)
	want(t, "phases once they were found", nil, s.phases())
	s.tables[1].Unattributed = 6
	s.sample(time.Second)
	s.calm(3 * time.Second)
	s.tables[1].Unattributed = 9
	s.sample(time.Second)
	s.out = append(s.out, s.engine.Stop("stop")...)
	in := s.last(t, 1, conntrack.TableFull)
	want(t, "trigger", record.TriggerUnattributed, in.Trigger)
	want(t, "unattributed", uint64(9), in.Unattributed)
	want(t, "drops", uint64(0), in.Drops.Total())

	s.table(2, 10, 1000).Unattributed = 6
	s.sample(time.Second)
	s.calm(3 * time.Second)
	want(t, "verdict where there was room", record.VerdictUnseen, s.last(t, 2, conntrack.Other).VerdictKind)
}

func TestNamespaceGone(t *testing.T) {
	s := newStory()
	s.table(1, 1000, 1000).Drops[conntrack.TableFull] = 3
	s.sample(time.Second)
	s.tables[1].Drops[conntrack.TableFull] = 8
	s.tables[1].Gone = true
	s.sample(time.Second)
	in := s.last(t, 1, conntrack.TableFull)
	want(t, "why closed", "gone", in.Closed)
	want(t, "drops", uint64(8), in.Drops.Total())
	want(t, "open", 0, s.engine.Open())
}

func TestLimitChanges(t *testing.T) {
	s := newStory()
	s.table(1, 900, 1000)
	s.sample(time.Second)
	s.feed(&record.Limit{Key: "nf_conntrack_max", From: 1000, To: 500, Writer: record.Writer{PID: 77, Comm: "kube-proxy\x1b[31m"}})
	s.table(1, 900, 500).Drops[conntrack.TableFull] = 3
	s.sample(time.Second)
	in := s.last(t, 1, conntrack.TableFull)
	want(t, "verdict", record.VerdictLimitLowered, in.VerdictKind)
	want(t, "limit before", uint64(500), in.Limits.Before)
	want(t, "limit after", uint64(500), in.Limits.After)
	want(t, "limit before it was lowered", uint64(1000), in.Changes[0].From)
	s.feed(&record.Limit{Key: "nf_conntrack_max", From: 500, To: 4000})
	in = s.last(t, 1, conntrack.TableFull)
	want(t, "phase", record.PhaseUpdate, in.Phase)
	want(t, "limit after it was raised", uint64(4000), in.Limits.After)
	want(t, "changes", []uint64{500, 4000}, []uint64{in.Changes[0].To, in.Changes[1].To})
}

func TestClockSetBack(t *testing.T) {
	s := newStory()
	s.table(1, 1000, 1000).Drops[conntrack.TableFull] = 3
	s.sample(time.Second)
	s.wall = s.wall.Add(-24 * time.Hour)
	s.tables[1].Drops[conntrack.TableFull] = 4
	s.sample(3 * time.Second)
	s.out = append(s.out, s.engine.Stop("stop")...)
	in := s.last(t, 1, conntrack.TableFull)
	want(t, "duration", 3*time.Second, time.Duration(in.Duration))
}

func TestFillersComeLater(t *testing.T) {
	s := newStory()
	next := uint64(65536)
	s.engine.NextBoot(nil, &next, "nothing sets it")
	s.table(1, 1000, 1000).Drops[conntrack.TableFull] = 3
	s.sample(time.Second)
	want(t, "verdict before anybody looked", record.VerdictFull, s.out[0].VerdictKind)
	got := s.engine.Filled(1, 101, &record.Fillers{Time: s.wall, Walked: 1000, Exact: true, Replied: 0.97, Assured: 0.9}, "")
	want(t, "verdict", record.VerdictLimitTooSmall, got[0].VerdictKind)
	want(t, "next boot", uint64(65536), *got[0].Limits.NextBoot)
	s.tables[1].Drops[conntrack.Clash] = 3
	s.sample(time.Second)
	if s.last(t, 1, conntrack.Clash).Fillers == nil {
		t.Error("an incident that opens right after another knows who fills the table")
	}
	want(t, "for a namespace that nobody knows", 0, len(s.engine.Filled(9, 9, nil, "")))
}
