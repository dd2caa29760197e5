package hook

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

func TestWorthy(t *testing.T) {
	state := func(id, phase string, lost uint64, verdict string) *record.Incident {
		i := &record.Incident{ID: id, Phase: phase, VerdictKind: verdict}
		i.Drops[conntrack.TableFull] = lost
		return i
	}
	unseen := state("u", record.PhaseUpdate, 0, "")
	unseen.Unattributed = 1
	var f Filter
	for _, c := range []struct {
		what string
		r    record.Record
		want bool
	}{
		{"a sample", &record.Sample{}, false},
		{"a limit", &record.Limit{}, false},
		{"a raise", &record.Action{What: record.ActionRaiseMax}, true},
		{"a refusal to raise", &record.Action{What: record.ActionRaiseMax, Result: record.ResultRefused}, true},
		{"the hook itself", &record.Action{What: record.ActionHook}, false},
		{"the hook's failure", &record.Action{What: record.ActionHook, Result: record.ResultFailed}, false},

		{"opened, nothing lost", state("a", record.PhaseOpen, 0, ""), true},
		{"the same", state("a", record.PhaseUpdate, 0, ""), false},
		{"the first packet", state("a", record.PhaseUpdate, 1, ""), true},
		{"nine", state("a", record.PhaseUpdate, 9, ""), false},
		{"ten times", state("a", record.PhaseUpdate, 10, ""), true},
		{"two steps at once", state("a", record.PhaseUpdate, 54321, ""), true},
		{"less than ten times what was told", state("a", record.PhaseUpdate, 543209, ""), false},
		{"ten times what was told", state("a", record.PhaseUpdate, 543210, ""), true},
		{"a verdict", state("a", record.PhaseUpdate, 543211, record.VerdictFloodFew), true},
		{"the same verdict", state("a", record.PhaseUpdate, 543212, record.VerdictFloodFew), false},
		{"another incident", state("b", record.PhaseOpen, 100, ""), true},
		{"which does not count with the first", state("b", record.PhaseUpdate, 999, ""), false},
		{"another verdict", state("a", record.PhaseUpdate, 543213, record.VerdictLimitTooSmall), true},
		{"closed", state("a", record.PhaseClose, 543213, record.VerdictLimitTooSmall), true},
		{"the most that there can be", state("b", record.PhaseUpdate, 1<<64-1, ""), true},
		{"and again", state("b", record.PhaseUpdate, 1<<64-1, ""), false},
		{"closed, too", state("b", record.PhaseClose, 1<<64-1, ""), true},
		{"an update of one that it did not see open", state("c", record.PhaseUpdate, 0, ""), true},
		{"what the program did not see", unseen, true},
	} {
		if got := f.Worthy(c.r); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
	f.Worthy(state("c", record.PhaseClose, 0, ""))
	f.Worthy(state("u", record.PhaseClose, 0, ""))
	if diff := cmp.Diff(0, len(f.told)); diff != "" {
		t.Errorf("remembers what is closed (-want +got):\n%s", diff)
	}
}

func TestSupersedes(t *testing.T) {
	i := func(id, phase string) record.Record { return &record.Incident{ID: id, Phase: phase} }
	for _, c := range []struct {
		what       string
		r, earlier record.Record
		want       bool
	}{
		{"update of an update", i("a", record.PhaseUpdate), i("a", record.PhaseUpdate), true},
		{"close of an update", i("a", record.PhaseClose), i("a", record.PhaseUpdate), true},
		{"another's", i("b", record.PhaseClose), i("a", record.PhaseUpdate), false},
		{"update of an open", i("a", record.PhaseUpdate), i("a", record.PhaseOpen), false},
		{"close of an open", i("a", record.PhaseClose), i("a", record.PhaseOpen), false},
		{"an action", &record.Action{}, i("a", record.PhaseUpdate), false},
		{"of an action", i("", record.PhaseUpdate), &record.Action{}, false},
	} {
		if got := supersedes(c.r, c.earlier); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}
