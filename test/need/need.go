// Package need is for tests that need something of the machine. Where it is missing they are skipped with the reason;
// in the gate, which sets CTWATCH_TEST_REQUIRE, they fail, so that a whole kind of test cannot be lost unseen.
package need

import (
	"cmp"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Root needs the rights to make network namespaces and load programs.
func Root(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		lack(t, "not root")
	}
}

// Tool needs a program on the PATH, such as another's to compare with.
func Tool(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		lack(t, name+" is not installed")
	}
}

// Guest needs a machine that is there for this test alone, whose settings nobody else depends on (CTWATCH_TEST_GUEST).
func Guest(t testing.TB) {
	t.Helper()
	if os.Getenv("CTWATCH_TEST_GUEST") == "" {
		t.Skip("changes settings of the whole machine: is for virtual machines of its own")
	}
}

// Probe skips for a probe that does not work here, unless it must: the kernel's own probes must everywhere but those that
// need what some kernels refuse. What boots a kernel knows which it has (CTWATCH_TEST_PROBES, by commas).
func Probe(t testing.TB, name string, why error) {
	t.Helper()
	if MustProbe(name) {
		t.Fatal(why)
	}
	t.Skip(why)
}

// MustProbe reports whether a probe has to work on this kernel.
func MustProbe(name string) bool {
	list := cmp.Or(os.Getenv("CTWATCH_TEST_PROBES"), "tracepoint,counters")
	return slices.Contains(strings.Split(list, ","), name)
}

func lack(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CTWATCH_TEST_REQUIRE") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}
