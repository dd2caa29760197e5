package incident_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// TestGap: time in which nobody looked tells nothing.
func TestGap(t *testing.T) {
	s := newStory()
	s.table(1, 990, 1000)
	s.sample(time.Second)
	s.boot += time.Hour
	s.feed(&record.Gap{Why: "suspend"})
	s.sample(time.Second)
	want(t, "phases after an hour's suspend nearly full", nil, s.phases())
	s.calm(11 * time.Second)
	want(t, "phases", []string{"open table_full ns1"}, s.phases())
	want(t, "time nearly full", 10*time.Second, time.Duration(s.out[0].Above95))

	s.boot += time.Hour
	s.feed(&record.Gap{Why: "suspend"})
	s.table(1, 10, 1000)
	s.sample(time.Second)
	want(t, "phase right after a suspend", record.PhaseUpdate, s.last(t, 1, conntrack.TableFull).Phase)
	s.calm(2 * time.Minute)
	in := s.last(t, 1, conntrack.TableFull)
	want(t, "phase later", record.PhaseClose, in.Phase)
	if d := time.Duration(in.Above95); d > time.Minute {
		t.Errorf("nearly full for %v", d)
	}
}

func TestPeakRate(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []time.Duration // a thousand refused packets each
		want  float64
	}{
		{"in one second", []time.Duration{time.Second}, 1000},
		{"in less, then calm", []time.Duration{200 * time.Millisecond, 200 * time.Millisecond}, 2000},
		{"for long", []time.Duration{time.Second, time.Second, time.Second}, 1000},
		{"rare samples", []time.Duration{10 * time.Second}, 100},
	} {
		s := newStory()
		s.table(1, 1000, 1000)
		s.sample(time.Second)
		for _, d := range c.steps {
			s.tables[1].Drops[conntrack.TableFull] += 1000
			s.sample(d)
		}
		s.calm(3 * time.Second)
		s.out = append(s.out, s.engine.Stop("stop")...)
		want(t, c.name, c.want, s.last(t, 1, conntrack.TableFull).PeakDropRate)
	}
}

// TestOldEvictions: what was evicted long before belongs to no incident.
func TestOldEvictions(t *testing.T) {
	s := newStory()
	s.table(1, 500, 1000).Evicted = 50_000
	s.sample(time.Second)
	s.calm(time.Hour)
	s.tables[1].Drops[conntrack.TableFull] = 3
	s.tables[1].Drops[conntrack.Clash] = 1
	s.tables[1].Evicted += 7
	s.sample(time.Second)
	want(t, "evicted", uint64(7), s.last(t, 1, conntrack.TableFull).Evicted)
	want(t, "evicted meanwhile, beside the clash", uint64(7), s.last(t, 1, conntrack.Clash).Evicted)
}

// TestEvictionsBeforeDrops: what was evicted right before the first packet was refused belongs to the incident.
func TestEvictionsBeforeDrops(t *testing.T) {
	s := newStory()
	s.table(1, 1000, 1000).Evicted = 5
	s.sample(100 * time.Millisecond)
	s.tables[1].Drops[conntrack.TableFull], s.tables[1].Evicted = 3, 9
	s.sample(100 * time.Millisecond)
	want(t, "evicted", uint64(9), s.last(t, 1, conntrack.TableFull).Evicted)
}

// TestRareEvictions: also where samples are rare, evictions that go on announce an incident.
func TestRareEvictions(t *testing.T) {
	s := newStory()
	s.table(1, 900, 1000)
	s.sample(time.Second)
	for range 3 {
		s.tables[1].Evicted += 10
		s.sample(30 * time.Second)
	}
	want(t, "phases", []string{"open table_full ns1", "update table_full ns1"}, s.phases())
	want(t, "evicted", uint64(30), s.last(t, 1, conntrack.TableFull).Evicted)
}

// TestFoundAfterAll: what was unattributed and then found is counted once.
func TestFoundAfterAll(t *testing.T) {
	s := newStory()
	s.table(1, 1000, 1000).Drops[conntrack.Clash] = 1
	s.sample(time.Second)
	s.tables[1].Unattributed = 40
	s.sample(time.Second)
	want(t, "unattributed", uint64(40), s.settle(t, 1, conntrack.Clash).Unattributed)
	s.tables[1].Unattributed = 0
	s.tables[1].Drops[conntrack.TableFull] = 40
	s.sample(time.Second)
	want(t, "unattributed, once it was found", uint64(0), s.settle(t, 1, conntrack.Clash).Unattributed)
	want(t, "drops", uint64(40), s.settle(t, 1, conntrack.TableFull).Drops.Total())
}

// settle waits until the incident is told of again.
func (s *story) settle(t *testing.T, ns uint64, c conntrack.Cause) *record.Incident {
	t.Helper()
	s.engine.Filled(ns, ns+100, nil, "")
	s.out = append(s.out, s.engine.Filled(ns, ns+100, nil, "not today")...)
	return s.last(t, ns, c)
}

// TestLooks: somebody is asked to look into the table when an incident opens, when packets are refused in one that was
// only announced, and again while it goes on.
func TestLooks(t *testing.T) {
	s := newStory()
	asked := func() (n int) {
		for _, ns := range s.engine.Unlooked() {
			n++
			s.engine.Looking(ns.NS, ns.Cookie)
			s.engine.Filled(ns.NS, ns.Cookie, &record.Fillers{Time: s.wall, Walked: 1, Exact: true, Replied: 1}, "")
		}
		return n
	}
	want(t, "looks wanted while calm", 0, asked())
	s.table(1, 990, 1000)
	s.sample(time.Second)
	s.calm(11 * time.Second)
	want(t, "looks wanted when it is announced", 1, asked())
	want(t, "looks wanted after that", 0, asked())
	s.tables[1].Drops[conntrack.TableFull] = 1
	s.sample(time.Second)
	want(t, "looks wanted when packets are refused", 1, asked())
	s.calm(time.Minute)
	want(t, "looks wanted after a minute", 0, asked())
	s.calm(5 * time.Minute)
	want(t, "looks wanted after minutes", 1, asked())
}

// TestInodeAgain: without cookies, a namespace that is gone and one that got its inode may be in one sample.
func TestInodeAgain(t *testing.T) {
	s := newStory()
	n := s.table(1, 1000, 1000)
	n.Cookie = 0
	n.Drops[conntrack.TableFull] = 300
	s.sample(time.Second)
	old := *n
	old.Gone = true
	n.Name, n.Drops[conntrack.TableFull] = "new", 200
	s.boot += time.Second
	s.feed(&record.Sample{Buckets: 1024, NetNS: []record.NetNS{old, *n}})
	s.out = append(s.out, s.engine.Stop("stop")...)
	want(t, "phases", []string{"open table_full ns1", "close table_full ns1", "open table_full new", "close table_full new"}, s.phases())
	want(t, "drops of the old", uint64(300), s.out[1].Drops.Total())
	want(t, "drops of the new", uint64(200), s.out[3].Drops.Total())
}

// TestVerdictsOfLooks judges what looks into tables have found in cases that a lab does not have.
func TestVerdictsOfLooks(t *testing.T) {
	share := func(key string, share, replied, assured float64) []record.Share {
		return []record.Share{{Key: key, Share: share, Replied: replied, Assured: assured}}
	}
	for _, c := range []struct {
		name    string
		fillers record.Fillers
		want    string
		not     string // no text may hold it
	}{
		{"a SYN flood that is answered, from one network", record.Fillers{Replied: 1, State: share("tcp/SYN_RECV", 0.97, 1, 0),
			SrcNet: share("198.51.100.0/24", 0.9, 1, 0), Dst: share("192.0.2.1", 1, 1, 0)}, record.VerdictFloodFew, "may not evict"},
		{"the same from many", record.Fillers{Replied: 1, State: share("tcp/SYN_RECV", 0.97, 1, 0),
			SrcNet: share("198.51.100.0/24", 0.01, 1, 0), Dst: share("192.0.2.1", 1, 1, 0)}, record.VerdictFloodMany, "attacker"},
		{"own clients ask a resolver that is down", record.Fillers{Replied: 0.1, State: share("udp/unreplied", 0.9, 0, 0),
			SrcNet: share("10.244.3.0/24", 0.95, 0.05, 0), Dst: share("10.96.0.10", 0.92, 0.01, 0), Dport: share("udp/53", 0.93, 0, 0)},
			record.VerdictNoAnswer, "dropping or limiting"},
		{"one own client floods the world", record.Fillers{Replied: 0.1, State: share("tcp/SYN_SENT", 0.9, 0, 0),
			SrcNet: share("10.244.3.0/24", 0.95, 0.05, 0), Dst: share("203.0.113.9", 0.01, 0, 0)}, record.VerdictFloodFew, "attacker"},
		{"a proxy in front", record.Fillers{Replied: 0.99, Assured: 0.95, State: share("tcp/ESTABLISHED", 0.9, 1, 1),
			SrcNet: share("10.0.0.0/24", 1, 0.99, 0.95)}, record.VerdictLimitTooSmall, "flood"},
		{"a resolver's answers", record.Fillers{Replied: 0.96, State: share("udp/replied", 0.96, 1, 0), Dport: share("udp/53", 0.96, 1, 0),
			SrcNet: share("10.0.0.0/24", 0.96, 1, 0)}, record.VerdictLimitTooSmall, "attacker"},
	} {
		c.fillers.Walked, c.fillers.Exact = 1000, true
		s := newStory()
		s.table(1, 1000, 1000).Drops[conntrack.TableFull] = 3
		s.sample(time.Second)
		in := s.engine.Filled(1, 101, &c.fillers, "")[0]
		want(t, c.name, c.want, in.VerdictKind)
		for _, text := range slices.Concat(in.Reasons, in.Helps, in.HelpsNot) {
			if strings.Contains(text, c.not) {
				t.Errorf("%s: %q", c.name, text)
			}
		}
	}
}

// TestLimitRestored: a limit that was lowered and is what it was again explains nothing.
func TestLimitRestored(t *testing.T) {
	s := newStory()
	s.table(1, 900, 1000)
	s.sample(time.Second)
	s.feed(&record.Limit{Key: "nf_conntrack_max", From: 1000, To: 500})
	s.feed(&record.Limit{Key: "nf_conntrack_max", From: 500, To: 1000})
	s.table(1, 1000, 1000).Drops[conntrack.TableFull] = 3
	s.sample(time.Second)
	want(t, "verdict", record.VerdictFull, s.last(t, 1, conntrack.TableFull).VerdictKind)
	s.feed(&record.Limit{Key: "nf_conntrack_max", From: 1000, To: 4000})
	s.sample(time.Second, []uint64{}...)
	s.calm(11 * time.Second)
	in := s.last(t, 1, conntrack.TableFull)
	want(t, "limit after it was raised, of a table that nobody read again", uint64(4000), in.Limits.After)
	want(t, "fill at the peak", 1.0, in.PeakFill)
}

// TestWhoLowered: a verdict names who lowered the limit, when that writes, and the setting that ends it; and nobody's text
// stands outside of quotes.
func TestWhoLowered(t *testing.T) {
	for _, c := range []struct {
		writer  record.Writer
		reasons []string // parts of them
		helps   string
	}{
		{record.Writer{PID: 9, Comm: "kube-proxy", Unit: "pod:1"}, []string{`kube-proxy (pid 9, "pod:1") lowered it`, "kube-proxy does so because it sets 32,768"}, "conntrack.maxPerCore: 0"},
		{record.Writer{PID: 9, Comm: "sysctl", Unit: "firewalld.service"}, []string{`firewalld (pid 9, "sysctl", "firewalld.service") lowered it`, "firewalld does so because its line in modprobe.d"}, "`ctwatch limit show`"},
		{record.Writer{PID: 9, Comm: "a\x1bb"}, []string{`"a\x1bb" (pid 9) lowered it`}, "is not known"},
		{record.Writer{}, []string{"somebody who was not seen lowered it"}, "`ctwatch limit show`"},
	} {
		s := newStory()
		s.table(1, 900, 1000)
		s.sample(time.Second)
		s.feed(&record.Limit{Key: "nf_conntrack_max", From: 1000, To: 500, Writer: c.writer})
		s.table(1, 900, 500).Drops[conntrack.TableFull] = 3
		s.sample(time.Second)
		in := s.last(t, 1, conntrack.TableFull)
		want(t, "verdict", record.VerdictLimitLowered, in.VerdictKind)
		for _, part := range c.reasons {
			if !slices.ContainsFunc(in.Reasons, func(r string) bool { return strings.Contains(r, part) }) {
				t.Errorf("%+v: no reason says %q: %q", c.writer, part, in.Reasons)
			}
		}
		if !strings.Contains(in.Helps[0], c.helps) {
			t.Errorf("%+v: what helps is %q, without %q", c.writer, in.Helps[0], c.helps)
		}
		for _, text := range slices.Concat(in.Reasons, in.Helps) {
			if strings.Contains(text, "\x1b") {
				t.Errorf("a control character is in %q", text)
			}
		}
	}
}
