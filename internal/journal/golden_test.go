package journal

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ctwatch/ctwatch/internal/record"
)

// TestGolden: what version 1 wrote is read for ever. testdata/v1.jsonl is never written anew.
func TestGolden(t *testing.T) {
	text := sampleJournal(t)
	raw, d, err := readText(text)
	if err != nil || d != (Damage{}) || len(raw) != strings.Count(string(text), "\n") {
		t.Fatalf("%d records, %+v, %v", len(raw), d, err)
	}
	seen := map[string]bool{}
	for _, line := range raw {
		r, err := record.Parse([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		seen[r.Head().Kind] = true
		again, err := Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		var want, got map[string]any
		if err := json.Unmarshal([]byte(line), &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &got); err != nil {
			t.Fatal(err)
		}
		contains(t, r.Head().Kind, want, got)
	}
	for _, k := range kinds {
		if !seen[k] {
			t.Errorf("no record of kind %s", k)
		}
	}
}

// contains checks that nothing is lost by reading and writing again: fields may be added, none lost.
func contains(t *testing.T, path string, want, got any) {
	t.Helper()
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for k, v := range w {
			contains(t, path+"."+k, v, g[k])
		}
	case []any:
		g, _ := got.([]any)
		if len(g) != len(w) {
			t.Errorf("%s: %v, want %v", path, got, want)
			return
		}
		for i := range w {
			contains(t, path, w[i], g[i])
		}
	default:
		if got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}
