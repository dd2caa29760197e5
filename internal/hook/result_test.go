package hook

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/record"
)

func TestAction(t *testing.T) {
	i := &record.Incident{Phase: record.PhaseOpen, ID: "20261125-030405-00ff", NS: 1, Cookie: 2, Name: "n"}
	for _, c := range []struct {
		name   string
		result Result
		failed bool
		why    string
	}{
		{"well", Result{Record: i}, false, `open of incident 20261125-030405-00ff: exited 0 after 12ms`},
		{"of an action", Result{Record: &record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied}}, false,
			`raise_max applied: exited 0 after 12ms`},
		{"exit status", Result{Record: i, Exit: 3, Output: "oh\n no\x07\n", Skipped: 2}, true,
			`open of incident 20261125-030405-00ff: exited 3 after 12ms; 2 calls before it were skipped; it printed: "oh\n no\a"`},
		{"signal", Result{Record: i, Exit: -1, Signal: syscall.SIGSEGV}, true,
			`open of incident 20261125-030405-00ff: died by SIGSEGV after 12ms`},
		{"timeout", Result{Record: i, Exit: -1, Signal: syscall.SIGKILL, TimedOut: true, Left: true}, true,
			`open of incident 20261125-030405-00ff: did not end by itself, and was ended by SIGKILL after 12ms; a process that it started kept its output open`},
		{"told to end", Result{Record: i, TimedOut: true}, true,
			`open of incident 20261125-030405-00ff: did not end by itself; told to end, exited 0 after 12ms`},
		{"never ran", Result{Record: i, Exit: -1, Err: errors.New("no")}, true, `open of incident 20261125-030405-00ff: no`},
		{"much output", Result{Record: i, Output: strings.Repeat("ä", 1000)}, false,
			`open of incident 20261125-030405-00ff: exited 0 after 12ms; it printed: "…` + strings.Repeat("ä", 150) + `"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.result.Waited, c.result.Took = time.Second, 12*time.Millisecond
			want := &record.Action{What: record.ActionHook, Result: record.ResultApplied, Why: c.why, Latency: 1_012_000_000, Took: 12_000_000}
			if c.failed {
				want.Result = record.ResultFailed
			}
			if c.result.Record == i {
				want.NS, want.Cookie, want.Name = 1, 2, "n"
			}
			if diff := cmp.Diff(want, c.result.Action()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
