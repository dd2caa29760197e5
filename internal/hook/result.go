package hook

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// Result is how one call of the hook ended.
type Result struct {
	Record   record.Record // a copy of what was given to Call
	Err      error         // why the hook was not run, or could not be ended; nil where it ran and has ended
	Exit     int           // its exit status; -1 where it has none
	Signal   syscall.Signal
	TimedOut bool // it was told to end, because it ran for too long or because ctwatch ended

	// Output is what it printed, standard output and error together: the first Options.Output bytes, as text of which
	// nothing but line feeds and tabs controls a terminal. Discarded is how many bytes came after these.
	Output    string
	Discarded uint64
	Left      bool // a process that the hook started kept its output open for Options.Grace, after the hook itself had ended

	Waited  time.Duration // from the call until it was started
	Took    time.Duration // from its start until its end
	Skipped uint64        // calls that were skipped before this one, as the hook was told
}

// Failed reports whether the hook did not run, did not end by itself, or ended otherwise than by exit status 0.
func (r Result) Failed() bool { return r.Err != nil || r.Exit != 0 || r.TimedOut }

// Action is the record of the call, without its envelope: what it was for, and what became of it.
func (r Result) Action() *record.Action {
	a := &record.Action{What: record.ActionHook, Result: record.ResultApplied, Why: r.why(),
		Latency: (r.Waited + r.Took).Nanoseconds(), Took: r.Took.Nanoseconds()}
	if r.Failed() {
		a.Result = record.ResultFailed
	}
	switch about := r.Record.(type) {
	case *record.Incident:
		a.NS, a.Cookie, a.Name = about.NS, about.Cookie, about.Name
	case *record.Action:
		a.NS, a.Cookie, a.Name = about.NS, about.Cookie, about.Name
	}
	return a
}

// why says in one line what the hook was called for, and how it ended.
func (r Result) why() string {
	var b strings.Builder
	switch about := r.Record.(type) {
	case *record.Incident:
		fmt.Fprintf(&b, "%s of incident %s", about.Phase, about.ID)
	case *record.Action:
		fmt.Fprintf(&b, "%s %s", about.What, about.Result)
	}
	took := r.Took.Round(time.Millisecond)
	switch {
	case r.Err != nil:
		fmt.Fprintf(&b, ": %v", r.Err)
	case r.TimedOut && r.Signal != 0:
		fmt.Fprintf(&b, ": did not end by itself, and was ended by %s after %v", signalName(r.Signal), took)
	case r.TimedOut:
		fmt.Fprintf(&b, ": did not end by itself; told to end, exited %d after %v", r.Exit, took)
	case r.Signal != 0:
		fmt.Fprintf(&b, ": died by %s after %v", signalName(r.Signal), took)
	default:
		fmt.Fprintf(&b, ": exited %d after %v", r.Exit, took)
	}
	if r.Left {
		b.WriteString("; a process that it started kept its output open")
	}
	if r.Skipped > 0 {
		fmt.Fprintf(&b, "; %d calls before it were skipped", r.Skipped)
	}
	if text := tail(r.Output); text != "" {
		fmt.Fprintf(&b, "; it printed: %s", text)
	}
	return b.String()
}
