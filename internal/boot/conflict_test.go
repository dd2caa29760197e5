package boot

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ctwatch/ctwatch/test/need"
)

// conflictCase is a file of testdata/conflicts. Its comment has a sentence that says what it is about, and lines "name:
// value": the base (a tree of testdata/roots; else a Debian 13), what is wanted, which script is not executable ("plain"),
// and for each program that applies files which line it lets win over ours, and the number there, or "none".
type conflictCase struct {
	base   string
	wanted Limits
	plain  string
	says   map[string]string // by program
	oracle string            // what cannot be asked
	files  string            // the archive without the comment
}

func readConflictCase(t testing.TB, file string) (c conflictCase) {
	t.Helper()
	a, err := txtar.ParseFile(file)
	must(t, err)
	c.says = map[string]string{}
	c.wanted.Max = n(524288)
	_, lines, _ := strings.Cut(string(a.Comment), "\n")
	for line := range strings.Lines(lines) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			t.Fatalf("%s: a line without a colon: %q", file, line)
		}
		switch name {
		case "base":
			c.base = value
		case "plain":
			c.plain = value
		case "oracle":
			c.oracle = value
		case "wanted":
			var entries, buckets uint64
			_, err := fmt.Sscanf(value, "max %d buckets %d", &entries, &buckets)
			must(t, err)
			c.wanted = Limits{&entries, &buckets}
		default:
			if value != "none" {
				c.says[name] = value
			}
		}
	}
	a.Comment = nil
	c.files = string(txtar.Format(a))
	return c
}

// sysctls is ours of sysctl.d.
func (c conflictCase) sysctls() string {
	text := fmt.Sprintf("# ours\nnet.netfilter.nf_conntrack_max = %d\n", *c.wanted.Max)
	if c.wanted.Buckets != nil {
		text += fmt.Sprintf("net.netfilter.nf_conntrack_buckets = %d\n", *c.wanted.Buckets)
	}
	return text
}

const ourFile = "/etc/sysctl.d/99-zz-ctwatch.conf"

// conflictCases are those on Debian 13. The others are tried with the files that ctwatch writes there, in internal/persist.
func conflictCases(t testing.TB) map[string]conflictCase {
	t.Helper()
	files, err := filepath.Glob("testdata/conflicts/*.txtar")
	must(t, err)
	cases := map[string]conflictCase{}
	for _, f := range files {
		if c := readConflictCase(t, f); c.base == "" {
			cases[strings.TrimSuffix(filepath.Base(f), ".txtar")] = c
		}
	}
	if len(cases) < 25 {
		t.Fatalf("only %d cases", len(cases))
	}
	return cases
}

func (c conflictCase) plant(t testing.TB, more string) (root string) {
	t.Helper()
	root = plant(t, on612+"-- usr/lib/x86_64-linux-gnu/libproc2.so.0 --\n"+c.files+more)
	if c.plain != "" {
		must(t, os.Chmod(filepath.Join(root, c.plain), 0o644))
	}
	return root
}

// said is conflicts as they stand in the table.
func said(conflicts []Conflict) map[string]string {
	says := map[string]string{}
	for _, c := range conflicts {
		for _, by := range c.By {
			says[by] = strings.TrimSpace(fmt.Sprintf("%s %s:%d %s", says[by], c.File, c.Line.Line, c.Value))
		}
	}
	return says
}

func TestConflicts(t *testing.T) {
	for name, c := range conflictCases(t) {
		t.Run(name, func(t *testing.T) {
			root := c.plant(t, "")
			files := Files{
				ourFile:                              {Text: c.sysctls()},
				"/etc/modules-load.d/ctwatch.conf":   {Text: "nf_conntrack\n"},
				"/etc/udev/rules.d/99-ctwatch.rules": {Text: rule},
			}
			conflicts, err := Conflicts(root, files, c.wanted)
			must(t, err)
			if diff := cmp.Diff(c.says, said(conflicts)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for _, c := range conflicts {
				if c.Why == "" || !strings.Contains(c.String(), c.File) {
					t.Errorf("%+v", c)
				}
			}
			// What would be, and what is, are the same.
			would, err := With(root, files)
			must(t, err)
			archive := ""
			for _, file := range slices.Sorted(maps.Keys(files)) {
				archive += "-- " + file[1:] + " --\n" + files[file].Text
			}
			is, err := Read(c.plant(t, archive))
			must(t, err)
			if diff := cmp.Diff(is, would); diff != "" {
				t.Errorf("when written and before, -want +got:\n%s", diff)
			}
			// Whatever wins at boot is among the conflicts.
			if would.NextBoot.Max != nil && *would.NextBoot.Max != *c.wanted.Max && len(conflicts) == 0 {
				t.Errorf("the next boot gives %d: %s", *would.NextBoot.Max, would.Why)
			}
		})
	}
}

// TestConflictsAgainstSystemd compares the column of systemd with the order in which systemd-analyze prints the lines:
// the last is what counts, where all are plain.
func TestConflictsAgainstSystemd(t *testing.T) {
	need.Tool(t, "systemd-analyze")
	asked := 0
	for name, c := range conflictCases(t) {
		if c.wanted.Buckets != nil || slices.Contains([]string{"garbage-later", "garbage-other-name", "excluded-later"}, name) || strings.HasPrefix(name, "pattern") {
			continue // the number is not the last line's
		}
		asked++
		last := systemdLast(t, c.plant(t, "-- "+ourFile[1:]+" --\n"+c.sysctls()))
		want := *c.wanted.Max
		if text := c.says[Systemd]; text != "" {
			_, number, _ := strings.Cut(text, " ")
			v, err := parseInt(number)
			must(t, err)
			want = uint64(v)
		}
		if last != want {
			t.Errorf("%s: systemd has %d last, the table says %d", name, last, want)
		}
	}
	if asked < 25 {
		t.Errorf("only %d asked", asked)
	}
}

// systemdLast is the last number for max in what systemd-analyze prints of a tree.
func systemdLast(t testing.TB, root string) (last uint64) {
	t.Helper()
	for line := range strings.Lines(systemdPrints(t, root)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch strings.ReplaceAll(strings.TrimPrefix(strings.TrimSpace(key), "-"), "/", ".") {
		case "net.netfilter.nf_conntrack_max", "net.nf_conntrack_max":
			fields := strings.Fields(value)
			v, err := strconv.ParseUint(fields[0], 0, 64)
			must(t, err)
			last = v
		}
	}
	return last
}

func TestHeld(t *testing.T) {
	o := readBoot(t, on612+modules+set424242+
		"-- etc/sysctl.d/10-a.conf --\nnet.nf_conntrack_max=1000\nnet.netfilter.nf_conntrack_buckets=1000\n-- etc/sysctl.conf --\nnet.netfilter.nf_conntrack_max = 80\n")
	late := readBoot(t, on612+set424242)
	for name, c := range map[string]struct {
		outlook Outlook
		live    Limits
		held    bool
		why     string
		by      []string
	}{
		"held": {o, Limits{n(424242), n(1024)}, true, "max is 424242, as /etc/sysctl.d/90-app.conf:3 sets it; buckets is 1024, as /etc/sysctl.d/10-a.conf:2 sets it", nil},
		"another file": {o, Limits{n(80), nil}, false, "max is 80, and not the 424242 that /etc/sysctl.d/90-app.conf:3 sets: " +
			"/etc/sysctl.conf:1 set that number, and something applied it later", []string{"/etc/sysctl.conf:1"}},
		"a program": {o, Limits{n(131072), nil}, false, "max is 131072, and not the 424242 that /etc/sysctl.d/90-app.conf:3 sets: no file sets that number, so a program set it later", nil},
		"loaded again": {o, Limits{n(262144), nil}, false, "max is 262144, and not the 424242 that /etc/sysctl.d/90-app.conf:3 sets: " +
			"it is what conntrack begins with, so the files were applied before it was loaded, or it was loaded again since", nil},
		"as was to be expected": {late, Limits{n(262144), nil}, false, "max is 262144, and not the 424242 that /etc/sysctl.d/90-app.conf:3 sets: " + late.Why, nil},
		"nothing is set":        {readBoot(t, on612), Limits{n(1), n(2)}, true, "no file sets a limit", nil},
		"not loaded":            {o, Limits{}, true, "no file sets a limit", nil},
		"buckets by the option": {readBoot(t, on612+"-- etc/modprobe.d/a.conf --\noptions nf_conntrack hashsize=1000\n"), Limits{n(8192), n(1024)}, true, "buckets is 1024, as /etc/modprobe.d/a.conf:1 sets it", nil},
	} {
		t.Run(name, func(t *testing.T) {
			v := Held(c.outlook, c.live)
			var by []string
			for _, l := range v.By {
				by = append(by, place{l.File, l.Line}.String())
			}
			if v.Held != c.held || v.Why != c.why || !slices.Equal(by, c.by) {
				t.Errorf("%v %q %v,\nwant %v %q %v", v.Held, v.Why, by, c.held, c.why, c.by)
			}
		})
	}
}
