package watch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/persist"
	"github.com/ctwatch/ctwatch/internal/record"
)

var (
	low  = conntrack.Limits{Max: 65536, Buckets: 16384}
	high = conntrack.Limits{Max: 262144, Buckets: 16384}
)

const sysctls = "etc/sysctl.d/99-zz-ctwatch.conf"

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// keeping is a keeper of a machine's files, on which high runs.
func keeping(t *testing.T, persists bool) *keeper {
	t.Helper()
	root := t.TempDir()
	noError(t, os.CopyFS(root, os.DirFS(filepath.FromSlash("../../testdata/roots/debian13"))))
	k := newKeeper(Options{Files: root, Persist: persists, Version: "v1.2.3"})
	t.Cleanup(k.close)
	k.now = func() (conntrack.Limits, error) { return high, nil }
	return k
}

// became is the next that a keeper tells.
func became(t *testing.T, k *keeper) *record.Action {
	t.Helper()
	select {
	case a := <-k.done:
		return a
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was told")
		return nil
	}
}

// TestKeepsBuckets: a raise of max leaves buckets in the files that are there already.
func TestKeepsBuckets(t *testing.T) {
	k := keeping(t, true)
	_, err := persist.Persist(k.o, persist.Limits{Max: 131072, Buckets: 131072})
	noError(t, err)
	k.keep(low, high)
	if a := became(t, k); a.Result != record.ResultApplied || a.From != low.Max || a.To != high.Max {
		t.Fatalf("became %+v", a)
	}
	text, err := os.ReadFile(filepath.Join(k.o.Root, sysctls))
	noError(t, err)
	for _, line := range []string{"nf_conntrack_max = 262144\n", "nf_conntrack_buckets = 131072\n"} {
		if !strings.Contains(string(text), line) {
			t.Errorf("no %q in:\n%s", line, text)
		}
	}
}

// TestOutdated: what does not run any more is not written, but can be undone.
func TestOutdated(t *testing.T) {
	for name, c := range map[string]struct {
		to, now conntrack.Limits
		err     error
		why     string
	}{
		"max":     {to: high, now: low, why: "the limit is 65,536 now, and not the 262,144 that it was raised to"},
		"buckets": {to: conntrack.Limits{Max: high.Max, Buckets: 65536}, now: high, why: "there are 16,384 buckets now, and not the 65,536"},
		"unknown": {to: high, err: errors.New("unloaded"), why: "what runs now is not known: unloaded"},
	} {
		t.Run(name, func(t *testing.T) {
			k := keeping(t, true)
			k.now = func() (conntrack.Limits, error) { return c.now, c.err }
			k.keep(low, c.to)
			if a := became(t, k); a.Result != record.ResultRefused || !strings.Contains(a.Why, c.why) {
				t.Errorf("want refused, for %s; became %+v", c.why, a)
			}
			if _, err := os.Stat(filepath.Join(k.o.Root, sysctls)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a file was written: %v", err)
			}
			if set, err := persist.Last(k.o); err != nil || set.Max != (persist.Step{From: low.Max, To: high.Max}) {
				t.Errorf("to be undone: %+v, %v", set, err)
			}
		})
	}
}

// TestOutdatedBucketsOfOthers: buckets that the raise did not change are nobody's business.
func TestOutdatedBucketsOfOthers(t *testing.T) {
	k := keeping(t, true)
	k.now = func() (conntrack.Limits, error) { return conntrack.Limits{Max: high.Max, Buckets: 999}, nil }
	k.keep(low, high)
	if a := became(t, k); a.Result != record.ResultApplied {
		t.Errorf("became %+v", a)
	}
}

// TestKeepsNothing: what changed nothing is no raise.
func TestKeepsNothing(t *testing.T) {
	k := keeping(t, true)
	same := high
	same.ExpectMax = 1
	k.keep(high, same)
	k.close()
	for a := range k.done {
		t.Errorf("told %+v", a)
	}
	if _, err := persist.Last(k.o); !errors.Is(err, persist.ErrNothing) {
		t.Errorf("something was stored: %v", err)
	}
}

// TestKeepsAll: however many raises there are while the disk is slow, and nobody listens, each is kept.
func TestKeepsAll(t *testing.T) {
	k := keeping(t, true)
	k.patience = time.Minute
	free := hang(t, k)
	const raises = 100
	for range raises {
		k.keep(low, high)
	}
	free()
	k.close()
	n := 0
	for a := range k.done {
		if n++; a.Result != record.ResultApplied {
			t.Errorf("became %+v", a)
		}
	}
	if n != raises {
		t.Errorf("%d of %d raises were told", n, raises)
	}
}

// TestGivesUp: a disk that hangs does not keep a run from ending, and what was not kept is told.
func TestGivesUp(t *testing.T) {
	for _, persists := range []bool{false, true} {
		k := keeping(t, persists)
		k.patience = 50 * time.Millisecond
		free := hang(t, k)
		k.keep(low, high)
		k.keep(high, low)
		begun := time.Now()
		k.close()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("closing took %v", took)
		}
		var told []*record.Action
		for a := range k.done {
			if told = append(told, a); a.Result != record.ResultFailed || !strings.Contains(a.Why, "the disk did not answer within 50ms") {
				t.Errorf("became %+v", a)
			}
		}
		if len(told) != 2 || told[0].To != high.Max || told[1].To != low.Max ||
			!strings.Contains(told[0].Why, "is not known") || !strings.Contains(told[1].Why, "still waited") ||
			strings.Contains(told[0].Why, "reboot") != persists {
			t.Errorf("told %+v", told)
		}
		free()
		select {
		case <-k.ended:
		case <-time.After(10 * time.Second):
			t.Error("the keeper still waits for somebody")
		}
	}
}

// hang has everything that is done to the backups wait until it is freed.
func hang(t *testing.T, k *keeper) (free func()) {
	t.Helper()
	c, err := persist.Begin(k.o, persist.Set{}) // so that there is a directory
	noError(t, err)
	noError(t, c.Cancel())
	f, err := os.Open(filepath.Join(k.o.Root, "var/lib/ctwatch/backup"))
	noError(t, err)
	noError(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	return func() { f.Close() }
}
