package journal_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/journal"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/test/journals"
)

// TestCalmDay: a day without incidents, with 100 namespaces of which some are active, takes at most 2 MB, and leaves no
// second out.
func TestCalmDay(t *testing.T) {
	dir := t.TempDir()
	if err := journals.Write(dir, journals.Options{Days: 1, Incidents: -1}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "2026-11-23.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a calm day is %d bytes", info.Size())
	if info.Size() > 2e6 {
		t.Errorf("a calm day is %d bytes, want 2 MB at most", info.Size())
	}
	var covered time.Duration
	known := map[uint64]bool{}
	_, err = journal.Read(context.Background(), dir, journal.Window{Kinds: []string{record.KindSample}}, func(l *journal.Line) error {
		r, err := l.Record()
		if err != nil {
			return err
		}
		s := r.(*record.Sample)
		covered += time.Duration(s.Interval)
		for _, n := range s.NetNS {
			known[n.Cookie] = true
		}
		return nil
	})
	if want := 24*time.Hour - time.Second; err != nil || covered != want || len(known) != 100 {
		t.Errorf("the samples cover %v, want %v, and list %d namespaces, want 100 (%v)", covered, want, len(known), err)
	}
}
