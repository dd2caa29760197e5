package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/test/need"
)

// hostile is what a namespace or an interface may be called.
const hostile = "x\n~!rm -rf /\n$(reboot)`reboot`;\"'\x1b[2J"

func TestDocument(t *testing.T) {
	h := open(t, Options{Path: script(t, `cat`)})
	i := incident("20261125-030405-00ff", record.PhaseOpen)
	i.Name = hostile
	want, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	if !h.Call(i) {
		t.Fatal("not called")
	}
	i.Name, i.Phase = "changed", record.PhaseClose // the call is of the record as it was
	r := next(t, h)
	if diff := cmp.Diff(string(want)+"\n", r.Output); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
	if got := r.Record.(*record.Incident); got.Phase != record.PhaseOpen || got.Name != hostile {
		t.Errorf("result is of %q %q", got.Phase, got.Name)
	}
}

func TestSurroundings(t *testing.T) {
	var core unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1 << 20, Max: unix.RLIM_INFINITY}, &core); err != nil {
		t.Fatal(err)
	}
	defer unix.Prlimit(0, unix.RLIMIT_CORE, &core, nil)
	var real unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_RTTIME, &unix.Rlimit{Cur: 500_000, Max: unix.RLIM_INFINITY}, &real); err != nil {
		t.Fatal(err)
	}
	defer unix.Prlimit(0, unix.RLIMIT_RTTIME, &real, nil)
	h := open(t, Options{Path: script(t, `cat >/dev/null
echo "$# arguments, umask $(umask), in $(pwd), session $(cut -d' ' -f6 /proc/$$/stat) of $$, group $(cut -d' ' -f5 /proc/$$/stat)"
ulimit -c
sed -n 's/^Max realtime timeout *//p' /proc/$$/limits | tr -s ' '
env | grep -v -e ^_= -e ^PWD= -e ^OLDPWD= -e ^SHLVL= | sort`)})
	i := incident("20261125-030405-00ff", record.PhaseUpdate)
	i.NS, i.Name, i.Owner, i.PeakCount, i.Evicted, i.Unattributed, i.Buckets = 1, hostile, hostile, 2, 3, 4, 5
	i.Limits.After, i.Duration, i.Drops = 6, 7_900_000_000, [6]uint64{8, 9}
	h.Call(i)
	r := next(t, h)
	got := regexp.MustCompile(`session (\d+) of (\d+), group (\d+)\n`).ReplaceAllStringFunc(r.Output, func(s string) string {
		n := regexp.MustCompile(`\d+`).FindAllString(s, -1)
		return fmt.Sprintf("session and group of its own: %v\n", n[0] == n[1] && n[1] == n[2])
	})
	if diff := cmp.Diff(`0 arguments, umask 0027, in /, session and group of its own: true
0
unlimited unlimited us 
CTWATCH_BUCKETS=5
CTWATCH_DROPS=17
CTWATCH_EVENT_ID=20261125-030405-00ff
CTWATCH_EVICTED=3
CTWATCH_KIND=incident
CTWATCH_MAX=6
CTWATCH_NS=1
CTWATCH_PEAK_COUNT=2
CTWATCH_PHASE=update
CTWATCH_SECONDS=7
CTWATCH_SEQ=7
CTWATCH_SKIPPED=0
CTWATCH_TIME=1795575845
CTWATCH_UNATTRIBUTED=4
LANG=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin
`, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestActionEnvironment(t *testing.T) {
	a := &record.Action{What: hostile, From: 1, To: 2, Why: hostile, Result: hostile, NS: 3, Name: hostile}
	c, err := newCall(stamped(a))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "CTWATCH_KIND=action", "CTWATCH_TIME=1795575845", "CTWATCH_SEQ=7",
		"CTWATCH_SKIPPED=3", "CTWATCH_EVENT_ID=action-20261125-030405-7", "CTWATCH_PHASE=", "CTWATCH_NS=3", "CTWATCH_FROM=1", "CTWATCH_TO=2"}
	if diff := cmp.Diff(want, c.environ(3)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestEnds is how hooks end by themselves, and how they are ended.
func TestEnds(t *testing.T) {
	long := Options{Timeout: time.Hour, Grace: time.Hour}
	soon := Options{Timeout: 200 * time.Millisecond, Grace: 200 * time.Millisecond}
	calm := Options{Timeout: 200 * time.Millisecond, Grace: time.Hour} // SIGTERM must do
	big := func() *record.Incident {
		i := incident("big", record.PhaseOpen)
		i.Reasons = []string{strings.Repeat("much to read ", 1<<17)} // more than any pipe holds
		return i
	}
	whole, err := newCall(big())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		options Options
		body    string
		about   *record.Incident
		want    Result
	}{
		{"well", long, `cat >/dev/null; echo done`, nil, Result{Output: "done\n"}},
		{"both outputs", long, `echo one; echo two >&2; printf three`, nil, Result{Output: "one\ntwo\nthree"}},
		{"exit status", long, `echo oh; exit 3`, nil, Result{Exit: 3, Output: "oh\n"}},
		{"signal", long, `ulimit -c 0; kill -SEGV $$`, nil, Result{Exit: -1, Signal: syscall.SIGSEGV}},
		{"reads all", long, `wc -c`, big(), Result{Output: fmt.Sprintln(len(whole.line))}},
		{"reads nothing", long, `exit 0`, big(), Result{}},
		{"closes its input", long, `exec <&-; echo on`, big(), Result{Output: "on\n"}},
		{"reads a little", long, `head -c 2`, big(), Result{Output: `{"`}},
		{"hangs", calm, `echo on; sleep 1000`, nil, Result{Exit: -1, Signal: syscall.SIGTERM, TimedOut: true, Output: "on\n"}},
		{"ends when told", calm, `trap 'echo told; exit 4' TERM; sleep 1000 & wait`, nil, Result{Exit: 4, TimedOut: true, Output: "told\n"}},
		{"ignores SIGTERM", soon, `trap "" TERM; sleep 1000`, nil, Result{Exit: -1, Signal: syscall.SIGKILL, TimedOut: true}},
		{"stops itself", soon, `kill -STOP $$`, nil, Result{Exit: -1, Signal: syscall.SIGKILL, TimedOut: true}},
		{"hangs with a large document", calm, `sleep 1000`, big(), Result{Exit: -1, Signal: syscall.SIGTERM, TimedOut: true}},
		{"leaves a child in its group", soon, `sleep 1000 & exit 0`, nil, Result{Left: true}},
		{"leaves a silent child in its group", long, `sleep 1000 <&- >&- 2>&- & exit 0`, nil, Result{}},
		{"hostile output", long, `printf 'a\033[2Jb\000c\377d\r\n\tz'`, nil, Result{Output: "a\\x1b[2Jb\\x00c\uFFFDd\\r\n\tz"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.options.Path = script(t, "echo $$ >$dir/pid\n"+c.body)
			h := open(t, c.options)
			about := c.about
			if about == nil {
				about = incident("1", record.PhaseOpen)
			}
			h.Call(about)
			got := next(t, h)
			got.Record, got.Waited, got.Took = nil, 0, 0
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			group := pidIn(t, filepath.Dir(c.options.Path)+"/pid")
			await(t, "nothing of the hook's group runs", func() bool { return groupDead(t, group) })
		})
	}
}

func pidIn(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestDaemon is a hook whose child has a session of its own, and keeps the output.
func TestDaemon(t *testing.T) {
	need.Tool(t, "setsid")
	h := open(t, Options{Timeout: time.Hour, Grace: 100 * time.Millisecond, Path: script(t, `rm -f $dir/ready; mkfifo $dir/ready
setsid sh -c 'echo $$ >'$dir'/pid; echo >'$dir'/ready; exec sleep 1000' &
read x <$dir/ready; echo gone`)})
	for _, id := range []string{"1", "2"} { // the second call does not wait for the first one's daemon
		r := alone(t, h, incident(id, record.PhaseOpen))
		pid := pidIn(t, filepath.Dir(h.options.Path)+"/pid")
		if dead(pid) {
			t.Error("the daemon, which is not ours to end, is dead")
		}
		t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
		if r.Failed() || !r.Left || r.Output != "gone\n" {
			t.Errorf("%+v", r)
		}
	}
}

func TestFlood(t *testing.T) {
	flood := uint64(1 << 30)
	if testing.Short() {
		flood = 1 << 26
	}
	h := open(t, Options{Timeout: time.Hour, Path: script(t, fmt.Sprintf("echo begin; head -c %d /dev/zero", flood))})
	r := alone(t, h, incident("1", record.PhaseOpen))
	if r.Failed() || len(r.Output) > 64<<10+3 || !strings.HasPrefix(r.Output, `begin`+"\n"+`\x00`) {
		t.Errorf("exit %d, %d bytes of output: %.20q", r.Exit, len(r.Output), r.Output)
	}
	if want := uint64(len("begin\n")) + flood - 64<<10; r.Discarded != want {
		t.Errorf("discarded %d, want %d", r.Discarded, want)
	}
}

// TestReplaced is a hook that is replaced while it is open, as editors and packages do, and that then becomes unfit.
func TestReplaced(t *testing.T) {
	path := script(t, `echo one`)
	h := open(t, Options{Path: path})
	if r := alone(t, h, incident("1", record.PhaseOpen)); r.Output != "one\n" {
		t.Errorf("%+v", r)
	}
	write(t, path+".new", "#!/bin/sh\necho two\n", 0o755)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if r := alone(t, h, incident("1", record.PhaseOpen)); r.Output != "two\n" {
		t.Errorf("%+v", r)
	}
	if err := os.Chmod(path, 0o775); err != nil {
		t.Fatal(err)
	}
	r := alone(t, h, incident("1", record.PhaseOpen))
	var unfit *UnfitError
	if !errors.As(r.Err, &unfit) || r.Output != "" || r.Exit != -1 || !r.Failed() {
		t.Errorf("%+v", r)
	}
}

// TestCannotRun is a program that looks fit, and that the kernel cannot run.
func TestCannotRun(t *testing.T) {
	path := filepath.Join(directory(t), "hook")
	write(t, path, "\x7fELF but no more", 0o755)
	h := open(t, Options{Path: path})
	if r := alone(t, h, incident("1", record.PhaseOpen)); !errors.Is(r.Err, unix.ENOEXEC) {
		t.Errorf("%+v", r)
	}
}

// binary puts a copy of this test's program where a hook may be, under a name that TestMain knows.
func binary(t *testing.T, name string) string {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	dir := directory(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	to, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, self); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return to.Name()
}

// TestRights is a hook of a process that has many rights, which says what it has itself.
func TestRights(t *testing.T) {
	program := binary(t, "binary-hook")
	text := script(t, `cat /proc/self/status
for f in 0 1 2 3 4 5 6 7 8 9; do
	[ -h /proc/$$/fd/$f ] && printf 'File: %s ' $f && readlink /proc/$$/fd/$f
done
exit 0`)
	if err := os.Chmod(filepath.Dir(text), 0o755); err != nil {
		t.Fatal(err)
	}
	ambient := []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_DAC_OVERRIDE}
	for _, c := range []struct {
		name string
		hook string
		attr syscall.SysProcAttr
		bnd  string // the bounding set, which root's has to be empty
	}{
		{name: "root, script", hook: text, bnd: "0000000000000000"},
		{name: "root, binary", hook: program, bnd: "0000000000000000"},
		{name: "root with ambient, script", hook: text, attr: syscall.SysProcAttr{AmbientCaps: ambient}, bnd: "0000000000000000"},
		{name: "root with ambient, binary", hook: program, attr: syscall.SysProcAttr{AmbientCaps: ambient}, bnd: "0000000000000000"},
		{name: "user with ambient, binary", hook: program,
			attr: syscall.SysProcAttr{AmbientCaps: ambient, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			caller := exec.Command(binary(t, "caller"))
			caller.Env = []string{"HOOK_TEST_CALLER=" + c.hook}
			caller.SysProcAttr = &c.attr
			// A file that the caller was given, and must not hand on.
			caller.ExtraFiles = []*os.File{os.Stderr, os.Stderr, os.Stderr, os.Stderr}
			out, err := caller.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			status := map[string]string{}
			var files []string
			for line := range strings.Lines(string(out)) {
				key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
				value = strings.TrimSpace(value)
				if key == "File" {
					files = append(files, regexp.MustCompile(`:\[\d+\]`).ReplaceAllString(value, ""))
				} else {
					status[key] = value
				}
			}
			const none = "0000000000000000"
			want := map[string]string{"CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none, "NoNewPrivs": "1", "Result": "0 <nil>"}
			if c.bnd != "" {
				want["CapBnd"] = c.bnd
			}
			for key, value := range want {
				if status[key] != value {
					t.Errorf("%s is %q, want %q", key, status[key], value)
				}
			}
			const ofLibc = 1<<31 | 1<<32 // 32 and 33, which it keeps for itself and may have been started without
			if ignored, err := strconv.ParseUint(status["SigIgn"], 16, 64); err != nil || ignored&^ofLibc != 0 {
				t.Errorf("ignores signals %s", status["SigIgn"])
			}
			wantFiles := []string{"0 pipe", "1 pipe", "2 pipe"}
			if c.hook == text {
				wantFiles = append(wantFiles, "3 "+text) // its interpreter's way to it
			} else if got := status["Args"]; got != fmt.Sprintf("[%q]", c.hook) {
				t.Errorf("arguments are %s", got)
			}
			if diff := cmp.Diff(wantFiles, files); diff != "" {
				t.Errorf("files (-want +got):\n%s\n%s", diff, out)
			}
		})
	}
}

// TestRightsStay is the process that calls, whose own rights are left as they are.
func TestRightsStay(t *testing.T) {
	rights := func() string {
		var all strings.Builder
		tasks, err := filepath.Glob("/proc/self/task/*/status")
		if err != nil {
			t.Fatal(err)
		}
		threads := map[string]bool{}
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			if err != nil {
				continue // it ended
			}
			lines := regexp.MustCompile(`(?m)^(Cap...|NoNewPrivs|Umask):.*$`).FindAllString(string(text), -1)
			threads[strings.Join(lines, "\n")] = true
		}
		for thread := range threads {
			all.WriteString(thread + "\n")
		}
		return all.String()
	}
	path := script(t, `exit 0`)
	before := rights()
	h := open(t, Options{Path: path, Burst: 100})
	for n := range 20 {
		if r := alone(t, h, incident(strconv.Itoa(n), record.PhaseOpen)); r.Failed() {
			t.Fatalf("%+v", r)
		}
	}
	await(t, "every thread has the rights that it had", func() bool { return rights() == before })
}

// TestKilled kills the process that calls a hook.
func TestKilled(t *testing.T) {
	path := script(t, `echo $$ >$dir/pid.new; mv $dir/pid.new $dir/pid; sleep 1000`)
	caller := exec.Command(binary(t, "caller"))
	caller.Env = []string{"HOOK_TEST_CALLER=" + path}
	if err := caller.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the hook runs", func() bool {
		_, err := os.Stat(filepath.Dir(path) + "/pid")
		return err == nil
	})
	if err := caller.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = caller.Wait()
	pid := pidIn(t, filepath.Dir(path)+"/pid")
	await(t, "the hook is dead", func() bool { return dead(pid) })
	_ = unix.Kill(-pid, unix.SIGKILL) // the sleep
}
