package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/test/qemu"
)

// result is how a scenario went in a kernel.
type result struct {
	kernel   kernel
	scenario scenario
	console
	path        string        // where the console is kept
	boot, total time.Duration // until the guest ran; until it ended
	hung        bool          // killed when its time was over
	err         error         // of this side
}

// title names kernel and scenario.
func (r *result) title() string {
	name := r.kernel.Name
	if r.scenario.name != "" {
		name += " " + r.scenario.name
	}
	if r.release != "" {
		name += " (" + r.release + ")"
	}
	return name
}

func (r *result) failed() bool { return len(r.troubles()) > 0 || len(r.of(failed)) > 0 }

// troubles are failures beside those of single tests.
func (r *result) troubles() []string {
	var list []string
	if r.err != nil {
		list = append(list, r.err.Error())
	}
	if r.err == nil && !r.done {
		what := "it ended before its time"
		switch {
		case r.panic != "":
			what = "kernel panic: " + r.panic
		case r.hung:
			what = fmt.Sprintf("it hung, and was killed after %.0f s", r.total.Seconds())
		}
		if r.last != "" {
			what += ", in " + r.last
		}
		list = append(list, what)
	}
	for _, b := range r.binaries {
		if b.ended && b.status != 0 && !r.failedIn(b.name) {
			list = append(list, fmt.Sprintf("%s ended with status %d", b.name, b.status))
		}
	}
	if !r.done {
		return list
	}
	if len(r.of(passed))+len(r.of(failed)) == 0 {
		list = append(list, "no test ran")
	}
	// Nothing of the plan may be lost unseen.
	for i, s := range r.scenario.stepsIn(r.kernel) {
		switch {
		case i >= len(r.binaries) || r.binaries[i].name != s.pkg:
			return append(list, s.pkg+" was not run")
		case !r.binaries[i].ended:
			list = append(list, s.pkg+" did not say how it ended")
		case r.binaries[i].tests == 0:
			list = append(list, s.pkg+" ran no test")
		}
	}
	return list
}

// proved are the probes that passed all their tests.
func (r *result) proved() []string {
	var list []string
	for _, row := range rowsOf(&r.console, "") {
		switch {
		case row.skipped:
		case row.auto != "":
			list = append(list, row.probe+" (which auto takes)")
		default:
			list = append(list, row.probe)
		}
	}
	return list
}

func (r *result) failedIn(binary string) bool {
	for _, t := range r.of(failed) {
		if t.binary == binary {
			return true
		}
	}
	return false
}

// print tells a person.
func (r *result) print(w io.Writer) {
	verdict := "ok"
	if r.failed() {
		verdict = "FAILED"
	}
	fmt.Fprintf(w, "vm: %s: %s: %d passed, %d failed, %d skipped; booted in %.1f s, %.1f s in all\n", r.title(), verdict,
		len(r.of(passed)), len(r.of(failed)), len(r.of(skipped)), r.boot.Seconds(), r.total.Seconds())
	if proved := r.proved(); len(proved) > 0 {
		fmt.Fprintf(w, "  proved: %s\n", strings.Join(proved, ", "))
	}
	for _, t := range r.of(failed) {
		note := ""
		if t.outcome == "" {
			note = " (did not end)"
		}
		fmt.Fprintf(w, "  failed: %s %s%s\n", t.binary, t.name, note)
		for _, l := range t.log {
			fmt.Fprintf(w, "    %s\n", l)
		}
	}
	for _, t := range r.of(skipped) {
		fmt.Fprintf(w, "  skipped: %s %s: %s\n", t.binary, t.name, t.reason())
	}
	for _, trouble := range r.troubles() {
		fmt.Fprintf(w, "  %s: %s\n", r.title(), trouble)
	}
	if !r.failed() {
		return
	}
	fmt.Fprintf(w, "  the console is kept in %s\n", r.path)
	if said, err := os.ReadFile(r.path); err == nil && !r.done {
		for _, l := range qemu.LastLines(string(said), 20) {
			fmt.Fprintf(w, "    | %s\n", strings.TrimRight(l, "\r"))
		}
	}
}
