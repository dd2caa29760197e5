package journal

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// faulty is a disk of which some operations fail.
type faulty struct {
	osDisk
	mu    sync.Mutex
	n     int // operations so far
	from  int // these fail, counted from 1
	to    int
	err   error
	only  string               // what fails; "" is everything
	short int                  // bytes of a failing write that are written all the same
	fail  func(op string) bool // what fails, instead of from and to
	cut   func(length int) int // instead of short
}

// fails counts an operation.
func (d *faulty) fails(op string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	switch {
	case d.only != "" && d.only != op:
		return nil
	case d.fail != nil && d.fail(op), d.n >= d.from && d.n < d.to:
		return d.err
	}
	return nil
}

// setFault has the operations from the next on fail, or no more.
func (d *faulty) setFault(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.from, d.to, d.err = d.n+1, 1<<62, err
	if err == nil {
		d.to = 0
	}
}

func (d *faulty) Lstat(path string) (fs.FileInfo, error) {
	if err := d.fails("lstat"); err != nil {
		return nil, err
	}
	return d.osDisk.Lstat(path)
}

func (d *faulty) Mkdir(path string, perm fs.FileMode) error {
	if err := d.fails("mkdir"); err != nil {
		return err
	}
	return d.osDisk.Mkdir(path, perm)
}

func (d *faulty) ReadDir(path string) ([]fs.DirEntry, error) {
	if err := d.fails("readdir"); err != nil {
		return nil, err
	}
	return d.osDisk.ReadDir(path)
}

func (d *faulty) Remove(path string) error {
	if err := d.fails("remove"); err != nil {
		return err
	}
	return d.osDisk.Remove(path)
}

func (d *faulty) OpenFile(path string, flag int, perm fs.FileMode) (file, error) {
	if err := d.fails("openfile"); err != nil {
		return nil, err
	}
	f, err := d.osDisk.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultyFile{f, d}, nil
}

type faultyFile struct {
	file
	d *faulty
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.d.fails("write"); err != nil {
		n := 0
		if f.d.cut != nil {
			n, _ = f.file.Write(p[:f.d.cut(len(p))])
		} else if f.d.short > 0 {
			n, _ = f.file.Write(p[:min(f.d.short, len(p))])
		}
		return n, err
	}
	return f.file.Write(p)
}

func (f *faultyFile) ReadAt(p []byte, at int64) (int, error) {
	if err := f.d.fails("readat"); err != nil {
		return 0, err
	}
	return f.file.ReadAt(p, at)
}

func (f *faultyFile) Stat() (fs.FileInfo, error) {
	if err := f.d.fails("stat"); err != nil {
		return nil, err
	}
	return f.file.Stat()
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.d.fails("truncate"); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *faultyFile) Sync() error {
	return f.d.fails("sync") // takes long otherwise, and nothing here loses power
}

// TestFault fails each operation, alone and with those that follow, in every way: whatever is not there afterwards was
// counted as lost, and nothing is there twice.
func TestFault(t *testing.T) {
	t.Parallel()
	const records = 12
	story := func(t *testing.T, d *faulty) (have map[uint64]bool, lost uint64) {
		dir := t.TempDir() + "/a/b"
		w := open(t, Options{Dir: dir, disk: d})
		p := newPen()
		p.wall = time.Date(2026, 11, 23, 23, 59, 55, 0, time.UTC) // and into the next day
		for n := range records {
			write(t, w, p.mixed(n))
			if n%3 == 2 { // let some gather
				settled(t, w)
			}
		}
		settled(t, w)
		closeWriter(t, w)
		lines, damage := readAll(t, dir)
		if damage.Torn > 0 {
			t.Errorf("a file does not end with a newline: %+v", damage)
		}
		return once(t, lines), w.State().Lost
	}
	clean := &faulty{}
	if have, lost := story(t, clean); len(have) != records || lost > 0 {
		t.Fatalf("without a fault %d of %d records are there and %d lost", len(have), records, lost)
	}
	most := clean.n + 10
	if clean.n < 30 {
		t.Fatalf("only %d operations: what should fail?", clean.n)
	}
	lossless := 0
	try := func(n, row, short int, err error) {
		have, lost := story(t, &faulty{from: n, to: n + row, err: err, short: short})
		missing := uint64(records - len(have))
		if missing > lost || row == 1 && lost > 0 {
			t.Errorf("operations %d to %d fail with %v after %d bytes: %d records are missing, and %d are counted as lost",
				n, n+row-1, err, short, missing, lost)
		}
		if lost == 0 {
			lossless++
		}
	}
	for n := 1; n <= most; n++ {
		if testing.Short() {
			try(n, 1, 150, syscall.ENOSPC)
			continue
		}
		for _, err := range []error{syscall.EIO, syscall.EROFS, syscall.EACCES, syscall.EINTR} {
			try(n, 1, 0, err)
		}
		for _, row := range []int{1, 3} {
			for _, short := range []int{0, 1, 150} {
				try(n, row, short, syscall.ENOSPC)
			}
		}
	}
	if lossless == 0 {
		t.Error("no fault is survived without a loss")
	}
}

// TestFaultsAtRandom: the same for faults of all kinds, one upon the other, while records come without a pause.
func TestFaultsAtRandom(t *testing.T) {
	t.Parallel()
	most := uint64(150)
	if testing.Short() {
		most = 30
	}
	kept := 0
	for seed := range most {
		rnd := rand.New(rand.NewPCG(seed, 1))
		often := rnd.Float64() / 2
		dir := t.TempDir()
		d := &faulty{
			err:  []error{syscall.ENOSPC, syscall.EIO}[seed%2],
			fail: func(string) bool { return rnd.Float64() < often },
			cut: func(length int) int {
				return []int{0, 1, length / 2, length - 1, rnd.IntN(length)}[rnd.IntN(5)]
			},
		}
		w := open(t, Options{Dir: dir, Tail: 4 << 10, disk: d, retry: 10 * time.Microsecond, sync: 10 * time.Microsecond})
		p := newPen()
		const records = 60
		for n := range records {
			p.wall = noon.Add(time.Duration(n/20%2) * 24 * time.Hour).Add(time.Duration(n) * time.Second)
			write(t, w, p.mixed(n))
			if n%7 == 0 {
				until(t, "some are written", func() bool { return w.State().Pending < 8 })
			}
		}
		err := w.Close()
		var have []line
		if _, err := os.Stat(dir); err == nil {
			have, _ = readAll(t, dir)
		}
		seqs := map[uint64]bool{}
		for _, l := range have {
			if l.Kind == record.KindGap {
				continue
			}
			if seqs[l.Seq] {
				t.Errorf("seed %d: seq %d is there twice", seed, l.Seq)
			}
			seqs[l.Seq] = true
		}
		missing := records - len(seqs)
		if lost := w.State().Lost; uint64(missing) > lost {
			t.Errorf("seed %d: %d records are missing, %d are counted as lost (%v)", seed, missing, lost, err)
		}
		kept += len(seqs)
	}
	if kept < int(most)*30 {
		t.Errorf("only %d records of %d runs are there", kept, most)
	}
}

// TestTornAndNotSynced: a cut line that could not be taken back stays alone, also when what follows it is taken back.
func TestTornAndNotSynced(t *testing.T) {
	dir := t.TempDir()
	failing := ""
	d := &faulty{err: syscall.EIO, fail: func(op string) bool { return strings.Contains(failing, op) }, cut: func(int) int { return 4 }}
	a := appender{disk: d, dir: directory{disk: d, path: dir}}
	if err := a.begin("2026-11-23"); err != nil {
		t.Fatal(err)
	}
	step := func(fails, text string) (back int) {
		t.Helper()
		failing = fails
		var r result
		var err error
		if text != "" {
			r, err = a.write("2026-11-23", []entry{{line: []byte(text), class: classSample}})
		} else {
			r, err = a.sync()
		}
		if (err != nil) != (fails != "") {
			t.Fatalf("with %q failing: %v", fails, err)
		}
		return len(r.back)
	}
	step("", "first\n")
	step("write truncate", "second\n")
	step("", "")
	step("", "second\n")
	if step("sync", "") != 1 {
		t.Fatal("what was not synced does not come back")
	}
	step("", "second\n")
	if got, err := os.ReadFile(filepath.Join(dir, today)); err != nil || string(got) != "first\nseco\nsecond\n" {
		t.Errorf("(%v) %q", err, got)
	}
}

// TestFullKeepsWhatItHas: what is written already is synced, although the next record cannot be written.
func TestFullKeepsWhatItHas(t *testing.T) {
	dir := t.TempDir()
	d := &faulty{only: "write"}
	w := open(t, Options{Dir: dir, disk: d, sync: time.Hour})
	p := newPen()
	write(t, w, p.busy())
	until(t, "it is written", func() bool { lines, _ := readAll(t, dir); return len(lines) == 1 })
	d.setFault(syscall.ENOSPC)
	write(t, w, p.busy(), p.busy())
	until(t, "the first is synced", func() bool { s := w.State(); return s.Err != nil && s.Pending == 2 })
	d.setFault(nil)
	closeWriter(t, w)
	if lines, _ := readAll(t, dir); len(once(t, lines)) != 3 {
		t.Errorf("there are %v, want 3", lines)
	}
}

// TestLeavesOthersAlone: what somebody else wrote into the file stays, also where the disk failed to keep what we wrote.
func TestLeavesOthersAlone(t *testing.T) {
	dir := t.TempDir()
	d := &faulty{only: "sync"}
	w := open(t, Options{Dir: dir, disk: d, sync: time.Hour})
	p := newPen()
	write(t, w, p.busy())
	until(t, "it is written", func() bool { lines, _ := readAll(t, dir); return len(lines) == 1 })
	f, err := os.OpenFile(filepath.Join(dir, today), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	other := stopAt(77, "2026-11-23T10:00:00Z")
	if _, err := f.WriteString(other); err != nil {
		t.Fatal(err)
	}
	d.setFault(syscall.EIO)
	write(t, w, p.limit())
	until(t, "it fails", func() bool { return errors.Is(w.State().Err, syscall.EIO) && w.State().Lost > 0 })
	d.setFault(nil)
	write(t, w, p.limit())
	settled(t, w)
	closeWriter(t, w)
	if text, err := os.ReadFile(filepath.Join(dir, today)); err != nil || !strings.Contains(string(text), other) {
		t.Errorf("the other's line is gone (%v):\n%s", err, text)
	}
}

// TestFullForLong: what does not fit into the tail is lost in the order of its importance, and told of.
func TestFullForLong(t *testing.T) {
	d := &faulty{}
	dir := t.TempDir() + "/j"
	notices := make(chan string, 1000)
	w := open(t, Options{Dir: dir, Tail: 16 << 10, disk: d, Notice: func(s string) { notices <- s }})
	p := newPen()
	write(t, w, p.next(&record.Start{}), p.sample(state(1, 2, 3), state(2, 2, 3)))
	settled(t, w)
	d.setFault(syscall.ENOSPC)
	for n := range 400 {
		write(t, w, p.mixed(n))
		if n == 0 {
			until(t, "the fault shows", func() bool { return w.State().Err != nil })
		}
	}
	s := w.State()
	if s.Lost == 0 || s.Pending == 0 {
		t.Fatalf("with a full disk: %+v", s)
	}
	// What is on its way to the disk just then would get there, whatever it is.
	until(t, "nothing is in flight", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.flying > 0 {
			return false
		}
		d.setFault(nil)
		return true
	})
	settled(t, w)
	write(t, w, p.busy())
	closeWriter(t, w)
	text, err := os.ReadFile(filepath.Join(dir, today))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	if last := all[len(all)-1]; !strings.Contains(last, `"ns":1`) || !strings.Contains(last, `"ns":2`) {
		t.Errorf("the first sample after a loss does not list all namespaces: %s", last)
	}
	lines, damage := readAll(t, dir)
	have := once(t, lines)
	if missing := 403 - len(have); uint64(missing) != w.State().Lost || damage != (Damage{}) {
		t.Errorf("%d of 403 records are missing, %d are counted as lost; damage %+v", missing, w.State().Lost, damage)
	}
	kinds := map[string]int{}
	for _, l := range lines {
		kinds[l.Kind]++
	}
	if kinds[record.KindDrop] > 0 || kinds[record.KindSample] != 2 || kinds[record.KindLimit] < 20 || kinds[record.KindGap] == 0 {
		t.Errorf("there are %v: drop records and samples go before others, and the loss is told", kinds)
	}
	if len(notices) != 2 {
		t.Errorf("%d notices, want that it fails and that it does not any more", len(notices))
	}
}

// slow is a disk that takes its time.
type slow struct {
	osDisk
	gate chan struct{} // a write passes for each value, and all when it is closed
}

func (d *slow) OpenFile(path string, flag int, perm fs.FileMode) (file, error) {
	f, err := d.osDisk.OpenFile(path, flag, perm)
	return &slowFile{f, d}, err
}

type slowFile struct {
	file
	d *slow
}

func (f *slowFile) Write(p []byte) (int, error) {
	<-f.d.gate
	return f.file.Write(p)
}

// TestSlow: nobody waits for a disk that hangs, it is told of once, and everything is there when it answers.
func TestSlow(t *testing.T) {
	dir := t.TempDir()
	d := &slow{gate: make(chan struct{})}
	notices := make(chan string, 1000)
	w := open(t, Options{Dir: dir, disk: d, hang: time.Millisecond, Notice: func(s string) { notices <- s }})
	p := newPen()
	for n := range 1000 {
		write(t, w, p.mixed(n)) // does not return if it waits
	}
	until(t, "it is told that the disk hangs", func() bool { return w.State().Err != nil })
	if s := w.State(); s.Pending == 0 || s.Lost > 0 {
		t.Errorf("while the disk hangs: %+v", s)
	}
	close(d.gate)
	settled(t, w)
	closeWriter(t, w)
	lines, _ := readAll(t, dir)
	if have := once(t, lines); len(have) != 1000 {
		t.Errorf("%d of 1000 records are there", len(have))
	}
	if len(notices) != 2 {
		t.Errorf("%d notices, want 2", len(notices))
	}
}

// TestCloseHanging: Close does not wait for ever, and says what is lost.
func TestCloseHanging(t *testing.T) {
	d := &slow{gate: make(chan struct{})}
	w := open(t, Options{Dir: t.TempDir(), disk: d, close: 10 * time.Millisecond})
	p := newPen()
	write(t, w, p.limit(), p.limit(), p.limit())
	if err := w.Close(); err == nil {
		t.Error("Close on a disk that hangs returns no error")
	}
	if s := w.State(); s.Lost != 3 || s.Pending != 0 {
		t.Errorf("after Close: %+v, want 3 lost", s)
	}
	close(d.gate)
	<-w.done
	if s := w.State(); s.Lost != 3 {
		t.Errorf("when the disk answers after all: %+v", s)
	}
	if w.Record(p.limit()) == nil {
		t.Error("Record after Close returns no error")
	}
}
