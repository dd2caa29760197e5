package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/test/need"
)

const today = "2026-11-23.jsonl"

func TestWriter(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	dir := filepath.Join(t.TempDir(), "var", "lib", "journal")
	w := open(t, Options{Dir: dir})
	p := newPen()
	write(t, w, p.next(&record.Start{Version: "v"}), p.sample(state(1, 2, 3)), p.drop(), p.calm(1)[0])
	closeWriter(t, w)
	got, err := os.ReadFile(filepath.Join(dir, today))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, l := range strings.Split(strings.TrimSuffix(string(got), "\n"), "\n") {
		r, err := record.Parse([]byte(l))
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, r.Head().Kind)
	}
	if diff := cmp.Diff([]string{"start", "sample", "drop", "sample"}, kinds); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for path, want := range map[string]fs.FileMode{
		filepath.Join(dir, today): 0o640, dir: fs.ModeDir | 0o750, filepath.Dir(dir): fs.ModeDir | 0o755,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, want %v (%v)", path, info.Mode(), want, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(dir string) error
		want error
		says string
	}{
		{"a symbolic link", func(dir string) error { return os.Symlink(filepath.Dir(dir), dir) }, ErrRefused, "symbolic link"},
		{"a file", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, ErrRefused, "no directory"},
		{"written by everybody", func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o1777)) }, ErrRefused, "chmod"},
		{"today's file is a link", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o750), os.Symlink("/etc/passwd", filepath.Join(dir, today)))
		}, ErrRefused, "symbolic link"},
		{"today's file is a pipe", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o750), unix.Mkfifo(filepath.Join(dir, today), 0o640))
		}, ErrRefused, "no regular file"},
		{"a newer version", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o750), os.WriteFile(filepath.Join(dir, today), []byte(newerFile), 0o640))
		}, record.ErrNewer, "offset 76: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "j")
			if err := c.make(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Open(Options{Dir: dir, Now: func() time.Time { return noon }})
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) || !strings.Contains(fmt.Sprint(err), dir) {
				t.Errorf("Open says %v", err)
			}
		})
	}
}

const newerFile = `{"v":1,"seq":1,"time":"2026-11-23T12:00:00Z","boottime_ns":1,"kind":"stop"}
{"v":2,"seq":2,"time":"2026-11-23T12:00:00Z","boottime_ns":1,"kind":"stop"}
{"v":1,"seq":3,"time":"2026-11-23T12:00:00Z","boottime_ns":1,"kind":"st`

// TestNewerUntouched: not a byte is added to a file of a newer version, also where it turns up while we write.
func TestNewerUntouched(t *testing.T) {
	dir := t.TempDir()
	w := open(t, Options{Dir: dir})
	path := filepath.Join(dir, "2026-11-24.jsonl")
	if err := os.WriteFile(path, []byte(newerFile), 0o640); err != nil {
		t.Fatal(err)
	}
	p := newPen()
	p.wall = p.wall.AddDate(0, 0, 1)
	write(t, w, p.limit())
	until(t, "it is refused", func() bool { return errors.Is(w.State().Err, record.ErrNewer) })
	if err := w.Close(); !errors.Is(err, record.ErrNewer) {
		t.Errorf("Close says %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != newerFile {
		t.Errorf("the file was changed (%v):\n%s", err, got)
	}
}

// noting is a disk that notes what is written and synced.
type noting struct {
	osDisk
	mu    sync.Mutex
	notes []string
}

func (d *noting) note(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notes = append(d.notes, s)
}

func (d *noting) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	notes := d.notes
	d.notes = nil
	return notes
}

func (d *noting) OpenFile(path string, flag int, perm fs.FileMode) (file, error) {
	f, err := d.osDisk.OpenFile(path, flag, perm)
	return &notingFile{f, d, filepath.Base(path)}, err
}

type notingFile struct {
	file
	d    *noting
	name string
}

func (f *notingFile) Write(p []byte) (int, error) {
	f.d.note("write " + f.name)
	return f.file.Write(p)
}

func (f *notingFile) Sync() error {
	f.d.note("sync " + f.name)
	return f.file.Sync()
}

// TestSynced: a state change is synced at once, and what was written before with it; the others not before their time.
func TestSynced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "j")
	d := &noting{}
	w := open(t, Options{Dir: dir, disk: d, sync: time.Hour})
	p := newPen()
	write(t, w, p.busy())
	until(t, "it is written", func() bool { lines, err := os.ReadFile(filepath.Join(dir, today)); return err == nil && len(lines) > 0 })
	if s := w.State(); s.Pending != 1 {
		t.Errorf("what is not synced does not wait: %+v", s)
	}
	write(t, w, p.limit())
	settled(t, w)
	want := []string{"write " + today, "write " + today, "sync " + today, "sync " + filepath.Base(filepath.Dir(filepath.Dir(dir))), "sync a", "sync j"}
	if diff := cmp.Diff(want, d.take()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	write(t, w, p.limit())
	settled(t, w)
	if diff := cmp.Diff([]string{"write " + today, "sync " + today}, d.take()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	write(t, w, p.busy())
	closeWriter(t, w)
	if diff := cmp.Diff([]string{"write " + today, "sync " + today}, d.take()); diff != "" {
		t.Errorf("at the end (-want +got):\n%s", diff)
	}
}

// TestTornLine: a line that a power loss cut stays as it is, alone.
func TestTornLine(t *testing.T) {
	dir := t.TempDir()
	torn := `{"v":1,"seq":9,"time":"2026-11-23T11:00:00Z","boottime_ns":1,"kin`
	if err := os.WriteFile(filepath.Join(dir, today), []byte(torn), 0o640); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w := open(t, Options{Dir: dir})
		write(t, w, newPen().limit())
		closeWriter(t, w)
	}
	got, err := os.ReadFile(filepath.Join(dir, today))
	if err != nil || !strings.HasPrefix(string(got), torn+"\n{") || strings.Count(string(got), "\n") != 3 {
		t.Errorf("(%v):\n%s", err, got)
	}
	lines, damage := readAll(t, dir)
	if len(lines) != 2 || damage.Lines != 1 || damage.Bytes != int64(len(torn))+1 || damage.First != filepath.Join(dir, today)+":0" {
		t.Errorf("read %v, %+v", lines, damage)
	}
}

// TestTakenAway: the directory, the file or its end goes away while we write.
func TestTakenAway(t *testing.T) {
	for _, c := range []struct {
		name string
		take func(dir string) error
		want int // of 3 records before and 3 after
	}{
		{"directory removed", os.RemoveAll, 3},
		{"directory renamed", func(dir string) error { return os.Rename(dir, dir+".old") }, 3},
		{"file removed", func(dir string) error { return os.Remove(filepath.Join(dir, today)) }, 3},
		{"file replaced", func(dir string) error {
			return errors.Join(os.Rename(filepath.Join(dir, today), filepath.Join(dir, "kept")),
				os.WriteFile(filepath.Join(dir, today), []byte("not ours\n"), 0o640))
		}, 3},
		{"file emptied", func(dir string) error { return os.Truncate(filepath.Join(dir, today), 0) }, 3},
		{"end cut off", func(dir string) error { return os.Truncate(filepath.Join(dir, today), 300) }, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "j")
			w := open(t, Options{Dir: dir})
			p := newPen()
			write(t, w, p.limit(), p.limit(), p.limit())
			settled(t, w)
			if err := c.take(dir); err != nil {
				t.Fatal(err)
			}
			write(t, w, p.limit(), p.limit(), p.limit())
			settled(t, w)
			closeWriter(t, w)
			lines, _ := readAll(t, dir)
			if have := once(t, lines); len(have) != c.want || !have[4] || !have[5] || !have[6] {
				t.Errorf("there are %v, want %d", lines, c.want)
			}
			if s := w.State(); s.Lost > 0 {
				t.Errorf("%d are counted as lost", s.Lost)
			}
		})
	}
}

// TestTakenAwayUnsynced: what was in a file that went away, and not synced, is written again.
func TestTakenAwayUnsynced(t *testing.T) {
	for _, next := range []func(*pen) record.Record{(*pen).busy, (*pen).limit} {
		dir := t.TempDir()
		w := open(t, Options{Dir: dir, sync: time.Hour})
		p := newPen()
		write(t, w, p.busy())
		until(t, "it is written", func() bool { lines, _ := readAll(t, dir); return len(lines) == 1 })
		if err := os.Remove(filepath.Join(dir, today)); err != nil {
			t.Fatal(err)
		}
		write(t, w, next(p))
		closeWriter(t, w)
		if lines, _ := readAll(t, dir); len(once(t, lines)) != 2 || w.State().Lost > 0 {
			t.Errorf("there are %v, want 2; %d lost", lines, w.State().Lost)
		}
	}
}

// TestListsAllAgain: a file that was begun anew lists all namespaces again.
func TestListsAllAgain(t *testing.T) {
	dir := t.TempDir()
	w := open(t, Options{Dir: dir})
	p := newPen()
	write(t, w, p.sample(state(1, 2, 3), state(2, 2, 3)), p.limit())
	settled(t, w)
	if err := os.Remove(filepath.Join(dir, today)); err != nil {
		t.Fatal(err)
	}
	write(t, w, p.busy())
	settled(t, w)
	write(t, w, p.busy())
	closeWriter(t, w)
	var last record.Sample
	text, err := os.ReadFile(filepath.Join(dir, today))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if err := errors.Join(err, json.Unmarshal([]byte(lines[len(lines)-1]), &last)); err != nil {
		t.Fatal(err)
	}
	if len(last.NetNS) != 2 {
		t.Errorf("the sample after it lists %d namespaces, want 2", len(last.NetNS))
	}
}

// TestClock: records stand in the files of their days, in order, whatever the clock does.
func TestClock(t *testing.T) {
	dir := t.TempDir()
	w := open(t, Options{Dir: dir})
	p := newPen()
	for _, days := range []int{0, -1, 1, 1, -1} {
		p.wall = p.wall.AddDate(0, 0, days)
		write(t, w, p.limit(), p.busy())
		settled(t, w)
	}
	closeWriter(t, w)
	want := map[string][]uint64{"2026-11-22": {3, 4}, "2026-11-23": {1, 2, 5, 6, 9, 10}, "2026-11-24": {7, 8}}
	got := map[string][]uint64{}
	damage, err := Read(context.Background(), dir, Window{}, func(l *Line) error {
		day, _ := dayIn(filepath.Base(l.Path))
		got[day] = append(got[day], l.Seq)
		return nil
	})
	if err != nil || damage != (Damage{}) {
		t.Fatal(damage, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTooLong: a record that no reader would take is counted as lost.
func TestTooLong(t *testing.T) {
	dir := t.TempDir()
	w := open(t, Options{Dir: dir})
	p := newPen()
	write(t, w, p.next(&record.Action{Why: strings.Repeat("x", maxLine)}), p.limit())
	closeWriter(t, w)
	lines, damage := readAll(t, dir)
	if diff := cmp.Diff([]line{{1, "gap"}, {2, "limit"}}, lines); diff != "" || damage != (Damage{}) || w.State().Lost != 1 {
		t.Errorf("lost %d, %+v (-want +got):\n%s", w.State().Lost, damage, diff)
	}
}

func tmpfs(t *testing.T, dir string, flags uintptr, size string) {
	t.Helper()
	need.Root(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, "size="+size+",mode=0750"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// TestFull: a real file system of 1 MiB is full, and then not.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	tmpfs(t, dir, 0, "1m")
	w := open(t, Options{Dir: dir, Tail: 256 << 10})
	p := newPen()
	write(t, w, p.limit())
	settled(t, w)
	big, err := os.Create(filepath.Join(dir, "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer big.Close()
	for err == nil {
		_, err = big.Write(make([]byte, 1000))
	}
	n := 1
	for ; w.State().Lost == 0 || w.State().Err == nil; n++ {
		write(t, w, p.mixed(n))
	}
	if s := w.State(); !errors.Is(s.Err, syscall.ENOSPC) {
		t.Errorf("with a full disk: %v", s.Err)
	}
	if err := big.Truncate(0); err != nil {
		t.Fatal(err)
	}
	write(t, w, p.limit())
	n++
	settled(t, w)
	closeWriter(t, w)
	lines, damage := readAll(t, dir)
	have := once(t, lines)
	if missing := n - len(have); missing == 0 || uint64(missing) != w.State().Lost || damage != (Damage{}) || !have[uint64(n)] {
		t.Errorf("%d of %d are missing, %d are counted as lost; damage %+v", missing, n, w.State().Lost, damage)
	}
}

// TestReadOnly: a file system that cannot be written to when we open the journal, and then can.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	tmpfs(t, dir, unix.MS_RDONLY, "1m")
	w := open(t, Options{Dir: dir})
	p := newPen()
	write(t, w, p.limit())
	until(t, "it fails", func() bool { return errors.Is(w.State().Err, syscall.EROFS) })
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	settled(t, w)
	closeWriter(t, w)
	if lines, _ := readAll(t, dir); len(lines) != 1 {
		t.Errorf("there are %v, want 1", lines)
	}
}

// TestConcurrent: two readers read while it is written, and see whole records in order.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	w := open(t, Options{Dir: dir})
	p := newPen()
	write(t, w, p.limit())
	settled(t, w)
	ctx, stop := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	var reads [2]int
	for i := range reads {
		readers.Go(func() {
			for ; ctx.Err() == nil || reads[i] == 0; reads[i]++ {
				last := uint64(0)
				d, err := Read(context.Background(), dir, Window{}, func(l *Line) error {
					if _, err := l.Record(); err != nil {
						return err
					}
					if l.Seq != last+1 {
						t.Errorf("seq %d follows %d", l.Seq, last)
					}
					last = l.Seq
					return nil
				})
				if err != nil || d.Lines > 0 {
					t.Error(d, err)
				}
			}
		})
	}
	for range 2000 {
		write(t, w, p.busy())
	}
	settled(t, w)
	stop()
	readers.Wait()
	closeWriter(t, w)
	if lines, d := readAll(t, dir); len(lines) != 2001 || d != (Damage{}) {
		t.Errorf("%d records, %+v", len(lines), d)
	}
}

// TestOpenWithoutDisk: that the disk fails when the journal is opened is no reason not to count.
func TestOpenWithoutDisk(t *testing.T) {
	d := &faulty{}
	d.setFault(syscall.EIO)
	notices := make(chan string, 100)
	dir := filepath.Join(t.TempDir(), "j")
	w := open(t, Options{Dir: dir, disk: d, Notice: func(s string) { notices <- s }})
	if err := w.State().Err; !errors.Is(err, syscall.EIO) {
		t.Errorf("the state is %v", err)
	}
	p := newPen()
	write(t, w, p.limit())
	d.setFault(nil)
	settled(t, w)
	closeWriter(t, w)
	if lines, _ := readAll(t, dir); len(lines) != 1 || len(notices) != 2 {
		t.Errorf("there are %v, want 1; %d notices, want 2", lines, len(notices))
	}
}
