package hook

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/record"
)

// gated is a hook that says what it was told, and waits until it is released.
func gated(t *testing.T) (path string, release func(id string)) {
	t.Helper()
	path = script(t, `cat >/dev/null
echo $CTWATCH_EVENT_ID $CTWATCH_PHASE after $CTWATCH_SKIPPED
mkfifo $dir/$CTWATCH_EVENT_ID
read x <$dir/$CTWATCH_EVENT_ID
exit 0`)
	return path, func(id string) {
		t.Helper()
		gate := filepath.Join(filepath.Dir(path), id)
		await(t, "the hook waits at "+id, func() bool {
			f, err := os.OpenFile(gate, os.O_WRONLY|unix.O_NONBLOCK, 0) // only if somebody reads
			if err == nil {
				f.Close()
			}
			return err == nil
		})
	}
}

// awaitStart waits until the call that is next has been started.
func awaitStart(t *testing.T, h *Hook) {
	t.Helper()
	await(t, "the first call runs", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.calls[0].started
	})
}

func TestQueue(t *testing.T) {
	path, release := gated(t)
	h := open(t, Options{Path: path, Timeout: time.Hour})
	call := func(id, phase string, want bool) {
		t.Helper()
		if got := h.Call(incident(id, phase)); got != want {
			t.Errorf("call of %s %s: %v, want %v", id, phase, got, want)
		}
	}
	call("a", record.PhaseOpen, true)
	awaitStart(t, h)
	call("b", record.PhaseUpdate, true)
	call("c", record.PhaseOpen, false)
	call("d", record.PhaseOpen, false)
	call("b", record.PhaseClose, true) // in the place of the update
	call("b", record.PhaseClose, false)
	release("a")
	release("b")
	var got []string
	for range 2 {
		r := next(t, h)
		got = append(got, r.Output)
		if r.Failed() {
			t.Errorf("%+v", r)
		}
	}
	call("e", record.PhaseOpen, true)
	release("e")
	got = append(got, next(t, h).Output)
	want := []string{"a open after 0\n", "b close after 4\n", "e open after 0\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := h.Skipped(); n != 4 {
		t.Errorf("skipped %d, want 4", n)
	}
}

// TestUnstamped is a record that is not complete: what it would tell the hook is no record.
func TestUnstamped(t *testing.T) {
	h := open(t, Options{Path: script(t, `exit 0`)})
	if h.Call(&record.Incident{ID: "1"}) || h.Skipped() != 1 {
		t.Error("called")
	}
}

// TestRate is a hook that is called too often.
func TestRate(t *testing.T) {
	const every = 300 * time.Millisecond
	h := open(t, Options{Path: script(t, `exit 0`), Burst: 2, Every: every})
	begin := time.Now()
	for n, least := range []time.Duration{0, 0, every, 2 * every} {
		if r := alone(t, h, incident("a", record.PhaseOpen)); r.Failed() {
			t.Errorf("%+v", r)
		}
		if took := time.Since(begin); took < least {
			t.Errorf("call %d ended after %v, and was not to begin before %v", n, took, least)
		}
	}
}

// TestRateAtEnd is a hook that is called too often, and closed: what waits is called all the same.
func TestRateAtEnd(t *testing.T) {
	h := open(t, Options{Path: script(t, `echo $CTWATCH_EVENT_ID`), Burst: 1, Every: 24 * time.Hour})
	if r := alone(t, h, incident("a", record.PhaseOpen)); r.Failed() {
		t.Errorf("%+v", r)
	}
	if !h.Call(incident("b", record.PhaseOpen)) || !h.Call(incident("c", record.PhaseOpen)) || h.Call(incident("d", record.PhaseOpen)) {
		t.Error("what is held back is not one call that is next, and one that waits")
	}
	select {
	case r := <-h.Done():
		t.Errorf("called at once: %+v", r)
	default:
	}
	h.Close()
	var got []string
	for r := range h.Done() {
		got = append(got, r.Output)
	}
	if diff := cmp.Diff([]string{"b\n", "c\n"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBucket(t *testing.T) {
	begin := time.Unix(1000, 0)
	b := bucket{size: 2, every: 10 * time.Second}
	for _, c := range []struct{ at, want time.Duration }{
		{0, 0}, {0, 0}, {0, 10 * time.Second}, // two at once, the third when its time has come
		{12 * time.Second, 8 * time.Second},
		{30 * time.Second, 0},
		{time.Hour, 0}, {time.Hour, 0}, {time.Hour + time.Second, 9 * time.Second}, // it holds no more than two
	} {
		if got := b.take(begin.Add(c.at)); got != c.want {
			t.Errorf("at %v: wait %v, want %v", c.at, got, c.want)
		}
	}
}

// TestCloseLingers lets what runs end.
func TestCloseLingers(t *testing.T) {
	path, release := gated(t)
	h := open(t, Options{Path: path, Timeout: time.Hour, Linger: time.Hour})
	h.Call(incident("a", record.PhaseClose))
	awaitStart(t, h)
	h.Call(incident("b", record.PhaseClose))
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		h.Close()
	}()
	<-h.closing
	if h.Call(incident("c", record.PhaseOpen)) {
		t.Error("a closed hook is called")
	}
	release("a")
	release("b")
	<-closed
	var got []string
	for r := range h.Done() {
		got = append(got, r.Output)
		if r.Failed() {
			t.Errorf("%+v", r)
		}
	}
	if diff := cmp.Diff([]string{"a close after 0\n", "b close after 1\n"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestCloseKills does not wait for a hook that hangs, and tells of what it cut off.
func TestCloseKills(t *testing.T) {
	h := open(t, Options{Path: script(t, `trap "" TERM; echo on; sleep 1000`), Timeout: time.Hour,
		Linger: 50 * time.Millisecond, Grace: 50 * time.Millisecond})
	h.Call(incident("a", record.PhaseClose))
	h.Call(incident("b", record.PhaseClose))
	h.Close()
	h.Close()
	r, ok := <-h.Done()
	if !ok || !r.TimedOut || !r.Failed() {
		t.Errorf("%v %+v", ok, r)
	}
	if r, ok := <-h.Done(); ok {
		t.Errorf("another result: %+v", r)
	}
	if n := h.Skipped(); n != 1 {
		t.Errorf("skipped %d, want the one that waited", n)
	}
}

// TestUnread is a caller that reads no results: it is not held up, and can close.
func TestUnread(t *testing.T) {
	h := open(t, Options{Path: script(t, `exit 0`), Burst: 1000, Linger: time.Millisecond})
	await(t, "nothing more is called", func() bool {
		return !h.Call(incident("a", record.PhaseOpen)) && len(h.results) == unread
	})
	h.Close()
	var results int
	for range h.Done() {
		results++
	}
	if results != unread {
		t.Errorf("%d results, want %d", results, unread)
	}
}

// TestHungInTheKernel is a process that does not die when it is killed, for its cgroup is frozen. It is told, Close does
// not wait for it, and nothing else runs beside it.
func TestHungInTheKernel(t *testing.T) {
	const freezer = "/sys/fs/cgroup/freezer" // of cgroup v1: what is frozen by v2 dies when killed
	if _, err := os.Stat(freezer + "/tasks"); err != nil {
		t.Skip("there is no freezer of cgroup v1 here:", err)
	}
	path := script(t, `[ -e $dir/frozen ] && echo second && exit
: >$dir/frozen
echo $$ >$dir/cgroup/tasks
echo FROZEN >$dir/cgroup/freezer.state
echo thawed`)
	dir := filepath.Dir(path)
	cgroup := filepath.Join(freezer, filepath.Base(dir))
	if err := os.Mkdir(cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	thaw := func() {
		if err := os.WriteFile(cgroup+"/freezer.state", []byte("THAWED"), 0); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		thaw()
		await(t, "the cgroup is gone", func() bool { return os.Remove(cgroup) == nil })
	})
	if err := os.Symlink(cgroup, dir+"/cgroup"); err != nil {
		t.Fatal(err)
	}
	h := open(t, Options{Path: path, Timeout: 200 * time.Millisecond, Grace: 100 * time.Millisecond, Linger: time.Hour})
	r := alone(t, h, incident("a", record.PhaseOpen))
	if !r.TimedOut || r.Err == nil || !strings.Contains(r.Err.Error(), "does not die, it hangs in the kernel") {
		t.Errorf("%+v", r)
	}
	if !h.Call(incident("b", record.PhaseOpen)) {
		t.Error("not called")
	}
	thaw()
	if r := next(t, h); r.Failed() || r.Output != "second\n" {
		t.Errorf("%+v", r)
	}
	if err := os.Remove(dir + "/frozen"); err != nil {
		t.Fatal(err)
	}
	if r := alone(t, h, incident("c", record.PhaseOpen)); r.Err == nil {
		t.Errorf("%+v", r)
	}
	h.Call(incident("d", record.PhaseOpen))
	h.Close()
	if n := h.Skipped(); n != 1 {
		t.Errorf("skipped %d, want the one that waited", n)
	}
	thaw()
}

// TestFileSystemHangs is a hook whose file cannot be opened: somebody who has to allow it does not answer. That is told, and
// what then starts too late does not run beside the next call.
func TestFileSystemHangs(t *testing.T) {
	path := script(t, `echo on; read x <$dir/never; exit 0`)
	if err := unix.Mkfifo(filepath.Dir(path)+"/never", 0o600); err != nil {
		t.Fatal(err)
	}
	h := open(t, Options{Path: path, Timeout: 200 * time.Millisecond, Grace: 100 * time.Millisecond})
	guard, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		t.Skip("this kernel lets nobody hold up opening a file:", err)
	}
	if err := unix.FanotifyMark(guard, unix.FAN_MARK_ADD, unix.FAN_OPEN_PERM, unix.AT_FDCWD, path); err != nil {
		unix.Close(guard)
		t.Skip("this kernel lets nobody hold up opening a file:", err)
	}
	r := alone(t, h, incident("a", record.PhaseOpen))
	if !r.TimedOut || r.Err == nil || !strings.Contains(r.Err.Error(), "does not answer") || r.Exit != -1 {
		t.Errorf("%+v", r)
	}
	h.Call(incident("b", record.PhaseOpen))
	unix.Close(guard) // which allows everything
	if r := next(t, h); r.Err != nil || r.Output != "on\n" || r.Signal != unix.SIGTERM {
		t.Errorf("%+v", r)
	}
}
