package journals

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/journal"
	"github.com/ctwatch/ctwatch/internal/record"
)

// TestActions: a month's journal has actions of all kinds and results that a run records, and a limit that is as before in
// the end.
func TestActions(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, Options{Days: 3, Incidents: 40, NetNS: 10, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	seen, last := map[[2]string]int{}, uint64(limit)
	_, err := journal.Read(context.Background(), dir, journal.Window{}, func(l *journal.Line) error {
		r, err := l.Record()
		switch r := r.(type) {
		case *record.Action:
			seen[[2]string{r.What, r.Result}]++
		case *record.Limit:
			if r.Key != conntrack.KeyMax {
				break
			}
			if r.From != last {
				t.Errorf("at %v the limit goes from %d, and was %d", r.Time, r.From, last)
			}
			last = r.To
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][2]string{
		{record.ActionRaiseMax, record.ResultApplied}, {record.ActionRaiseMax, record.ResultDryRun}, {record.ActionRaiseMax, record.ResultRefused},
		{record.ActionRaiseMax, record.ResultYielded}, {record.ActionRaiseMax, record.ResultFailed}, {record.ActionRaiseBuckets, record.ResultApplied},
		{record.ActionPersist, record.ResultApplied}, {record.ActionPersist, record.ResultFailed}, {record.ActionUndo, record.ResultApplied},
		{record.ActionHook, record.ResultApplied}, {record.ActionHook, record.ResultFailed},
	} {
		if seen[want] == 0 {
			t.Errorf("no action %s that was %s: %v", want[0], want[1], seen)
		}
	}
	if last != limit {
		t.Errorf("the limit is %d in the end", last)
	}
}

// TestWrite: a journal can be read without damage, its incidents are whole, and the same seed makes the same again.
func TestWrite(t *testing.T) {
	o := Options{Days: 2, Incidents: 12, NetNS: 20, Seed: 7}
	dir := t.TempDir()
	if err := Write(dir, o); err != nil {
		t.Fatal(err)
	}
	kinds, phases := map[string]int{}, map[string]int{}
	damage, err := journal.Read(context.Background(), dir, journal.Window{}, func(l *journal.Line) error {
		r, err := l.Record()
		if err != nil {
			return err
		}
		kinds[l.Kind]++
		if in, ok := r.(*record.Incident); ok {
			phases[in.Phase]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(journal.Damage{}, damage); diff != "" {
		t.Errorf("damage (-want +got):\n%s", diff)
	}
	if phases[record.PhaseOpen] != 12 || phases[record.PhaseClose] != 12 || phases[record.PhaseUpdate] < 12 {
		t.Errorf("12 incidents have %v records", phases)
	}
	for _, k := range []string{record.KindStart, record.KindSample, record.KindDrop, record.KindStop} {
		if kinds[k] == 0 {
			t.Errorf("no record of kind %s", k)
		}
	}
	again := t.TempDir()
	if err := Write(again, o); err != nil {
		t.Fatal(err)
	}
	for _, day := range []string{"2026-11-22.jsonl", "2026-11-23.jsonl"} {
		a, errA := os.ReadFile(filepath.Join(dir, day))
		b, errB := os.ReadFile(filepath.Join(again, day))
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("%s is not the same again (%v, %v)", day, errA, errB)
		}
	}
}
