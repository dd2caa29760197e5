package main

import (
	flags "flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ctwatch/ctwatch/test/need"
)

var update = flags.Bool("update", false, "write what the commands of testdata/limit print into the scripts")

// TestLimitScripts runs the scripts of testdata/limit: they set limits in copies of machines' files ($ROOTS has some), and
// nothing on this machine.
func TestLimitScripts(t *testing.T) {
	need.Root(t)
	roots, err := filepath.Abs("../../testdata/roots")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/limit",
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("ROOTS", roots)
			e.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// TestInOrderLimit: flags may stand anywhere, also before the command of limit.
func TestInOrderLimit(t *testing.T) {
	app := newApp(os.Stdout, os.Stderr)
	for _, c := range []struct{ in, want []string }{
		{in: []string{"ctwatch", "limit", "set", "524288", "--persist"}, want: []string{"ctwatch", "limit", "set", "--persist", "524288"}},
		{in: []string{"ctwatch", "limit", "set", "--buckets", "1024", "524288", "--force", "--root", "/r"},
			want: []string{"ctwatch", "--root", "/r", "limit", "set", "--buckets", "1024", "--force", "524288"}},
		{in: []string{"ctwatch", "limit", "set", "524288", "--buckets=1024"}, want: []string{"ctwatch", "limit", "set", "--buckets=1024", "524288"}},
		{in: []string{"ctwatch", "--root", "/r", "limit", "persist", "7", "--force"}, want: []string{"ctwatch", "--root", "/r", "limit", "persist", "--force", "7"}},
		{in: []string{"ctwatch", "limit", "--format", "json", "show"}, want: []string{"ctwatch", "limit", "show", "--format", "json"}},
		{in: []string{"ctwatch", "--format", "json", "limit", "show"}, want: []string{"ctwatch", "limit", "show", "--format", "json"}},
		{in: []string{"ctwatch", "limit", "--for", "centos5", "script", "--max", "9"}, want: []string{"ctwatch", "limit", "script", "--for", "centos5", "--max", "9"}},
		{in: []string{"ctwatch", "limit", "set", "show"}, want: []string{"ctwatch", "limit", "set", "show"}},
	} {
		if diff := cmp.Diff(c.want, inOrder(app, slices.Clone(c.in))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.in, diff)
		}
	}
}
