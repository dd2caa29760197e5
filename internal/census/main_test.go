package census

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "record what the running kernel says")

// conntrackLine is what `conntrack -L` prints of an entry, as far as an Entry has it.
func conntrackLine(line string) (e Entry, err error) {
	fields := strings.Fields(line)
	if len(fields) < 4 {
		return e, fmt.Errorf("not an entry: %q", line)
	}
	number := func(text string) (v uint64) {
		if err == nil {
			v, err = strconv.ParseUint(text, 10, 32)
		}
		return v
	}
	e.Proto = uint8(number(fields[1]))
	fields = fields[2:]
	if !strings.Contains(fields[0], "=") && fields[0] != "[OFFLOAD]" {
		e.Timeout, fields = uint32(number(fields[0])), fields[1:]
	}
	if i := slices.Index(statesOf(e.Proto), fields[0]); i > 0 {
		e.State = uint8(i)
	}
	e.Status = ipsSeenReply
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		switch {
		case f == "[UNREPLIED]":
			e.Status &^= ipsSeenReply
		case f == "[ASSURED]":
			e.Status |= ipsAssured
		case name == "src" && !e.Src.IsValid():
			e.Src, err = netip.ParseAddr(value)
		case name == "dst" && !e.Dst.IsValid():
			e.Dst, err = netip.ParseAddr(value)
		case name == "sport" && e.SrcPort == 0:
			e.SrcPort = uint16(number(value))
		case name == "dport" && e.DstPort == 0:
			e.DstPort = uint16(number(value))
		}
		if err != nil {
			return e, fmt.Errorf("%q: %w", line, err)
		}
	}
	return e, nil
}

// forLine takes from an entry what conntrackLine does not tell.
func forLine(e Entry) Entry {
	e.Status &= ipsSeenReply | ipsAssured
	if !hasPorts(e.Proto) {
		e.SrcPort, e.DstPort = 0, 0
	}
	return e
}

// runConntrack runs conntrack(8) in the calling thread's namespace, and returns what it prints.
func runConntrack(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("conntrack", args...)
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%v: %v", cmd, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// insert has conntrack(8) make entries, one a line of its options.
func insert(t *testing.T, lines string) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		runConntrack(t, append([]string{"-I"}, strings.Fields(line)...)...)
	}
}

// inNamespace runs f on a thread in a network namespace of its own, which ends with the test.
func inNamespace(t *testing.T, f func(ctx context.Context)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		f(t.Context())
	}()
	<-done
}
