package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ctwatch/ctwatch/internal/control"
	"github.com/ctwatch/ctwatch/internal/persist"
	"github.com/ctwatch/ctwatch/test/lab"
	"github.com/ctwatch/ctwatch/test/need"
)

// TestLimitOnKernel sets the limits of the running kernel, with its files of its own instead of this machine's, and takes
// it back. While entries are in use, it is told what a lower limit would mean.
func TestLimitOnKernel(t *testing.T) {
	need.Root(t)
	l, err := lab.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	// What the lab has set it restores, whatever becomes of us.
	if err := l.SetLimit(lab.Max, 100000); err != nil {
		t.Fatal(err)
	}
	if err := l.SetLimit(lab.Buckets, 65536); err != nil {
		t.Fatal(err)
	}
	n, err := l.Namespace("busy")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Fill(t.Context(), 3000); err != nil {
		t.Fatal(err)
	}
	in := sandbox(t)

	in.expect(0, "limit set 524288 --buckets 131000", "max        100,000 -> 524,288\n", "buckets    65,536 -> 131,072, for the kernel rounds up to whole pages", "undo       `ctwatch limit undo` takes it back\n")
	expectLimits(t, l, 524288, 131072)
	if state := in.read("run/ctwatch/remediation.json"); !strings.Contains(state, `"what":"set","max":524288,"buckets":131072`) {
		t.Errorf("a daemon would not know: %s", state)
	}
	in.expect(0, "limit show", "limit      524,288 entries in each network namespace, 131,072 buckets for all\n", "in use     3,000 in "+n.Name+" (0.6%)",
		"undo       `ctwatch limit undo` takes back limit set by ")
	in.expect(1, "limit set 2999", "ctwatch: 2,999 is below what is in use: 3,000 entries in "+n.Name+".", "hint: --force sets it all the same\n")
	expectLimits(t, l, 524288, 131072)
	in.expect(0, "limit undo", "max        524,288 -> 100,000\n", "buckets    131,072 -> 65,536")
	expectLimits(t, l, 100000, 65536)
	in.expect(1, "limit undo", "ctwatch: nothing to undo\n")

	in.expect(0, "limit set 2999 --force", "forced     2,999 is below what is in use", "max        100,000 -> 2,999\n")
	in.expect(0, "limit show", "20 % rule  over it: 100.0% of the limit is in use. 15,000 would be enough")
	in.expect(0, "limit plan", "plan       524,288 entries, 262,144 buckets\n", "peak       3,000 entries in "+n.Name+", now",
		"    ctwatch limit set 524288 --buckets 262144 --persist\n", "    echo 524288 >/proc/sys/net/netfilter/nf_conntrack_max\n")
	in.expect(0, "limit undo", "max        2,999 -> 100,000\n")
	expectLimits(t, l, 100000, 65536)
}

func expectLimits(t *testing.T, l *lab.Lab, entries, buckets uint64) {
	t.Helper()
	for name, want := range map[string]uint64{lab.Max: entries, lab.Buckets: buckets} {
		if got, err := l.Limit(name); got != want || err != nil {
			t.Errorf("%s is %d (%v), want %d", name, got, err, want)
		}
	}
}

// box is where a command finds this kernel, and files that are nobody else's.
type box struct {
	t   *testing.T
	dir string
}

func sandbox(t *testing.T) box {
	b := box{t, t.TempDir()}
	for _, dir := range []string{"etc", "run", "var"} {
		if err := os.Mkdir(filepath.Join(b.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// expect runs a command in a mount namespace of its own, and checks its exit code and that it says some things.
func (b box) expect(code int, command string, said ...string) {
	b.t.Helper()
	self := itself(b.t)
	script := fmt.Sprintf(`for d in etc run/ctwatch var/lib; do mkdir -p /$d %[1]s/$d; mount -o bind %[1]s/$d /$d || exit 99; done; exec -a ctwatch %[2]s %[3]s`, b.dir, self.Path, command)
	var out bytes.Buffer
	cmd := exec.Command("unshare", "--mount", "bash", "-c", script)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		b.t.Errorf("ctwatch %s: exit code %d (%v), want %d:\n%s", command, got, err, code, &out)
	}
	for _, s := range said {
		if !strings.Contains(out.String(), s) {
			b.t.Errorf("ctwatch %s does not say %q:\n%s", command, s, &out)
		}
	}
}

func (b box) read(name string) string {
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Error(err)
	}
	return string(text)
}

// TestLimitSetAtOnce has many set limits at once: each is one change as a whole, and all can be taken back.
func TestLimitSetAtOnce(t *testing.T) {
	need.Root(t)
	root := filepath.Join(t.TempDir(), "r")
	if err := os.CopyFS(root, os.DirFS("../../testdata/roots/debian13")); err != nil {
		t.Fatal(err)
	}
	before := tree(t, root)
	const many = 8
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			runIn(t, root, 0, fmt.Sprintf("limit set %d --buckets %d --persist", 300000+i, 131072+512*i))
		})
	}
	all.Wait()
	for range many {
		set, err := persist.Last(persist.Options{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		m, err := lookAtMachine(root)
		if err != nil || m.state.Max != set.Max.To || m.state.Buckets != set.Buckets.To {
			t.Fatalf("limits are %d and %d (%v), not those of the last set: %+v", m.state.Max, m.state.Buckets, err, set)
		}
		runIn(t, root, 0, "limit undo")
	}
	runIn(t, root, 1, "limit undo")
	after := tree(t, root)
	for name, text := range before {
		if after[name] != text {
			t.Errorf("%s holds %q, want %q", name, after[name], text)
		}
	}
	if s, err := control.Read(root); err != nil || s.Set.What != control.WhatUndo || s.Set.Max != 262144 {
		t.Errorf("%+v (%v), want an undo to 262144", s.Set, err)
	}
}

func runIn(t *testing.T, root string, code int, command string) {
	t.Helper()
	cmd := itself(t, append([]string{"--root", root}, strings.Fields(command)...)...)
	out, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("ctwatch %s: exit code %d (%v), want %d:\n%s", command, got, err, code, out)
	}
}

// itself is this program as ctwatch: testscript.Main takes the name it is called by for the program to be.
func itself(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &exec.Cmd{Path: path, Args: append([]string{"ctwatch"}, args...)}
}

// tree is what is in the files below a root.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
