package report

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden: an incident that a real kernel had, in the records of its run, makes the reports that are in testdata.
func TestGolden(t *testing.T) {
	source := fileSource(t, filepath.Join("testdata", "incident.jsonl"))
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	f, err := Find(t.Context(), source, time.Time{}, now, now, Last)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Build(t.Context(), source, Options{Since: f.Since, Until: f.Until, Now: now, Incident: f.ID})
	if err != nil {
		t.Fatal(err)
	}
	for format, got := range all(t, r) {
		path := filepath.Join("testdata", "incident."+format)
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
}
