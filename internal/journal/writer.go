package journal

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// batchBytes is how much is written at once, and how much at most is written and not synced.
const batchBytes = 256 << 10

// Options says where the journal is and how much of it is kept.
type Options struct {
	Dir      string        // made if missing, but not through a symbolic link
	MaxAge   time.Duration // of the files; 0 is 30 days, negative is no limit
	MaxBytes int64         // of all files; 0 is 512 MiB, negative is no limit
	Tail     int           // bytes in memory that the disk has not taken yet, at most; 0 is 4 MiB

	// Notice is told when the disk begins to fail, at most once a minute, and when it takes records again. It is called
	// by the Writer's own goroutines, and should not wait. nil is nobody.
	Notice func(text string)

	Now func() time.Time // wall clock, for what is today when the journal is opened; nil is time.Now

	disk  disk          // nil is the machine's own
	retry time.Duration // after a failure; 0 is 1 s
	hang  time.Duration // until a disk that does not answer is a failure; 0 is 5 s
	sync  time.Duration // how long what is no state change may be written and not synced; 0 is 1 s
	close time.Duration // how long Close waits; 0 is 2 s
}

func (o Options) withDefaults() Options {
	o.Dir = filepath.Clean(o.Dir)
	o.MaxAge = cmp.Or(o.MaxAge, 30*24*time.Hour)
	o.MaxBytes = cmp.Or(o.MaxBytes, 512<<20)
	o.Tail = cmp.Or(o.Tail, 4<<20)
	o.retry = cmp.Or(o.retry, time.Second)
	o.hang = cmp.Or(o.hang, 5*time.Second)
	o.sync = cmp.Or(o.sync, time.Second)
	o.close = cmp.Or(o.close, 2*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.disk == nil {
		o.disk = osDisk{}
	}
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
	return o
}

// State is how the journal does.
type State struct {
	Lost    uint64 // records that are not written and never will be, since Open; Rollup's choice does not count
	Pending int    // records that wait for the disk to take and keep them
	Err     error  // why the journal is not complete just now; nil when it is
}

// Writer appends records to the journal. A goroutine of its own does all that may wait for the disk. While the disk does
// not take them the records wait in memory, up to Options.Tail; then the oldest drop records are lost, then samples, then
// the others. How many is counted, and journalled as a gap record with why "journal" and their number in lost.
//
// Records are written as they come. State changes (all but samples and drop records) are synced at once, the others
// within a second. So a power loss or kill -9 costs at most what was written in the last second, and the calm minute that
// Rollup holds back.
type Writer struct {
	o     Options
	wake  chan struct{} // there is something to write
	leave chan struct{} // closed by Close
	done  chan struct{} // closed when the goroutine has ended

	telling sync.Mutex // held while Notice is called, so that it is told in order

	mu      sync.Mutex
	roll    *Rollup
	tail    tail
	flying  int // records that are being written, or are and not synced
	health  health
	closed  bool
	over    bool // Close has returned: what is still in flight is counted as lost
	round   int  // of writing; to tell whether one that hangs still does
	writing bool

	files appender // the goroutine's own
	lock  *os.File // nil where the directory could not be locked
}

// Open begins to write a journal. It fails with ErrRefused where the directory is not one to write to, and with
// record.ErrNewer where today's file holds records of a later version. A disk that fails is no error: State tells of it,
// and the Writer tries again each second.
func Open(o Options) (*Writer, error) {
	o = o.withDefaults()
	w := &Writer{
		o: o, wake: make(chan struct{}, 1), leave: make(chan struct{}), done: make(chan struct{}),
		roll: NewRollup(), tail: tail{limit: o.Tail},
		files: appender{
			disk: o.disk, dir: directory{disk: o.disk, path: o.Dir}, maxAge: o.MaxAge, maxBytes: o.MaxBytes,
		},
	}
	err := w.files.begin(dayOf(o.Now()))
	if errors.Is(err, ErrRefused) || errors.Is(err, record.ErrNewer) {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	held, errLock := lock(o.Dir) // where it cannot be, nobody is kept from anything
	if errors.Is(errLock, ErrRefused) {
		return nil, fmt.Errorf("open the journal: %w", errLock)
	}
	w.lock = held
	w.report(err)
	go w.run()
	return w, nil
}

// Record takes a record, and never waits for the disk. The record may not be changed afterwards. It fails after Close, or
// for a record that has no form in JSON.
func (w *Writer) Record(r record.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fmt.Errorf("journal a record: %w", os.ErrClosed)
	}
	return w.push(w.roll.Add(r), w.roll.listed)
}

// push adds records to the tail; listAll is that the last one lists all namespaces. The caller holds mu.
func (w *Writer) push(records []record.Record, listAll bool) error {
	for i, r := range records {
		line, err := Encode(r)
		if err != nil {
			return err
		}
		e := entry{line: line, class: classOf(r), head: *r.Head()}
		e.listAll = listAll && i == len(records)-1
		if len(line)-1 > maxLine {
			w.tail.lose(e, false)
			continue
		}
		w.tail.push(e)
	}
	if len(records) > 0 {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// State tells how the journal does.
func (w *Writer) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return State{Lost: w.tail.lost, Pending: w.tail.len() + w.flying, Err: w.health.err}
}

// Close writes what is left, and waits for that no longer than 2 s. Its error says how many records are lost by that, and
// why.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	if w.lock != nil {
		defer w.lock.Close()
	}
	err := w.push(w.roll.Flush(), false)
	before := w.tail.lost
	w.mu.Unlock()
	close(w.leave)
	hangs := false
	select {
	case <-w.done:
	case <-time.After(w.o.close):
		hangs = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.tail.loseAll()
	w.tail.lost += uint64(w.flying)
	w.flying = 0
	lost := w.tail.lost - before
	switch {
	case hangs:
		err = errors.Join(err, fmt.Errorf("close the journal: %w: %d records are lost, and what was written last is not synced", errHang, lost))
	case lost > 0:
		err = errors.Join(err, fmt.Errorf("close the journal: %d records are lost: %w", lost, w.health.err))
	}
	return err
}
