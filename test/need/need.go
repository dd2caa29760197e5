// Package need is for tests that need something of the machine. Where it is missing they are skipped with the reason;
// in the gate, which sets CTWATCH_TEST_REQUIRE, they fail, so that a whole kind of test cannot be lost unseen.
package need

import (
	"os"
	"os/exec"
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

func lack(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CTWATCH_TEST_REQUIRE") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}
