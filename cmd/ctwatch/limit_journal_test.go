package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/record"
)

var today = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// keepJournal writes records into a machine's journal, each so many minutes before noon of today.
func keepJournal(t *testing.T, records map[int][]record.Record) (root string) {
	t.Helper()
	root = t.TempDir()
	dir := filepath.Join(root, journalDir)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	days := map[string]string{}
	most := 0
	for ago := range records {
		most = max(most, ago)
	}
	seq := uint64(0)
	for ago := most; ago >= 0; ago-- {
		at := today.Add(-time.Duration(ago) * time.Minute)
		for _, r := range records[ago] {
			seq++
			record.Stamp(r, seq, at, time.Hour)
			line, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			days[at.Format(time.DateOnly)] += string(line) + "\n"
		}
	}
	for day, text := range days {
		if err := os.WriteFile(filepath.Join(dir, day+".jsonl"), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func sampled(ns, cookie, count uint64) *record.Sample {
	return &record.Sample{NetNS: []record.NetNS{{NS: ns, Cookie: cookie, Name: "host", Count: &count}}}
}

func incidentOf(id, phase, verdict string, ns, cookie, peak uint64, startedAgo int) *record.Incident {
	i := &record.Incident{ID: id, Phase: phase, VerdictKind: verdict, NS: ns, Cookie: cookie, Name: "host", PeakCount: peak,
		Started: today.Add(-time.Duration(startedAgo) * time.Minute)}
	if phase == record.PhaseClose {
		ended := i.Started.Add(5 * time.Minute)
		i.Ended = &ended
	}
	return i
}

func TestReadPeak(t *testing.T) {
	const day = 24 * 60
	real, few, many := record.VerdictLimitTooSmall, record.VerdictFloodFew, record.VerdictFloodMany
	for _, c := range []struct {
		name    string
		records map[int][]record.Record
		count   uint64 // 0: there is none
		ago     int    // minutes
		id      string // of the incident
		floods  string
	}{
		{name: "nothing"},
		{name: "samples", records: map[int][]record.Record{300: {sampled(1, 1, 100)}, 200: {sampled(1, 1, 900)}, 100: {sampled(1, 1, 200)}}, count: 900, ago: 200},
		{name: "more than a week ago", records: map[int][]record.Record{8 * day: {sampled(1, 1, 5000)}, 6 * day: {sampled(1, 1, 900)}}, count: 900, ago: 6 * day},
		{name: "an incident is exact", records: map[int][]record.Record{100: {sampled(1, 1, 900), incidentOf("i", "open", real, 1, 1, 901, 100)},
			90: {incidentOf("i", "close", real, 1, 1, 1000, 100)}}, count: 1000, ago: 100, id: "i"},
		{name: "a flood does not count", records: map[int][]record.Record{
			300: {sampled(1, 1, 700)},
			100: {sampled(1, 1, 9000), incidentOf("f", "open", few, 1, 1, 9000, 100)}, 97: {sampled(1, 1, 9100)}, 95: {incidentOf("f", "close", few, 1, 1, 9200, 100)},
			50: {sampled(1, 1, 800)}}, count: 800, ago: 50, floods: "f"},
		{name: "nor does what it filled before it was seen, and after", records: map[int][]record.Record{
			104: {sampled(1, 1, 4000)}, 100: {incidentOf("f", "open", few, 1, 1, 9000, 100)}, 95: {incidentOf("f", "close", few, 1, 1, 9200, 100)},
			91: {sampled(1, 1, 5000)}, 50: {sampled(1, 1, 800)}}, count: 800, ago: 50, floods: "f"},
		{name: "in another namespace at the same time", records: map[int][]record.Record{
			100: {incidentOf("f", "open", many, 1, 1, 9000, 100)}, 97: {sampled(2, 7, 500), sampled(1, 3, 400)}, 95: {incidentOf("f", "close", many, 1, 1, 9200, 100)}},
			count: 500, ago: 97, floods: "f"},
		{name: "a flood that goes on", records: map[int][]record.Record{300: {sampled(1, 1, 700)}, 100: {incidentOf("f", "open", few, 1, 1, 9000, 100)}, 1: {sampled(1, 1, 9100)}},
			count: 700, ago: 300, floods: "f"},
		{name: "a flood that a new run knows nothing of", records: map[int][]record.Record{100: {incidentOf("f", "update", few, 1, 1, 9000, 100)}, 60: {&record.Start{}}, 1: {sampled(1, 1, 600)}},
			count: 600, ago: 1, floods: "f"},
		{name: "what looked like a flood at first", records: map[int][]record.Record{100: {incidentOf("i", "open", few, 1, 1, 800, 100)}, 90: {incidentOf("i", "close", real, 1, 1, 1000, 100)}},
			count: 1000, ago: 100, id: "i"},
		{name: "a table that could not be read", records: map[int][]record.Record{100: {&record.Sample{NetNS: []record.NetNS{{NS: 1}}}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := keepJournal(t, c.records)
			got, floods, err := readPeak(t.Context(), root, today)
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, f := range floods {
				ids = append(ids, f.id)
			}
			if diff := cmp.Diff(c.floods, strings.Join(ids, " ")); diff != "" {
				t.Errorf("floods (-want +got):\n%s", diff)
			}
			if c.count == 0 {
				if got != nil {
					t.Errorf("%+v, want none", got)
				}
				return
			}
			if got == nil || got.Count != c.count || !got.Time.Equal(today.Add(-time.Duration(c.ago)*time.Minute)) || got.Incident != c.id {
				t.Errorf("%+v, want %d, %d minutes ago, incident %q", got, c.count, c.ago, c.id)
			}
		})
	}
	if got, _, err := readPeak(t.Context(), t.TempDir(), today); got != nil || err != nil {
		t.Errorf("without a journal: %+v, %v", got, err)
	}
}

func TestReadDeeds(t *testing.T) {
	yielded := func() *record.Action {
		return &record.Action{What: record.ActionRaiseMax, Result: record.ResultYielded, Why: "kube-proxy"}
	}
	applied := func(to uint64) *record.Action {
		return &record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, To: to}
	}
	ago := func(minutes int) *time.Time { at := today.Add(-time.Duration(minutes) * time.Minute); return &at }
	for _, c := range []struct {
		name    string
		records map[int][]record.Record
		resumed *time.Time
		actions []uint64 // what they set max to
		yields  bool
		changed uint64
	}{
		{name: "nothing"},
		{name: "the last three", records: map[int][]record.Record{50: {applied(1)}, 40: {applied(2)}, 30: {applied(3)}, 20: {applied(4)}}, actions: []uint64{2, 3, 4}},
		{name: "it yields", records: map[int][]record.Record{50: {applied(1)}, 40: {&record.Limit{To: 9}, yielded()}}, actions: []uint64{1, 0}, yields: true, changed: 9},
		{name: "it yielded until somebody resumed", records: map[int][]record.Record{40: {yielded()}}, resumed: ago(30), actions: []uint64{0}},
		{name: "it yields again", records: map[int][]record.Record{40: {yielded()}}, resumed: ago(50), actions: []uint64{0}, yields: true},
		{name: "it yielded until it was started again", records: map[int][]record.Record{40: {yielded()}, 30: {&record.Start{}}}, actions: []uint64{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := readDeeds(t.Context(), keepJournal(t, c.records), today, c.resumed)
			if err != nil {
				t.Fatal(err)
			}
			var actions []uint64
			for _, a := range d.actions {
				actions = append(actions, a.To)
			}
			if diff := cmp.Diff(c.actions, actions); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if (d.yielded != nil) != c.yields {
				t.Errorf("yields: %+v, want %v", d.yielded, c.yields)
			}
			if changed := d.changed; (changed == nil) != (c.changed == 0) || changed != nil && changed.To != c.changed {
				t.Errorf("changed: %+v, want to %d", changed, c.changed)
			}
		})
	}
}
