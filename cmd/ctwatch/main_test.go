package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/test/lab"
	"github.com/ctwatch/ctwatch/test/need"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ctwatch": main})
}

// TestScripts runs the scripts of testdata, which say what each command does: what it prints and how it exits.
func TestScripts(t *testing.T) {
	need.Root(t)
	// The scripts expect calm: no other test may have packets refused meanwhile.
	l, err := lab.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			// A test leaves nothing in the machine's journal, and takes no port.
			e.Setenv("CTWATCH_JOURNAL", "")
			e.Setenv("CTWATCH_LISTEN", "")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"listen": listen,
			"refuse": func(ts *testscript.TestScript, _ bool, _ []string) { refuse(ts, l) },
		},
		Condition: func(name string) (bool, error) {
			if name != "refuses-fexit" {
				return false, fmt.Errorf("no condition %q", name)
			}
			_, err := loader.Open(loader.Options{Probe: loader.Fexit})
			return err != nil && strings.Contains(err.Error(), "policy"), nil
		},
	})
}

// exits runs a command and checks its exit code: exits 3 ctwatch run --probe fexit
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command...")
	}
	err := ts.Exec("sh", append([]string{"-c", `want=$1; shift; "$@"; got=$?; [ $got = $want ] || { echo "exit code $got, want $want" >&2; exit 1; }`, "exits"}, args...)...)
	if err != nil {
		ts.Fatalf("%v: %v", args[1:], err)
	}
}

// listen takes a port until the script ends, and tells which: listen; then $TAKEN is 127.0.0.1:port
func listen(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if neg || len(args) > 0 || err != nil {
		ts.Fatalf("usage: listen (%v)", err)
	}
	ts.Defer(func() { l.Close() })
	ts.Setenv("TAKEN", l.Addr().String())
}

// refuse has the kernel refuse packets in a new namespace; $REFUSED is how many, and $SERVER the namespace.
func refuse(ts *testscript.TestScript, l *lab.Lab) {
	ctx := context.Background()
	client, err := l.Namespace("client")
	ts.Check(err)
	server, err := l.Namespace("server")
	ts.Check(err)
	ts.Check(server.Track())
	ts.Check(server.Mute())
	link, err := l.Link(client, server)
	ts.Check(err)
	ts.Check(l.SetLimit(lab.Max, 1000))
	ts.Check(server.FillUp(ctx))
	sent, err := link.A.Inject(ctx, lab.Traffic{Packets: 2345})
	ts.Check(err)
	ts.Setenv("REFUSED", strconv.FormatUint(sent.Refused, 10))
	ts.Setenv("SERVER", server.Name)
}

func TestInOrder(t *testing.T) {
	app := newApp(os.Stdout, os.Stderr)
	for _, c := range []struct{ in, want []string }{
		{in: []string{"ctwatch"}, want: []string{"ctwatch"}},
		{in: []string{"ctwatch", "run", "--probe", "auto", "x", "--interval=1s"},
			want: []string{"ctwatch", "run", "--probe", "auto", "--interval=1s", "x"}},
		{in: []string{"ctwatch", "status", "--root", "/r", "--format", "json"},
			want: []string{"ctwatch", "--root", "/r", "status", "--format", "json"}},
		{in: []string{"ctwatch", "run", "x", "--persist", "y"}, want: []string{"ctwatch", "run", "--persist", "x", "y"}},
		{in: []string{"ctwatch", "run", "--", "--probe"}, want: []string{"ctwatch", "run", "--", "--probe"}},
		{in: []string{"ctwatch", "--bogus", "run"}, want: []string{"ctwatch", "run", "--bogus"}},
		{in: []string{"ctwatch", "run", "--interval"}, want: []string{"ctwatch", "run", "--interval"}},
	} {
		if diff := cmp.Diff(c.want, inOrder(app, slices.Clone(c.in))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.in, diff)
		}
	}
}
