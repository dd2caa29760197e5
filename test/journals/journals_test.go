package journals

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/journal"
	"github.com/ctwatch/ctwatch/internal/record"
)

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
