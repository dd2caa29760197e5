package persist

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

// quick is a disk that does not wait for what nothing here can lose: the power stays on.
type quick struct{ osDisk }

func (quick) Fsync(int) error { return nil }

// faulty is a disk of which some calls fail, or on which the process ends.
type faulty struct {
	disk
	n      int // calls so far
	at     int // this one fails, from 1
	always bool
	err    error
	crash  func() // instead of an error
	calls  []string
}

// fails counts a call.
func (d *faulty) fails(call, what string) error {
	d.n++
	d.calls = append(d.calls, strings.TrimSpace(call+" "+what))
	if d.at == 0 || d.n < d.at || d.n > d.at && !d.always {
		return nil
	}
	if d.crash != nil {
		d.crash()
	}
	return d.err
}

func (d *faulty) Open(path string, flags int) (int, error) {
	if err := d.fails("open", ""); err != nil {
		return -1, err
	}
	return d.disk.Open(path, flags)
}

func (d *faulty) Openat(dir int, name string, flags int, perm uint32) (int, error) {
	what := "openat"
	if flags&unix.O_CREAT != 0 {
		what = "create"
	}
	if err := d.fails(what, name); err != nil {
		return -1, err
	}
	return d.disk.Openat(dir, name, flags, perm)
}

func (d *faulty) Close(fd int) error { return errors.Join(d.disk.Close(fd), d.fails("close", "")) }

func (d *faulty) Read(fd int, p []byte) (int, error) {
	if err := d.fails("read", ""); err != nil {
		return 0, err
	}
	return d.disk.Read(fd, p)
}

// Write writes a part also when it fails.
func (d *faulty) Write(fd int, p []byte) (int, error) {
	half := len(p) / 2
	if _, err := d.disk.Write(fd, p[:half]); err != nil {
		return 0, err
	}
	if err := d.fails("write", ""); err != nil {
		return half, err
	}
	n, err := d.disk.Write(fd, p[half:])
	return half + n, err
}

func (d *faulty) Fstat(fd int) (unix.Stat_t, error) {
	if err := d.fails("fstat", ""); err != nil {
		return unix.Stat_t{}, err
	}
	return d.disk.Fstat(fd)
}

func (d *faulty) Fchmod(fd int, perm uint32) error {
	if err := d.fails("fchmod", ""); err != nil {
		return err
	}
	return d.disk.Fchmod(fd, perm)
}

func (d *faulty) Fchown(fd, uid, gid int) error {
	if err := d.fails("fchown", ""); err != nil {
		return err
	}
	return d.disk.Fchown(fd, uid, gid)
}

func (d *faulty) Fsync(fd int) error {
	if err := d.fails("fsync", ""); err != nil {
		return err
	}
	return d.disk.Fsync(fd)
}

func (d *faulty) Flock(fd int) error {
	if err := d.fails("flock", ""); err != nil {
		return err
	}
	return d.disk.Flock(fd)
}

func (d *faulty) ReadDir(fd int) ([]string, error) {
	if err := d.fails("readdir", ""); err != nil {
		return nil, err
	}
	return d.disk.ReadDir(fd)
}

func (d *faulty) Readlinkat(dir int, name string) (string, error) {
	if err := d.fails("readlink", name); err != nil {
		return "", err
	}
	return d.disk.Readlinkat(dir, name)
}

func (d *faulty) Mkdirat(dir int, name string, perm uint32) error {
	if err := d.fails("mkdir", name); err != nil {
		return err
	}
	return d.disk.Mkdirat(dir, name, perm)
}

func (d *faulty) Renameat(dir int, from, to string) error {
	if err := d.fails("rename", to); err != nil {
		return err
	}
	return d.disk.Renameat(dir, from, to)
}

func (d *faulty) Unlinkat(dir int, name string) error {
	if err := d.fails("unlink", name); err != nil {
		return err
	}
	return d.disk.Unlinkat(dir, name)
}

func (d *faulty) Rmdirat(dir int, name string) error {
	if err := d.fails("rmdir", name); err != nil {
		return err
	}
	return d.disk.Rmdirat(dir, name)
}

func (d *faulty) Getxattr(fd int, name string) ([]byte, error) {
	if err := d.fails("getxattr", ""); err != nil {
		return nil, err
	}
	return d.disk.Getxattr(fd, name)
}

func (d *faulty) Setxattr(fd int, name string, value []byte) error {
	if err := d.fails("setxattr", ""); err != nil {
		return err
	}
	return d.disk.Setxattr(fd, name, value)
}

// machines are the smallest on which each layout is used: four files on the first, in directories of which some are to be
// made; lines in two files of others on the second.
var machines = map[string]string{
	"el7": `-- proc/sys/kernel/osrelease --
3.10.0-1160.el7.x86_64
-- run/systemd/system/x --
-- usr/lib/systemd/systemd-sysctl --
-- etc/modprobe.d/x.conf --
-- etc/modules-load.d/x --
`,
	"el5": `-- proc/sys/kernel/osrelease --
2.6.18-419.el5
-- etc/redhat-release --
CentOS release 5.11 (Final)
-- etc/modprobe.conf --
alias eth0 e1000
-- etc/rc.d/rc.local --
#!/bin/sh
touch /x
`,
}

func machine(t testing.TB, name string) (root string) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "r")
	for _, f := range txtar.Parse([]byte(machines[name])).Files {
		file := filepath.Join(root, f.Name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		perm := fs.FileMode(0o644)
		if path.Base(f.Name) == "systemd-sysctl" {
			perm = 0o755
		}
		must(t, os.WriteFile(file, f.Data, perm))
	}
	return root
}

// deeds are what is done to files, and what was done before.
var deeds = map[string]struct{ before, do func(o Options) error }{
	"persist another": {
		func(o Options) error { _, err := Persist(o, half); return err },
		func(o Options) error { _, err := Persist(o, Limits{Max: 700000}); return err },
	},
	"unpersist": {
		func(o Options) error { _, err := Persist(o, half); return err },
		func(o Options) error { _, err := Unpersist(o); return err },
	},
	"undo": {
		func(o Options) error {
			_, err := Persist(o, half)
			if err == nil {
				_, err = Persist(o, Limits{Max: 700000})
			}
			return err
		},
		func(o Options) error { _, _, err := undoLast(o); return err },
	},
	"set and persist": {
		func(Options) error { return nil },
		func(o Options) error {
			c, err := Begin(o, Set{Max: Step{1, 524288}})
			if err != nil {
				return err
			}
			_, err = c.Persist(half)
			return err
		},
	},
}

// eachFault plays each deed on each machine with each of its calls, by their number, going wrong; with every step-th.
func eachFault(t *testing.T, step int, wrong func(t *testing.T, name string, root string, o Options, d *faulty, before, after map[string]string)) {
	if testing.Short() {
		step = 11
	}
	for _, machineName := range slices.Sorted(maps.Keys(machines)) {
		for _, name := range slices.Sorted(maps.Keys(deeds)) {
			t.Run(machineName+"/"+name, func(t *testing.T) {
				t.Parallel()
				deed := deeds[name]
				model := machine(t, machineName)
				o := options(model)
				must(t, deed.before(o))
				dir := t.TempDir()
				if memory, err := os.MkdirTemp("/dev/shm", "ctwatch-persist-"); err == nil { // there are thousands of copies
					dir = memory
					t.Cleanup(func() { _ = os.RemoveAll(memory) })
				}
				prepare := func() (root string, o Options) {
					root = filepath.Join(dir, "r")
					must(t, os.RemoveAll(root))
					must(t, os.CopyFS(root, os.DirFS(model)))
					return root, options(root)
				}
				root, o := prepare()
				before := snapshot(t, model)
				if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
					t.Fatalf("a copy differs: %s", diff)
				}
				clean := &faulty{disk: quick{}}
				o.disk = clean
				must(t, deed.do(o))
				after := snapshot(t, root)
				if clean.n < 30 || cmp.Equal(before, after) {
					t.Fatalf("only %d calls: what should fail?", clean.n)
				}
				for at := 1; at <= clean.n; at += step {
					root, o := prepare()
					d := &faulty{disk: quick{}, at: at}
					o.disk = d
					wrong(t, fmt.Sprintf("call %d of %d, %s", at, clean.n, clean.calls[at-1]), root, o, d, before, after)
				}
			})
		}
	}
}

// deedOf is the deed of a subtest.
func deedOf(t *testing.T) (deed struct{ before, do func(o Options) error }) {
	return deeds[strings.ReplaceAll(path.Base(t.Name()), "_", " ")]
}

// files are those of a snapshot without its directories: that an empty one stays is no harm.
func files(all map[string]string) map[string]string {
	only := maps.Clone(all)
	maps.DeleteFunc(only, func(_, what string) bool { return strings.HasPrefix(what, "d") })
	return only
}

// oldOrNew are the files that are neither as before nor as after, but for what a cut-off write leaves under its own name.
func oldOrNew(now, before, after map[string]string) (torn []string) {
	for _, name := range slices.Sorted(maps.Keys(now)) {
		base := path.Base(name)
		temporary := strings.HasPrefix(base, ".ctwatch-") && strings.HasSuffix(base, ".tmp")
		if now[name] != before[name] && now[name] != after[name] && !temporary {
			torn = append(torn, name)
		}
	}
	for name := range before {
		_, is := now[name]
		_, will := after[name]
		if !is && will {
			torn = append(torn, name+" is gone")
		}
	}
	return torn
}

// TestFault: when one call fails, all files are as they were, and the error says what; when all fail from then on, as
// with a disk that went away, each is old or new. What comes next mends it.
func TestFault(t *testing.T) {
	const fault = syscall.ENOSPC
	for step, always := range map[int]bool{1: false, 3: true} {
		t.Run(map[bool]string{false: "once", true: "from then on"}[always], func(t *testing.T) {
			eachFault(t, step, func(t *testing.T, name, root string, o Options, d *faulty, before, after map[string]string) {
				deed := deedOf(t)
				d.err, d.always = fault, always
				err := deed.do(o)
				now := snapshot(t, root)
				switch {
				case err == nil:
					if diff := cmp.Diff(files(after), files(now)); diff != "" {
						t.Errorf("%s: no error, -want +got: %s", name, diff)
					}
					return
				case !errors.Is(err, fault):
					t.Errorf("%s: the error is %v", name, err)
				case always || strings.HasSuffix(t.Name(), "undo"):
					if torn := oldOrNew(now, before, after); len(torn) > 0 {
						t.Errorf("%s: neither old nor new: %q", name, torn)
					}
				default:
					if diff := cmp.Diff(before, now); diff != "" {
						t.Errorf("%s: (%v) -before +after: %s", name, err, diff)
					}
				}
				if always && strings.HasSuffix(t.Name(), "undo") && cmp.Equal(after, now) {
					return // it came to its end, and could not see that it had: the next undoes one more
				}
				o.disk = quick{}
				if err := deed.do(o); err != nil {
					t.Errorf("%s: again, and all is well: %v", name, err)
				}
				if diff := cmp.Diff(files(after), files(snapshot(t, root))); diff != "" {
					t.Errorf("%s: again, -want +got: %s", name, diff)
				}
			})
		})
	}
}

type crashed struct{}

// TestCrash: when the process ends at a call, each file is old or new. What comes next mends it, whether that is the same
// again, or Undo.
func TestCrash(t *testing.T) {
	for step, next := range []string{2: "again", 5: "undo"} {
		if next == "" {
			continue
		}
		t.Run(next, func(t *testing.T) {
			eachFault(t, step, func(t *testing.T, name, root string, o Options, d *faulty, before, after map[string]string) {
				deed := deedOf(t)
				d.crash = func() { panic(crashed{}) }
				done := false
				func() {
					defer func() {
						if _, is := recover().(crashed); !is && !done {
							t.Errorf("%s: it did not crash", name)
						}
					}()
					must(t, deed.do(o))
					done = true
				}()
				now := snapshot(t, root)
				if torn := oldOrNew(now, before, after); len(torn) > 0 {
					t.Errorf("%s: neither old nor new: %q", name, torn)
				}
				o.disk = quick{}
				if next == "again" {
					if err := deed.do(o); err != nil && !errors.Is(err, ErrNothing) {
						t.Errorf("%s: again: %v", name, err)
					}
					// An undo that had come to its end before the crash undoes one more.
					if got := snapshot(t, root); !cmp.Equal(after, got) && !strings.HasSuffix(t.Name(), "undo") {
						t.Errorf("%s: again, -want +got: %s", name, cmp.Diff(after, got))
					}
					return
				}
				last, err := Last(o)
				if errors.Is(err, ErrNothing) || err == nil && !last.CutOff && cmp.Equal(before, now) {
					return // it had not begun
				}
				must(t, err)
				_, _, err = undoLast(o)
				must(t, err)
				got := snapshot(t, root)
				if diff := cmp.Diff(before, got); diff != "" && !strings.HasSuffix(t.Name(), "undo") {
					t.Errorf("%s: undone, -before +after: %s", name, diff)
				}
				if torn := oldOrNew(got, before, after); len(torn) > 0 && !strings.HasSuffix(t.Name(), "undo") {
					t.Errorf("%s: undone, and neither old nor new: %q", name, torn)
				}
			})
		})
	}
}

// TestProtocol: a file is on the disk before it takes its place, and its place before anything else is done; what was there
// is kept before that.
func TestProtocol(t *testing.T) {
	root := machine(t, "el7")
	o := options(root)
	_, err := Persist(o, half)
	must(t, err)
	d := &faulty{disk: quick{}}
	o.disk = d
	_, err = Persist(o, Limits{Max: 700000, Buckets: half.Buckets})
	must(t, err)
	var got []string
	for _, call := range d.calls {
		switch word, _, _ := strings.Cut(call, " "); word {
		case "create", "write", "fchmod", "fsync", "rename", "mkdir", "unlink", "rmdir":
			got = append(got, call)
		}
	}
	file := func(name string) []string {
		return []string{"create .ctwatch-" + name + ".tmp", "write", "fchmod", "fsync", "rename " + name, "fsync"}
	}
	made := []string{"mkdir 20261125T120000Z-2", "fchmod", "fsync"}
	want := slices.Concat(made, file(manifestName), file("0"), file(manifestName), file("99-zz-ctwatch.conf"), file(manifestName))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got: %s", diff)
	}
}

const killedEnv = "CTWATCH_TEST_PERSIST"

// TestMain is also the process that TestKilled kills.
func TestMain(m *testing.M) {
	if root := os.Getenv(killedEnv); root != "" {
		at, _ := strconv.Atoi(os.Getenv(killedEnv + "_AT"))
		o := options(root)
		o.disk = &faulty{disk: osDisk{}, at: at, crash: func() {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}}
		fmt.Println(deeds[os.Getenv(killedEnv+"_DEED")].do(o))
		return
	}
	os.Exit(m.Run())
}

// TestKilled: the same with a process that is really killed, and another that comes after it.
func TestKilled(t *testing.T) {
	step := 3
	if testing.Short() {
		step = 29
	}
	for at := 5; ; at += step {
		root := machine(t, "el7")
		before := snapshot(t, root)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killedEnv+"="+root, killedEnv+"_DEED=set and persist", killedEnv+"_AT="+strconv.Itoa(at))
		out, err := cmd.CombinedOutput()
		if err == nil {
			if at < 50 || string(out) != "<nil>\n" {
				t.Fatalf("call %d: %s", at, out)
			}
			return // it has no more calls
		}
		now := snapshot(t, root)
		_, err = Persist(options(root), half)
		must(t, err)
		if torn := oldOrNew(now, before, snapshot(t, root)); len(torn) > 0 {
			t.Errorf("killed at call %d: neither old nor new: %q", at, torn)
		}
		_, err = Unpersist(options(root))
		must(t, err)
		if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
			t.Errorf("killed at call %d, persisted and taken away, -before +after: %s", at, diff)
		}
	}
}
