package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/test/need"
)

// TestScan finds namespaces of each kind and forgets them when they are gone.
func TestScan(t *testing.T) {
	f := newFinder(t)
	other := filepath.Join(t.TempDir(), "elsewhere")
	anonymous := startProcess(t)
	bind(t, "/run/netns/a b")
	bind(t, "/run/netns/\x1b[31m")
	bind(t, other)
	for range 2 { // asking changes nothing
		if !f.Changed() {
			t.Error("Changed is false after mounts and before Scan")
		}
	}
	look := scan(t, f)
	if f.Changed() {
		t.Error("Changed is true after Scan")
	}
	host := look.Namespaces[0]
	if !host.Host || host.Name != "host" || host.Inode != f.home.inode || host.Cookie == 0 {
		t.Errorf("first is %+v, want the host's of inode %d", host, f.home.inode)
	}
	seen := map[uint64]bool{}
	for _, ns := range look.Namespaces[1:] {
		if ns.Host || ns.Cookie == 0 || seen[ns.Cookie] {
			t.Errorf("%+v: the host's, without a cookie, or with another's", ns)
		}
		seen[ns.Cookie] = true
	}
	if ns := at(t, look, "/run/netns/a b"); ns.Name != "a b" || ns.PID != 0 {
		t.Errorf("%+v, want name a b", ns)
	}
	if ns := at(t, look, "/run/netns/\x1b[31m"); ns.Name != "\ufffd[31m" {
		t.Errorf("%+v, want no control character", ns)
	}
	at(t, look, other)
	path := fmt.Sprintf("/proc/%d/ns/net", anonymous.Process.Pid)
	if ns := at(t, look, path); ns.PID != anonymous.Process.Pid {
		t.Errorf("%+v, want pid %d", ns, anonymous.Process.Pid)
	}

	unbind(t, "/run/netns/a b")
	end(anonymous)
	if !f.Changed() {
		t.Error("Changed is false after an unmount")
	}
	for _, ns := range scan(t, f).Namespaces {
		if ns.Path == "/run/netns/a b" || ns.Path == path {
			t.Errorf("%+v is gone but found", ns)
		}
	}
}

// TestScanAgainstIP compares with what `ip netns` says.
func TestScanAgainstIP(t *testing.T) {
	f := newFinder(t)
	need.Tool(t, "ip")
	ip := func(args ...string) string {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	for _, name := range []string{"one", "two", "three"} {
		ip("netns", "add", name)
		defer ip("netns", "del", name)
	}
	var want, got []string
	for line := range strings.Lines(ip("netns", "list")) {
		want = append(want, strings.Fields(line)[0])
	}
	for _, ns := range scan(t, f).Namespaces {
		if filepath.Dir(ns.Path) == "/run/netns" {
			got = append(got, ns.Name)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("found %q, ip netns list says %q", got, want)
	}
}

// TestScanHidden finds another way into a namespace whose mount point lies under another mount.
func TestScanHidden(t *testing.T) {
	f := newFinder(t)
	p := startProcess(t)
	path := fmt.Sprintf("/proc/%d/ns/net", p.Process.Pid)
	dir := filepath.Join(t.TempDir(), "dir")
	touch(t, filepath.Join(dir, "ns"))
	must(t, unix.Mount(path, filepath.Join(dir, "ns"), "", unix.MS_BIND, ""))
	must(t, unix.Mount("test", dir, "tmpfs", 0, ""))
	defer func() {
		must(t, unix.Unmount(dir, 0))
		must(t, unix.Unmount(filepath.Join(dir, "ns"), 0))
	}()
	ns := at(t, scan(t, f), path)
	if err := f.Enter(ns, func() error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestEnter checks where f runs and that nothing of it stays behind.
func TestEnter(t *testing.T) {
	f := newFinder(t)
	files := openFiles(t)
	p := startProcess(t)
	bind(t, "/run/netns/x")
	look := scan(t, f)
	failure := errors.New("failure")
	named, anonymous := at(t, look, "/run/netns/x"), at(t, look, fmt.Sprintf("/proc/%d/ns/net", p.Process.Pid))
	for _, ns := range []Namespace{look.Namespaces[0], named, anonymous} {
		var inside uint64
		err := f.Enter(ns, func() error {
			inside = currentInode(t)
			return failure
		})
		if !errors.Is(err, failure) || inside != ns.Inode {
			t.Errorf("%+v: f ran in %d and Enter returned %v", ns, inside, err)
		}
		if currentInode(t) != f.home.inode {
			t.Fatal("not at home after Enter")
		}
	}
	unbind(t, "/run/netns/x")
	end(p)
	for name, ns := range map[string]Namespace{
		"unmounted":     named,
		"ended":         anonymous,
		"another inode": {Inode: named.Inode, Path: "/proc/self/ns/net"},
		"no directory":  {Inode: named.Inode, Path: "/dev/null/x"},
		"no namespace":  {Inode: inodeOf(t, "/dev/null"), Path: "/dev/null"},
		"another kind":  {Inode: inodeOf(t, "/proc/self/ns/mnt"), Path: "/proc/self/ns/mnt"},
	} {
		err := f.Enter(ns, func() error {
			t.Errorf("%s: f ran", name)
			return nil
		})
		if !errors.Is(err, ErrGone) {
			t.Errorf("%s: error %v, want %v", name, err, ErrGone)
		}
	}
	if now := openFiles(t); now != files {
		t.Errorf("%d open files, %d before", now, files)
	}
}

// TestEnterWhileDeleted deletes a namespace while f is in it: f is not disturbed, and it is gone after.
func TestEnterWhileDeleted(t *testing.T) {
	f := newFinder(t)
	bind(t, "/run/netns/x")
	ns := at(t, scan(t, f), "/run/netns/x")
	err := f.Enter(ns, func() error {
		unbind(t, "/run/netns/x")
		if got := currentInode(t); got != ns.Inode {
			t.Errorf("in %d, want %d", got, ns.Inode)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := f.Enter(ns, func() error { return nil }); !errors.Is(err, ErrGone) {
		t.Errorf("error %v, want %v", err, ErrGone)
	}
}

// TestEnterNoWayBack checks that a thread which cannot go home is given no other work.
func TestEnterNoWayBack(t *testing.T) {
	f := newFinder(t)
	bind(t, "/run/netns/x")
	ns := at(t, scan(t, f), "/run/netns/x")
	lost := home{fd: -1}
	for range 20 {
		if err := lost.enter(ns.Path, ns.Inode, func() error { return nil }); !errors.Is(err, unix.EBADF) {
			t.Fatalf("error %v, want %v", err, unix.EBADF)
		}
	}
	var wait sync.WaitGroup
	for range 100 {
		wait.Go(func() {
			if got := currentInode(t); got != f.home.inode {
				t.Errorf("a thread was left in %d", got)
			}
		})
	}
	wait.Wait()
}

// TestInodeReuse makes namespaces until one has the inode of one before, and checks that Scan tells them apart.
func TestInodeReuse(t *testing.T) {
	f := newFinder(t)
	before := map[uint64]uint64{} // cookie by inode
	for range 2000 {
		bind(t, "/run/netns/x")
		ns := at(t, scan(t, f), "/run/netns/x")
		unbind(t, "/run/netns/x")
		if cookie, ok := before[ns.Inode]; ok {
			if cookie == ns.Cookie {
				t.Errorf("two namespaces of inode %d have cookie %d", ns.Inode, cookie)
			}
			return
		}
		before[ns.Inode] = ns.Cookie
	}
	t.Skip("the kernel gave 2000 namespaces 2000 inodes")
}

// TestChurn scans and enters while 500 namespaces come and go.
func TestChurn(t *testing.T) {
	f := newFinder(t)
	files := openFiles(t)
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Go(func() {
		defer close(stop)
		for i := range 500 {
			path := fmt.Sprintf("/run/netns/churn%d", i%7)
			bind(t, path)
			unbind(t, path)
		}
	})
	entered := 0
	for running := true; running; {
		select {
		case <-stop:
			running = false
		default:
		}
		for _, ns := range scan(t, f).Namespaces {
			if !strings.HasPrefix(ns.Path, "/run/netns/churn") {
				continue
			}
			err := f.Enter(ns, func() error {
				if got := currentInode(t); got != ns.Inode {
					t.Errorf("in %d, want %d", got, ns.Inode)
				}
				return nil
			})
			if err == nil {
				entered++
			} else if !errors.Is(err, ErrGone) {
				t.Error(err)
			}
		}
	}
	churn.Wait()
	if entered == 0 {
		t.Error("entered none")
	}
	for _, ns := range scan(t, f).Namespaces {
		if strings.HasPrefix(ns.Path, "/run/netns/churn") {
			t.Errorf("%+v is gone but found", ns)
		}
	}
	if now := openFiles(t); now != files {
		t.Errorf("%d open files, %d before", now, files)
	}
}

func TestScanMany(t *testing.T) {
	f := newFinder(t)
	files := openFiles(t)
	const many = 200
	for i := range many {
		bind(t, fmt.Sprintf("/run/netns/many%d", i))
	}
	look := scan(t, f)
	named := 0
	for _, ns := range look.Namespaces {
		if strings.HasPrefix(ns.Name, "many") && ns.Cookie != 0 {
			named++
		}
	}
	if named != many {
		t.Errorf("found %d, want %d", named, many)
	}
	if now := openFiles(t); now != files {
		t.Errorf("%d open files, %d before", now, files)
	}
}

// BenchmarkScan is the cost of a Scan of 100 named namespaces and the processes of this machine, when no mount changed.
func BenchmarkScan(b *testing.B) {
	f := newFinder(b)
	for i := range 100 {
		bind(b, fmt.Sprintf("/run/netns/b%d", i))
	}
	scan(b, f)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Scan(); err != nil {
			b.Fatal(err)
		}
	}
	procs, err := f.proc.AllProcs()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(procs)), "processes")
}

// BenchmarkScanNew is the cost of a Scan after a mount changed: each of 100 namespaces is entered for its cookie.
func BenchmarkScanNew(b *testing.B) {
	f := newFinder(b)
	for i := range 100 {
		bind(b, fmt.Sprintf("/run/netns/b%d", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		f.changed = true
		if _, err := f.Scan(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkChanged(b *testing.B) {
	f := newFinder(b)
	for b.Loop() {
		f.Changed()
	}
}

func BenchmarkEnter(b *testing.B) {
	f := newFinder(b)
	bind(b, "/run/netns/x")
	look, err := f.Scan()
	if err != nil {
		b.Fatal(err)
	}
	ns := look.Namespaces[len(look.Namespaces)-1]
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Enter(ns, func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func newFinder(t testing.TB) *Finder {
	t.Helper()
	need.Root(t)
	f, err := NewFinder("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, f.Close()) })
	return f
}

func scan(t testing.TB, f *Finder) Look {
	t.Helper()
	look, err := f.Scan()
	if err != nil {
		t.Fatal(err)
	}
	return look
}

func at(t testing.TB, look Look, path string) Namespace {
	t.Helper()
	i := slices.IndexFunc(look.Namespaces, func(ns Namespace) bool { return ns.Path == path })
	if i < 0 {
		t.Fatalf("%q not found in %+v", path, look.Namespaces)
	}
	return look.Namespaces[i]
}

// bind makes a network namespace that a mount at path keeps, as `ip netns add` does.
func bind(t testing.TB, path string) {
	touch(t, path)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Errorf("bind %s: %v", path, err)
	}
	t.Cleanup(func() {
		unix.Unmount(path, unix.MNT_DETACH)
		os.Remove(path)
	})
}

func unbind(t testing.TB, path string) {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		t.Errorf("unmount %s: %v", path, err)
	}
	if err := os.Remove(path); err != nil {
		t.Error(err)
	}
}

// startProcess starts a process in a network namespace of its own, which lasts until end or the end of the test.
func startProcess(t testing.TB) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(cmd) })
	return cmd
}

func end(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

func touch(t testing.TB, path string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, nil, 0o644))
}

func currentInode(t testing.TB) uint64 {
	t.Helper()
	return inodeOf(t, "/proc/thread-self/ns/net")
}

func inodeOf(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Errorf("stat %s: %v", path, err)
	}
	return st.Ino
}

func openFiles(t testing.TB) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Error(err)
	}
	return len(files)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("unexpected: %v", err)
	}
}
