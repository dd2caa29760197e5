package watch_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/watch"
	"github.com/ctwatch/ctwatch/test/need"
)

// TestConntrackComesAndGoes: run waits while conntrack is not loaded, lets go of everything when it is unloaded, and
// begins again when it is back.
func TestConntrackComesAndGoes(t *testing.T) {
	need.Root(t)
	root := t.TempDir()
	dir := filepath.Join(root, "proc/sys/net/netfilter")
	load := func() {
		t.Helper()
		must(t, os.MkdirAll(dir, 0o755))
		for _, f := range []struct{ name, text string }{
			{"nf_conntrack_max", "1000\n"}, {"nf_conntrack_buckets", "512\n"}, {"nf_conntrack_expect_max", "8\n"},
			{"nf_conntrack_count", "0\n"}, // last: it says that all is there
		} {
			must(t, os.WriteFile(filepath.Join(dir, f.name), []byte(f.text), 0o644))
		}
	}
	must(t, os.MkdirAll(filepath.Join(root, "proc/1"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "proc/1/mountinfo"), nil, 0o644))

	starts := func(s *session) (starts []*record.Start) {
		for _, r := range s.records {
			if start, ok := r.(*record.Start); ok {
				starts = append(starts, start)
			}
		}
		return starts
	}
	s := watching(t, watch.Options{Root: root, Probe: loader.Tracepoint, Interval: 10 * time.Millisecond})
	counting := func(nth int) {
		t.Helper()
		n := 0
		s.await("a start that counts", func(r record.Record) bool {
			if start, ok := r.(*record.Start); ok && start.Probe == loader.Tracepoint {
				n++
			}
			return n == nth
		})
	}
	load()
	counting(1)
	must(t, os.Remove(filepath.Join(dir, "nf_conntrack_count")))
	s.awaitNotice("unloaded")
	load()
	counting(2)
	s.stop()

	if got := starts(s); len(got) != 3 || got[0].Probe != "" || got[1].Max != 1000 || got[1].Buckets != 512 {
		t.Errorf("%d start records, the first with probe %q", len(got), got[0].Probe)
	}
	gaps := 0
	for _, r := range s.records {
		if gap, ok := r.(*record.Gap); ok && gap.Why == "restart" && gap.From.Before(gap.To) {
			gaps++
		}
	}
	if gaps != 1 {
		t.Errorf("%d gaps told of", gaps)
	}
}
