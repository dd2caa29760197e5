package metrics

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

var update = flag.Bool("update", false, "write the golden files")

const allCounters = conntrack.CounterSet(1<<conntrack.NumCounters - 1)

// story feeds a State, a record a second.
type story struct {
	t     *testing.T
	state *State
	boot  time.Duration
	seq   uint64
}

func newStory(t *testing.T) *story { return &story{t: t, state: New("v1.2.3"), boot: time.Hour} }

func (s *story) tell(r record.Record) {
	s.t.Helper()
	s.boot += time.Second
	s.seq++
	record.Stamp(r, s.seq, time.Unix(0, 0), s.boot)
	if err := s.state.Record(r); err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) sample(netns ...record.NetNS) {
	s.t.Helper()
	s.tell(&record.Sample{Buckets: 65536, NetNS: netns})
}

// netns is what a sample says of a namespace with count of max entries.
func netns(inode uint64, name string, count, max uint64, drops conntrack.Drops, evicted uint64) record.NetNS {
	fill := float64(count) / float64(max)
	return record.NetNS{NS: inode, Cookie: inode + 1000, Name: name, Count: &count, Max: &max, Fill: &fill, Drops: drops, Evicted: evicted}
}

func host(count uint64, drops conntrack.Drops) record.NetNS {
	n := netns(1, "host", count, 262144, drops, 0)
	n.Host = true
	return n
}

func gone(n record.NetNS) record.NetNS {
	n.Gone, n.Count, n.Max, n.Fill = true, nil, nil, nil
	return n
}

func full(n uint64) (d conntrack.Drops) {
	d[conntrack.TableFull] = n
	return d
}

// scrape returns the series that have one of these words in them, as name{labels} and value.
func scrape(t *testing.T, s *State, words ...string) map[string]string {
	t.Helper()
	text, err := s.text()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		for _, w := range words {
			if strings.Contains(line, w) {
				found[strings.TrimPrefix(line[:i], "ctwatch_")] = line[i+1:]
			}
		}
	}
	return found
}

func check(t *testing.T, s *State, words []string, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, scrape(t, s, words...)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestAll shows every metric, as operators see it.
func TestAll(t *testing.T) {
	s := newStory(t)
	s.tell(&record.Start{Version: "v1.2.3", Probe: "fexit", Buckets: 65536, Max: 262144})
	s.sample(host(100000, conntrack.Drops{}), netns(7, "blue", 10, 100, conntrack.Drops{}, 0))
	for i := range uint64(5) {
		n := netns(7, "blue", 10+10*i, 100, full(i), 2*i)
		n.Unattributed = i
		s.tell(&record.Sample{Buckets: 65536, Lost: i, Unattributed: i, NetNS: []record.NetNS{n}})
	}
	s.tell(&record.Incident{Phase: record.PhaseOpen, ID: "1", NS: 7, Cookie: 1007, Name: "blue", Cause: conntrack.TableFull})
	s.tell(&record.Incident{Phase: record.PhaseOpen, ID: "2", NS: 1, Cookie: 1001, Host: true, Cause: conntrack.Clash})
	s.tell(&record.Incident{Phase: record.PhaseUpdate, ID: "1", NS: 7, Cookie: 1007, Name: "blue", Cause: conntrack.TableFull})
	s.tell(&record.Incident{Phase: record.PhaseClose, ID: "2", NS: 1, Cookie: 1001, Host: true, Cause: conntrack.Clash})
	s.tell(&record.Action{What: "raise_max", From: 262144, To: 524288, Result: "applied"})
	s.tell(&record.Limit{Key: "nf_conntrack_max", From: 524288, To: 262144, Writer: record.Writer{PID: 9, Comm: "k3s-server", Unit: "k3s.service"}})
	s.tell(&record.Gap{Why: "blind"})
	var totals conntrack.Totals
	totals[conntrack.CounterDrop], totals[conntrack.CounterEarlyDrop], totals[conntrack.CounterFound] = 4, 8, 1<<40
	s.state.Kernel(ID{7, 1007}, totals, allCounters)
	s.state.Kernel(ID{1, 1001}, conntrack.Totals{}, 1<<conntrack.CounterDrop)
	limit := uint64(131072)
	s.state.PersistedLimit(&limit)
	s.state.JournalLost(3)

	got, err := s.state.text()
	if err != nil {
		t.Fatal(err)
	}
	got = regexp.MustCompile(`goarch="[^"]*",goversion="[^"]*"`).ReplaceAll(got, []byte(`goarch="GOARCH",goversion="GOVERSION"`))
	const golden = "testdata/all.prom"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestBeforeTheFirstRecord(t *testing.T) {
	s := New("v")
	check(t, s, []string{"ctwatch_drops_total{", "probe", "ctwatch_buckets", "persisted"}, map[string]string{
		`drops_total{cause="table_full",netns="host"}`: "0", `drops_total{cause="table_full",netns="other"}`: "0",
		`drops_total{cause="clash",netns="host"}`: "0", `drops_total{cause="clash",netns="other"}`: "0",
		`drops_total{cause="chain_too_long",netns="host"}`: "0", `drops_total{cause="chain_too_long",netns="other"}`: "0",
		`drops_total{cause="insert_race",netns="host"}`: "0", `drops_total{cause="insert_race",netns="other"}`: "0",
		`drops_total{cause="alloc_failed",netns="host"}`: "0", `drops_total{cause="alloc_failed",netns="other"}`: "0",
		`drops_total{cause="other",netns="host"}`: "0", `drops_total{cause="other",netns="other"}`: "0",
		`probe_blind`: "0",
	})
}

func TestGoneNamespaceStaysCounted(t *testing.T) {
	s := newStory(t)
	s.sample(host(5, full(1)), netns(7, "blue", 10, 100, full(2), 0))
	s.sample(gone(netns(7, "blue", 0, 100, full(5), 0)))
	words := []string{`drops_total{cause="table_full"`, "entries{", "seconds_to_full{"}
	check(t, s.state, words, map[string]string{
		`drops_total{cause="table_full",netns="host"}`:  "1",
		`drops_total{cause="table_full",netns="blue"}`:  "5",
		`drops_total{cause="table_full",netns="other"}`: "0",
		`entries{netns="host"}`:                         "5", `entries{netns="other"}`: "0",
		`seconds_to_full{netns="host"}`: "+Inf", `seconds_to_full{netns="other"}`: "+Inf",
	})
	// What comes after it under its name goes on from there; one of another name does not, though it has the inode.
	s.sample(netns(8, "blue", 10, 100, full(1), 0), netns(7, "red", 10, 100, conntrack.Drops{}, 0))
	check(t, s.state, words[:2], map[string]string{
		`drops_total{cause="table_full",netns="host"}`:  "1",
		`drops_total{cause="table_full",netns="blue"}`:  "6",
		`drops_total{cause="table_full",netns="red"}`:   "0",
		`drops_total{cause="table_full",netns="other"}`: "0",
		`entries{netns="host"}`:                         "5", `entries{netns="other"}`: "0",
		`entries{netns="blue"}`: "10", `entries{netns="red"}`: "10",
	})
}

func TestNames(t *testing.T) {
	s := newStory(t)
	s.sample(host(1, full(1)),
		netns(2, "blue", 2, 100, full(2), 0), netns(3, "blue", 3, 100, full(3), 0), // two of one name
		netns(4, "host", 4, 100, full(4), 0), netns(5, "other", 5, 100, full(5), 0),
		netns(6, "", 6, 100, full(6), 0), netns(7, "6", 7, 100, full(7), 0), // a name that is another's number
		netns(8, "\x1b]0;x\a<script>\"\n\xff", 8, 100, full(8), 0))
	got := scrape(t, s.state, "entries{")
	want := map[string]string{
		`entries{netns="host"}`: "1", `entries{netns="blue (2)"}`: "2", `entries{netns="blue"}`: "3",
		`entries{netns="host (4)"}`: "4", `entries{netns="other (5)"}`: "5", `entries{netns="6 (6)"}`: "6", `entries{netns="6"}`: "7",
		`entries{netns="�]0;x�<script>\"��"}`: "8", `entries{netns="other"}`: "0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestRenamed(t *testing.T) {
	s := newStory(t)
	s.sample(netns(7, "", 1, 100, full(2), 0))
	s.sample(netns(7, "blue", 1, 100, full(3), 0))
	s.sample(netns(7, "blue", 1, 100, full(7), 0))
	check(t, s.state, []string{`drops_total{cause="table_full"`}, map[string]string{
		`drops_total{cause="table_full",netns="host"}`:  "0",
		`drops_total{cause="table_full",netns="7"}`:     "3",
		`drops_total{cause="table_full",netns="blue"}`:  "4",
		`drops_total{cause="table_full",netns="other"}`: "0",
	})
}

// A namespace may be listed before its cookie is known. It is the same one after, and counted once.
func TestCookieComesLater(t *testing.T) {
	s := newStory(t)
	n := netns(7, "blue", 1, 100, full(2), 0)
	n.Cookie = 0
	s.sample(n)
	s.sample(netns(7, "blue", 1, 100, full(3), 0))
	want := map[string]string{
		`drops_total{cause="table_full",netns="host"}`:  "0",
		`drops_total{cause="table_full",netns="blue"}`:  "3",
		`drops_total{cause="table_full",netns="other"}`: "0",
	}
	check(t, s.state, []string{`drops_total{cause="table_full"`}, want)

	// Unless it is said to be gone: then its inode is another's.
	s.sample(gone(netns(7, "blue", 0, 100, full(3), 0)), netns(7, "red", 1, 100, full(9), 0))
	want[`drops_total{cause="table_full",netns="red"}`] = "9"
	check(t, s.state, []string{`drops_total{cause="table_full"`}, want)
}

// Who had trouble is shown by name, whoever was there first.
func TestTroubleComesFirst(t *testing.T) {
	s := newStory(t)
	var calm []record.NetNS
	for i := range uint64(20) {
		calm = append(calm, netns(100+i, fmt.Sprint("calm", i), 1+i%10, 1000, conntrack.Drops{}, 0))
	}
	s.sample(calm...)
	if got := scrape(t, s.state, "evicted_total{"); len(got) != 10 || got[`evicted_total{netns="calm19"}`] != "0" || got[`evicted_total{netns="calm0"}`] != "" {
		t.Errorf("the largest do not come first: %v", got)
	}
	s.sample(netns(100, "calm0", 1, 1000, conntrack.Drops{}, 3), netns(200, "filling", 900, 1000, conntrack.Drops{}, 0))
	got := scrape(t, s.state, "evicted_total{", "entries{")
	if len(got) != 19 || got[`entries{netns="filling"}`] != "900" || got[`entries{netns="calm19"}`] != "10" || got[`evicted_total{netns="other"}`] != "3" || got[`evicted_total{netns="calm0"}`] != "0" {
		t.Errorf("those in trouble are not shown by name, or not from now on: %v", got)
	}
	s.sample(netns(100, "calm0", 1, 1000, conntrack.Drops{}, 4))
	check(t, s.state, []string{`evicted_total{netns="calm0"}`, `evicted_total{netns="other"}`}, map[string]string{
		`evicted_total{netns="calm0"}`: "1", `evicted_total{netns="other"}`: "3",
	})
}

// The drops of a namespace that is gone are no new drops elsewhere, while there is room.
func TestOldDropsStayWhereTheyAre(t *testing.T) {
	s := newStory(t)
	s.sample(netns(7, "blue", 1, 100, full(5), 0))
	s.sample(gone(netns(7, "blue", 1, 100, full(5), 0)))
	for i := range uint64(100) {
		s.sample(netns(100+i, fmt.Sprint("pod", i), 1, 100, conntrack.Drops{}, 0))
	}
	words := []string{`drops_total{cause="table_full",netns="blue"`, `drops_total{cause="table_full",netns="other"`}
	check(t, s.state, words, map[string]string{
		`drops_total{cause="table_full",netns="blue"}`: "5", `drops_total{cause="table_full",netns="other"}`: "0",
	})
	for i := range uint64(8) { // eight in trouble need all there is
		s.sample(netns(300+i, fmt.Sprint("bad", i), 90, 100, conntrack.Drops{}, 0))
	}
	check(t, s.state, words, map[string]string{`drops_total{cause="table_full",netns="other"}`: "5"})
}

func TestIncidents(t *testing.T) {
	s := newStory(t)
	incident := func(phase, id string, ns uint64, host bool) {
		s.tell(&record.Incident{Phase: phase, ID: id, NS: ns, Cookie: ns + 1000, Host: host, Cause: conntrack.TableFull})
	}
	words := []string{`incident_active{cause="table_full"`, `incidents_total{cause="table_full"`}
	incident(record.PhaseOpen, "early", 1, true) // no sample yet
	s.sample(host(1, conntrack.Drops{}), netns(7, "blue", 1, 100, conntrack.Drops{}, 0))
	incident(record.PhaseOpen, "a", 7, false)
	incident(record.PhaseUpdate, "a", 7, false)
	incident(record.PhaseOpen, "stranger", 99, false)
	incident(record.PhaseClose, "stranger", 99, false)
	incident(record.PhaseClose, "opening was lost", 7, false)
	check(t, s.state, words, map[string]string{
		`incident_active{cause="table_full",netns="host"}`: "1", `incidents_total{cause="table_full",netns="host"}`: "1",
		`incident_active{cause="table_full",netns="blue"}`: "1", `incidents_total{cause="table_full",netns="blue"}`: "2",
		`incident_active{cause="table_full",netns="other"}`: "0", `incidents_total{cause="table_full",netns="other"}`: "1",
	})
	incident(record.PhaseClose, "a", 7, false)
	incident(record.PhaseClose, "early", 1, true)
	check(t, s.state, words, map[string]string{
		`incident_active{cause="table_full",netns="host"}`: "0", `incidents_total{cause="table_full",netns="host"}`: "1",
		`incident_active{cause="table_full",netns="blue"}`: "0", `incidents_total{cause="table_full",netns="blue"}`: "2",
		`incident_active{cause="table_full",netns="other"}`: "0", `incidents_total{cause="table_full",netns="other"}`: "1",
	})
}

func TestBlindForAWhile(t *testing.T) {
	s := newStory(t)
	blind := func() string { return scrape(t, s.state, "probe_blind")["probe_blind"] }
	s.tell(&record.Gap{Why: "suspend"})
	if got := blind(); got != "0" {
		t.Errorf("blind is %s after a suspend", got)
	}
	s.tell(&record.Gap{Why: "blind"})
	if got := blind(); got != "1" {
		t.Errorf("blind is %s", got)
	}
	s.boot += blindFor
	s.sample()
	if got := blind(); got != "0" {
		t.Errorf("blind is %s long after", got)
	}
}

func TestCountersDoNotGoBack(t *testing.T) {
	s := newStory(t)
	s.tell(&record.Sample{Lost: 5, Unattributed: 7})
	s.tell(&record.Sample{Lost: 5, Unattributed: 3}) // some turned out to be seen after all
	s.state.JournalLost(2)
	s.state.JournalLost(1)
	s.sample(netns(7, "blue", 1, 100, full(5), 0))
	s.sample(netns(7, "blue", 1, 100, full(2), 0)) // began anew
	check(t, s.state, []string{"lost_total", "unattributed", `table_full",netns="blue"`}, map[string]string{
		"events_lost_total": "5", "unattributed_drops_total": "7", "journal_records_lost_total": "2",
		`drops_total{cause="table_full",netns="blue"}`: "7",
	})
}

func TestUnknownWordsAreErrors(t *testing.T) {
	s := New("v")
	for _, r := range []record.Record{
		&record.Action{What: "reboot", Result: "applied"},
		&record.Action{What: "raise_max", Result: "<script>"},
		&record.Incident{ID: "1", Cause: conntrack.Cause(conntrack.NumCauses)},
		new(record.Envelope),
	} {
		if err := s.Record(r); err == nil {
			t.Errorf("%T: no error", r)
		}
	}
}
