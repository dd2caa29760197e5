package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// told is a console as a serial line brings it.
const told = `[    0.61] some warning
vm: kernel 6.1.0-56-cloud-amd64
vm: begin internal/watch
=== RUN   TestProbes
=== RUN   TestProbes/kprobe
=== RUN   TestProbes/kprobe/table_full
=== ATTR  TestProbes/kprobe/table_full counted 10000
=== RUN   TestProbes/kprobe/clash
    probes_test.go:20: got 1
        want 2
[   12.34] something of the kernel
=== RUN   TestProbes/kprobe/kill
    probes_test.go:30: too old: no such thing
--- FAIL: TestProbes (1.20s)
    --- FAIL: TestProbes/kprobe (1.20s)
        --- PASS: TestProbes/kprobe/table_full (0.50s)
        --- FAIL: TestProbes/kprobe/clash (0.60s)
        --- SKIP: TestProbes/kprobe/kill (0.00s)
=== RUN   TestAuto
=== ATTR  TestAuto auto kprobe
--- PASS: TestAuto (0.01s)
=== RUN   TestOwn
=== RUN   TestOwn/sub
=== NAME  TestOwn
    own_test.go:3: afterwards
--- FAIL: TestOwn (0.01s)
    --- PASS: TestOwn/sub (0.00s)
FAIL
vm: end internal/watch 1
vm: begin test/lab
=== RUN   TestAuto
panic: of another binary
vm: end test/lab 2
vm: done
`

func parse(t *testing.T, s string) *console {
	t.Helper()
	c := new(console)
	for line := range strings.Lines(s) {
		c.line(strings.TrimSuffix(line, "\n") + "\r\n")
	}
	return c
}

func names(list []*test) []string {
	var names []string
	for _, t := range list {
		names = append(names, t.binary+" "+t.name)
	}
	return names
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestConsole(t *testing.T) {
	c := parse(t, told)
	equal(t, "release", "6.1.0-56-cloud-amd64", c.release)
	equal(t, "done", true, c.done)
	equal(t, "passed", []string{"internal/watch TestProbes/kprobe/table_full", "internal/watch TestAuto", "internal/watch TestOwn/sub"}, names(c.of(passed)))
	equal(t, "failed", []string{"internal/watch TestProbes/kprobe/clash", "internal/watch TestOwn", "test/lab TestAuto"}, names(c.of(failed)))
	equal(t, "skipped", []string{"internal/watch TestProbes/kprobe/kill"}, names(c.of(skipped)))
	equal(t, "reason", "too old: no such thing", c.of(skipped)[0].reason())
	equal(t, "log", []string{"    probes_test.go:20: got 1", "        want 2", "[   12.34] something of the kernel"}, c.of(failed)[0].log)
	equal(t, "log of the parent", []string{"    own_test.go:3: afterwards"}, c.of(failed)[1].log)
	equal(t, "log of the panic", []string{"panic: of another binary"}, c.of(failed)[2].log)
	equal(t, "attribute", map[string]string{"counted": "10000"}, c.of(passed)[0].attrs)
	equal(t, "seconds", 0.6, c.of(failed)[0].seconds)
}

// TestConsoleEnds: wherever a console ends, the run has failed, and says where.
func TestConsoleEnds(t *testing.T) {
	at, _, _ := strings.Cut(told, "=== RUN   TestProbes/kprobe/kill")
	r := result{console: *parse(t, at)}
	equal(t, "last", "TestProbes/kprobe/clash", r.last)
	if !r.failed() || !strings.Contains(strings.Join(r.troubles(), "\n"), "in TestProbes/kprobe/clash") {
		t.Errorf("troubles %q", r.troubles())
	}
}

func TestPanic(t *testing.T) {
	at, _, _ := strings.Cut(told, "=== RUN   TestProbes/kprobe/kill")
	r := result{console: *parse(t, at+"[    1.57] Kernel panic - not syncing: Fatal exception\n[    1.58] Kernel panic - again\n")}
	equal(t, "troubles", []string{"kernel panic: not syncing: Fatal exception, in TestProbes/kprobe/clash"}, r.troubles())
}

// TestMarks: with marks it is all the same, also after output that ends within a line.
func TestMarks(t *testing.T) {
	c := parse(t, strings.NewReplacer("=== ", "\x16=== ", "--- ", "\x16--- ").Replace(
		"vm: begin a\n=== RUN   T\n=== RUN   T/1\nsome--- PASS: T/1 (0.10s)\n=== NAME  \nof nobody\n=== RUN   T/2\n"))
	equal(t, "passed", []string{"a T/1"}, names(c.of(passed)))
	equal(t, "failed", []string{"a T/2"}, names(c.of(failed)))
	equal(t, "log", []string{"some"}, c.tests[1].log)
}

func TestNoTestRan(t *testing.T) {
	const good = "vm: begin b\n=== RUN   T\n--- PASS: T (0.00s)\nvm: end b 0\n"
	for name, c := range map[string]struct {
		plan    string // packages
		console string
		want    []string
	}{
		"no binary":         {"", "vm: kernel 1\nvm: done\n", []string{"no test ran"}},
		"nothing matched":   {"a b", "vm: begin a\ntesting: warning: no tests to run\nPASS\nvm: end a 0\n" + good + "vm: done\n", []string{"a ran no test"}},
		"all skipped":       {"a", "vm: begin a\n=== RUN   T\n--- SKIP: T (0.00s)\nPASS\nvm: end a 0\nvm: done\n", []string{"no test ran"}},
		"a binary is bad":   {"a b", "vm: begin a\nvm: end a 127\n" + good + "vm: done\n", []string{"a ended with status 127", "a ran no test"}},
		"one was left out":  {"b c b", good + good + "vm: done\n", []string{"c was not run"}},
		"no word of an end": {"b c", strings.Replace(good, "vm: end", "vm: ", 1) + strings.NewReplacer("begin b", "begin c", "end b", "end c").Replace(good) + "vm: done\n", []string{"b did not say how it ended"}},
		"the kernel spoke":  {"b", "[    1.23] something " + good + "vm: done\n", nil},
		"nothing to object": {"b", good + "vm: done\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := result{console: *parse(t, c.console)}
			for pkg := range strings.FieldsSeq(c.plan) {
				r.scenario.steps = append(r.scenario.steps, step{pkg: pkg})
			}
			equal(t, "troubles", c.want, r.troubles())
			equal(t, "failed", c.want != nil, r.failed())
		})
	}
}

func FuzzConsole(f *testing.F) {
	f.Add(told)
	f.Add("vm: begin a\n=== ATTR  T k \n--- PASS: T (.s)\n=== NAME  \n")
	f.Fuzz(func(t *testing.T, s string) {
		c := new(console)
		for line := range strings.Lines(s) {
			c.line(line)
		}
		for _, outcome := range []outcome{passed, failed, skipped} {
			for _, x := range c.of(outcome) {
				if x.binary == "" || x.name == "" {
					t.Errorf("a test without a name: %+v", x)
				}
			}
		}
	})
}
