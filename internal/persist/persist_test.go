package persist

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ctwatch/ctwatch/internal/boot"
)

var update = flag.Bool("update", false, "write the golden files")

const rootsDir = "../../testdata/roots"

func roots(t testing.TB) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(rootsDir)
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) < 6 {
		t.Fatalf("only the roots %v", names)
	}
	return names
}

// copyRoot makes a copy of one of the machines, as the README tells people to.
func copyRoot(t testing.TB, name string) (root string) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "r")
	out, err := exec.Command("cp", "-r", filepath.Join(rootsDir, name), root).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// Whatever the umask that they were checked out with.
	must(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return os.Chmod(path, info.Mode().Perm()&^0o022)
	}))
	return root
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func options(root string) Options {
	return Options{Root: root, Version: "v1.2.3", By: "a test", Time: noon, disk: quick{}}
}

var half = Limits{Max: 524288, Buckets: 131072}

// undoLast undoes whatever is the last.
func undoLast(o Options) (*Set, Result, error) {
	last, err := Last(o)
	if err != nil {
		return nil, Result{}, err
	}
	return Undo(o, last.ID)
}

// snapshot is all of a tree but the backups: what is where, and how it may be used.
func snapshot(t testing.TB, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, file)
		info, err := e.Info()
		must(t, err)
		switch {
		case name == "var":
			return fs.SkipDir
		case e.IsDir():
			all[name] = info.Mode().String()
		case info.Mode()&fs.ModeSymlink != 0:
			all[name], _ = os.Readlink(file)
		case !info.Mode().IsRegular():
			all[name] = info.Mode().String()
		default:
			data, err := os.ReadFile(file)
			must(t, err)
			all[name] = info.Mode().String() + "\n" + string(data)
		}
		return nil
	}))
	return all
}

// changed is what differs in b, as a txtar archive.
func changed(a, b map[string]string) []byte {
	var ar txtar.Archive
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if b[name] == a[name] {
			continue
		}
		mode, data, file := strings.Cut(b[name], "\n")
		name += " (" + mode + ")"
		if file && data == "" {
			name += " empty"
		}
		ar.Files = append(ar.Files, txtar.File{Name: name, Data: []byte(data)})
	}
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if _, there := b[name]; !there {
			ar.Files = append(ar.Files, txtar.File{Name: name + " (removed)"})
		}
	}
	return txtar.Format(&ar)
}

func did(r Result) (all []string) {
	for _, f := range r.Files {
		all = append(all, f.Did+" "+f.Path)
	}
	return all
}

// TestRoots writes what shall hold on each of the machines, and takes it away again in both ways.
func TestRoots(t *testing.T) {
	for _, name := range roots(t) {
		for _, l := range []Limits{half, {Max: 300000}} {
			file := name
			if l.Buckets == 0 {
				file += "-max"
			}
			t.Run(file, func(t *testing.T) {
				root := copyRoot(t, name)
				before := snapshot(t, root)
				checked, err := Check(options(root), l)
				must(t, err)
				if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
					t.Fatalf("Check changed something: %s", diff)
				}
				r, err := Persist(options(root), l)
				must(t, err)
				if diff := cmp.Diff(checked, r); diff != "" {
					t.Errorf("what Check said, and what was done: %s", diff)
				}
				after := snapshot(t, root)
				got := txtar.Parse(changed(before, after))
				got.Comment = fmt.Appendf(nil, "%s\nmax %s, buckets %s\n%s\n%s\n", strings.Join(did(r), "\n"),
					number(r.Outlook.NextBoot.Max), number(r.Outlook.NextBoot.Buckets), r.Outlook.Why, strings.Join(r.Notes, "\n"))
				golden(t, filepath.Join("testdata", file+".txtar"), txtar.Format(got))
				if m := r.Outlook.NextBoot.Max; m == nil || *m != l.Max {
					t.Errorf("the next boot gives %s", number(m))
				}

				r, err = Persist(Options{Root: root, Version: "v9"}, l)
				must(t, err)
				for _, f := range r.Files {
					if f.Did != Unchanged {
						t.Errorf("the second time: %+v", f)
					}
				}
				if diff := cmp.Diff(after, snapshot(t, root)); diff != "" {
					t.Errorf("the second time something changed: %s", diff)
				}

				r, err = Persist(options(root), Limits{Max: 700000, Buckets: l.Buckets})
				must(t, err)
				if m := r.Outlook.NextBoot.Max; m == nil || *m != 700000 {
					t.Errorf("the next boot gives %s: %s", number(m), r.Outlook.Why)
				}
				set, _, err := undoLast(options(root))
				must(t, err)
				if diff := cmp.Diff(after, snapshot(t, root)); diff != "" || !set.Undone {
					t.Errorf("undone, %+v: %s", set, diff)
				}

				if _, err = Unpersist(options(root)); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
					t.Errorf("taken away, -before +after: %s", diff)
				}
				_, _, err = undoLast(options(root))
				must(t, err)
				if diff := cmp.Diff(after, snapshot(t, root)); diff != "" {
					t.Errorf("taking it away was undone, -before +after: %s", diff)
				}
				set, r, err = undoLast(options(root))
				must(t, err)
				if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
					t.Errorf("all undone, -before +after: %s", diff)
				}
				if set.By != "a test" || !set.Time.Equal(noon) || len(set.Files) != len(checked.Files) || len(r.Files) != len(set.Files) {
					t.Errorf("undone: %+v, %+v", set, r)
				}
				if _, _, err := undoLast(options(root)); !errors.Is(err, ErrNothing) {
					t.Errorf("nothing is left, and Undo returns %v", err)
				}
			})
		}
	}
}

func number(n *uint64) string {
	if n == nil {
		return "unknown"
	}
	return fmt.Sprint(*n)
}

func golden(t testing.TB, file string, got []byte) {
	t.Helper()
	if *update {
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s, -want +got:\n%s", file, diff)
	}
}

// TestSetOfBoth is a change of the running limits and of files, as limit set --persist makes it.
func TestSetOfBoth(t *testing.T) {
	root := copyRoot(t, "debian13")
	before := snapshot(t, root)
	if _, err := Last(options(root)); !errors.Is(err, ErrNothing) {
		t.Errorf("Last of nothing: %v", err)
	}
	if _, _, err := undoLast(options(root)); !errors.Is(err, ErrNothing) {
		t.Errorf("Undo of nothing: %v", err)
	}
	if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
		t.Errorf("looking changed something: %s", diff)
	}
	c, err := Begin(options(root), Set{Max: Step{262144, 524288}, Buckets: Step{262144, 131000}})
	must(t, err)
	must(t, c.SetLimits(Step{262144, 524288}, Step{262144, 131072}))
	_, err = c.Persist(half)
	must(t, err)
	if _, err := c.Persist(half); err == nil {
		t.Error("a set writes its files twice")
	}
	want := &Set{ID: "20261125T120000Z-1", Time: noon, By: "a test", Max: Step{262144, 524288}, Buckets: Step{262144, 131072}, Files: []SavedFile{
		{"/etc/sysctl.d/99-zz-ctwatch.conf", false}, {"/etc/modules-load.d/ctwatch.conf", false}, {"/etc/udev/rules.d/99-ctwatch.rules", false},
	}}
	last, err := Last(options(root))
	must(t, err)
	if diff := cmp.Diff(want, last); diff != "" || c.ID() != want.ID {
		t.Errorf("-want +got: %s", diff)
	}

	c, err = Begin(options(root), Set{Max: Step{1, 2}, By: "another"})
	must(t, err)
	if last, err := Last(options(root)); err != nil || last.ID != "20261125T120000Z-2" || last.By != "another" {
		t.Errorf("%+v, %v", last, err)
	}
	must(t, c.Cancel())
	set, _, err := undoLast(options(root))
	must(t, err)
	want.Undone = true
	if diff := cmp.Diff(want, set); diff != "" {
		t.Errorf("-want +got: %s", diff)
	}
	if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
		t.Errorf("undone, -before +after: %s", diff)
	}
	for _, file := range []string{backups, backups + "/20261125T120000Z-1"} {
		if info, err := os.Stat(filepath.Join(root, file)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	if info, err := os.Stat(filepath.Join(root, backups, want.ID, manifestName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestEdited: what a person wrote is not lost.
func TestEdited(t *testing.T) {
	for name, c := range map[string]struct {
		root, file string
		edit       func(text string) string
		why        string
		stays      bool // also with Force
	}{
		"a number":          {"debian13", sysctlFile, func(s string) string { return strings.Replace(s, "524288", "600000", 1) }, "was edited by hand since ctwatch wrote it", false},
		"a line more":       {"debian13", ruleFile, func(s string) string { return s + "# mine\n" }, "was edited by hand since ctwatch wrote it", false},
		"the first line":    {"debian13", loadFile, func(s string) string { return strings.Replace(s, "# Managed", "# managed", 1) }, "is there, but ctwatch did not write it", false},
		"all of it":         {"debian13", sysctlFile, func(string) string { return "" }, "is there, but ctwatch did not write it", false},
		"lines of ours":     {"centos5", rcLocalFile, func(s string) string { return strings.Replace(s, "524288", "600000", 1) }, "has lines of ctwatch that were edited by hand", false},
		"the end":           {"centos5", rcLocalFile, func(s string) string { return strings.Replace(s, endMark, "", 1) }, "has a line # BEGIN ctwatch without a # END ctwatch after it", true},
		"the beginning":     {"centos5", modprobeConf, func(s string) string { return strings.Replace(s, "# BEGIN", "# begin", 1) }, "has a line # END ctwatch without a # BEGIN ctwatch before it", true},
		"twice":             {"centos5", modprobeConf, func(s string) string { return s + s }, "has two lines # BEGIN ctwatch", true},
		"the first of both": {"centos5", modprobeConf, func(s string) string { return strings.Replace(s, "do not", "do", 1) }, "has lines of ctwatch that were edited by hand", false},
	} {
		t.Run(name, func(t *testing.T) {
			root := copyRoot(t, c.root)
			_, err := Persist(options(root), half)
			must(t, err)
			file := filepath.Join(root, c.file)
			text, err := os.ReadFile(file)
			must(t, err)
			must(t, os.WriteFile(file, []byte(c.edit(string(text))), 0o644))
			before := snapshot(t, root)
			want := &EditedError{c.file, c.why}
			for what, do := range map[string]func(Options) error{
				"Check":     func(o Options) error { _, err := Check(o, Limits{Max: 700000, Buckets: 65536}); return err },
				"Persist":   func(o Options) error { _, err := Persist(o, Limits{Max: 700000, Buckets: 65536}); return err },
				"Unpersist": func(o Options) error { _, err := Unpersist(o); return err },
			} {
				var got *EditedError
				if err := do(options(root)); !errors.As(err, &got) || *got != *want {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
			}
			var edited *EditedError
			if _, _, err := undoLast(options(root)); !errors.As(err, &edited) || edited.Path != c.file {
				t.Errorf("Undo: %v", err)
			}
			if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
				t.Errorf("something changed: %s", diff)
			}
			o := options(root)
			o.Force = true
			_, err = Persist(o, Limits{Max: 700000, Buckets: 65536})
			if (err != nil) != c.stays {
				t.Errorf("with Force: %v", err)
			}
			if c.stays {
				return
			}
			_, _, err = undoLast(options(root))
			must(t, err)
			if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
				t.Errorf("what was edited does not come back: %s", diff)
			}
		})
	}
}

// TestRcLocal: the lines of others stay, where and as they are.
func TestRcLocal(t *testing.T) {
	const lines = "/sbin/modprobe ip_conntrack\necho 524288 > /proc/sys/net/ipv4/ip_conntrack_max\n"
	for name, c := range map[string]struct {
		before    string
		perm      fs.FileMode
		want      string // %s is our lines
		afterPerm fs.FileMode
	}{
		"at the end":         {"#!/bin/sh\ntouch /x\n", 0o755, "#!/bin/sh\ntouch /x\n%s", 0o755},
		"before exit":        {"#!/bin/sh -e\ntouch /x\nexit 0\n", 0o755, "#!/bin/sh -e\ntouch /x\n%sexit 0\n", 0o755},
		"before exit, more":  {"#!/bin/sh\nexit 0\n\n# end\n", 0o755, "#!/bin/sh\n%sexit 0\n\n# end\n", 0o755},
		"no newline":         {"#!/bin/sh\ntouch /x", 0o755, "#!/bin/sh\ntouch /x\n%s", 0o755},
		"not executable":     {"#!/bin/sh\n", 0o644, "#!/bin/sh\n%s", 0o755},
		"only root's":        {"#!/bin/sh\n", 0o600, "#!/bin/sh\n%s", 0o700},
		"exit somewhere":     {"#!/bin/sh\nif x; then\nexit 1\nfi\n", 0o755, "#!/bin/sh\nif x; then\nexit 1\nfi\n%s", 0o755},
		"it is not there":    {"", 0, "#!/bin/sh\n%s", 0o755},
		"it is empty":        {"", 0o755, "%s", 0o755},
		"it has no shebang":  {"touch /x\n", 0o755, "touch /x\n%s", 0o755},
		"with carriage":      {"#!/bin/sh\r\ntouch /x\r\n", 0o755, "#!/bin/sh\r\ntouch /x\r\n%s", 0o755},
		"it has a null byte": {"#!/bin/sh\n\x00\n", 0o755, "#!/bin/sh\n\x00\n%s", 0o755},
	} {
		t.Run(name, func(t *testing.T) {
			root := copyRoot(t, "centos5")
			file := filepath.Join(root, rcLocalFile)
			must(t, os.Remove(file))
			if c.perm != 0 {
				must(t, os.WriteFile(file, []byte(c.before), c.perm))
				must(t, os.Chmod(file, c.perm))
			}
			before := snapshot(t, root)
			_, err := Persist(options(root), Limits{Max: 524288})
			must(t, err)
			data, err := os.ReadFile(file)
			must(t, err)
			s := parseShared(string(data))
			if got := s.before + "%s" + s.after; !s.whole || s.body != lines || got != c.want {
				t.Errorf("%+v", s)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != c.afterPerm {
				t.Errorf("%v, %v", info.Mode(), err)
			}
			if strings.Count(string(data), "524288") != 1 {
				t.Errorf("the number stands elsewhere than in the command:\n%s", data)
			}
			_, err = Persist(options(root), Limits{Max: 600000})
			must(t, err)
			if data, err := os.ReadFile(file); err != nil || strings.Count(string(data), "600000") != 1 || strings.Contains(string(data), "524288") {
				t.Errorf("%v\n%s", err, data)
			}
			_, err = Unpersist(options(root))
			must(t, err)
			if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
				t.Errorf("-before +after: %s", diff)
			}
		})
	}
}

// TestOtherLayout: what was written for another system is removed when the system was upgraded.
func TestOtherLayout(t *testing.T) {
	root := copyRoot(t, "centos7")
	_, err := Persist(options(root), half)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "proc/sys/kernel/osrelease"), []byte("5.14.0-570.el9.x86_64\n"), 0o644))
	r, err := Persist(options(root), half)
	must(t, err)
	want := []string{
		"written /etc/sysctl.d/99-zz-ctwatch.conf", "unchanged /etc/modules-load.d/ctwatch.conf",
		"written /etc/udev/rules.d/99-ctwatch.rules", "removed /etc/modprobe.d/ctwatch.conf",
	}
	if diff := cmp.Diff(want, did(r)); diff != "" {
		t.Errorf("-want +got: %s", diff)
	}
	if r.Outlook.NextBoot.Buckets == nil || *r.Outlook.NextBoot.Buckets != half.Buckets {
		t.Errorf("%+v", r.Outlook)
	}
}

// TestImage: a disk whose kernel does not run, and that has no /proc.
func TestImage(t *testing.T) {
	for _, name := range roots(t) {
		root := copyRoot(t, name)
		release, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/osrelease"))
		must(t, err)
		must(t, os.RemoveAll(filepath.Join(root, "proc")))
		must(t, os.RemoveAll(filepath.Join(root, "sys")))
		without, err := Check(options(root), half)
		must(t, err)
		if without.Outlook.NextBoot.Max != nil {
			t.Errorf("%s: without a kernel the next boot is said to give %d", name, *without.Outlook.NextBoot.Max)
		}
		must(t, os.MkdirAll(filepath.Join(root, "lib/modules", strings.TrimSpace(string(release))), 0o755))
		must(t, os.MkdirAll(filepath.Join(root, "lib/modules", strings.Replace(string(release[:len(release)-1]), "-", "-0.", 1)), 0o755)) // and an older one
		r, err := Persist(options(root), half)
		must(t, err)
		if m, b := r.Outlook.NextBoot.Max, r.Outlook.NextBoot.Buckets; m == nil || *m != half.Max || b == nil || *b != half.Buckets {
			t.Errorf("%s: %+v", name, r.Outlook)
		}
		if diff := cmp.Diff(did(r), did(without)); diff != "" {
			t.Errorf("%s: other files by its release than by its kernel, %s", name, diff)
		}
	}
}

// TestConflicts has all files of the table that internal/boot keeps, with what is really written on each system.
func TestConflicts(t *testing.T) {
	files, err := filepath.Glob("../boot/testdata/conflicts/*.txtar")
	must(t, err)
	if len(files) < 25 {
		t.Fatalf("only %d cases", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			must(t, err)
			base, plain, l, want := "debian13", "", Limits{Max: 524288}, []string(nil)
			_, lines, _ := strings.Cut(string(a.Comment), "\n")
			for line := range strings.Lines(lines) {
				switch name, value, _ := strings.Cut(strings.TrimSpace(line), ": "); {
				case name == "base":
					base = value
				case name == "plain":
					plain = value
				case name == "wanted":
					_, err := fmt.Sscanf(value, "max %d buckets %d", &l.Max, &l.Buckets)
					must(t, err)
				case name != "oracle" && value != "none":
					want = append(want, name+": "+value)
				}
			}
			root := copyRoot(t, base)
			for _, f := range a.Files {
				plant(t, root, f, plain)
			}
			before := snapshot(t, root)
			var conflict *ConflictError
			_, err = Persist(options(root), l)
			if err != nil && !errors.As(err, &conflict) {
				t.Fatal(err)
			}
			var got []string
			if conflict != nil {
				for _, c := range conflict.Conflicts {
					for _, by := range c.By {
						got = append(got, strings.TrimSpace(fmt.Sprintf("%s: %s:%d %s", by, c.File, c.Line.Line, c.Value)))
					}
				}
				if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
					t.Errorf("refused, and something changed: %s", diff)
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			o := options(root)
			o.Force = true
			r, err := Persist(o, l)
			must(t, err)
			if conflict != nil && len(r.Notes) < len(conflict.Conflicts) {
				t.Errorf("written all the same, and not told: %q", r.Notes)
			}
		})
	}
}

func plant(t testing.TB, root string, f txtar.File, plain string) {
	t.Helper()
	name, target, link := strings.Cut(f.Name, " -> ")
	file := filepath.Join(root, name)
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.RemoveAll(file))
	if link {
		must(t, os.Symlink(target, file))
		return
	}
	perm := fs.FileMode(0o644)
	if filepath.Base(name) == "rc.local" && name != plain {
		perm = 0o755
	}
	must(t, os.WriteFile(file, f.Data, perm))
}

// TestKept: backups do not fill the disk.
func TestKept(t *testing.T) {
	root := copyRoot(t, "debian13")
	for i := range kept + 7 {
		_, err := Persist(options(root), Limits{Max: uint64(300000 + i)})
		must(t, err)
	}
	entries, err := os.ReadDir(filepath.Join(root, backups))
	must(t, err)
	if len(entries) != kept {
		t.Errorf("%d backups are kept", len(entries))
	}
	for i := kept + 6; i > 6; i-- {
		_, _, err := undoLast(options(root))
		must(t, err)
		o, err := boot.Read(root)
		must(t, err)
		if *o.Persisted.Max != uint64(300000+i-1) {
			t.Fatalf("undo to %d gives %d", 300000+i-1, *o.Persisted.Max)
		}
	}
	if _, _, err := undoLast(options(root)); !errors.Is(err, ErrNothing) {
		t.Errorf("what is not kept is undone: %v", err)
	}
}
