package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// errGone: the file that was written to is not there any more. What was in it and not synced is written again.
var errGone = errors.New("was removed or replaced while it was written to")

// errBudget: today's file alone is longer than the journal may be.
var errBudget = errors.New("the journal's size is used up by this day: its samples and drop records are left out")

const openFlags = os.O_RDWR | os.O_APPEND | syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// appender appends lines to the daily files. It takes away nothing but what it wrote itself, and only where the disk
// failed to keep that.
type appender struct {
	disk     disk
	dir      directory
	maxBytes int64
	maxAge   time.Duration

	day    string
	info   fs.FileInfo // of the day's file; nil before there is one
	f      file        // nil also after an error: a file system in trouble may have to be unmounted
	end    int64       // of the file
	torn   bool        // what is before end is no whole line, and stays alone: the next one begins with a newline
	synced struct {
		end  int64 // up to where the file is on the disk
		torn bool  // as it was there
		ours bool  // all that is behind
	}

	unsynced []entry
	bytes    int // of these

	begun  bool  // begin has done its work
	others int64 // bytes of the other days' files
	untidy error // why old files could not be removed; nil when they are
	full   error // why some records are left out; nil when none are
	bare   bool  // the file is new, and has no sample yet
	relist bool  // the next sample should list all namespaces, for what was written does not
}

// result is what became of entries that are not in the file.
type result struct {
	back []entry // to be written again
	lost []entry // left out
	gone []entry // the disk failed to keep them, or to let them be taken back: they are there or not
}

// begin makes the directory ready and looks whether today's file may be written to.
func (a *appender) begin(today string) error {
	a.day = today
	if err := a.dir.makeReady(); err != nil {
		return err
	}
	if err := a.open(false); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	a.begun = true
	a.retain(0)
	return a.untidy
}

// resume does what could not be done so far.
func (a *appender) resume() error {
	if !a.begun {
		return a.begin(a.day)
	}
	if a.untidy != nil {
		a.retain(0)
	}
	return nil
}

// write appends entries of one day.
func (a *appender) write(day string, batch []entry) (r result, err error) {
	if a.day != day {
		if r, err = a.sync(); err != nil {
			r.back = append(r.back, batch...)
			return r, err
		}
		a.forget()
		a.day = day
	}
	gone, err := a.hold()
	if gone {
		batch = append(a.settle(), batch...)
	}
	if err == nil && a.f == nil {
		if err = a.dir.makeReady(); err == nil {
			err = a.open(true)
		}
	}
	if err != nil {
		r.back = batch
		return r, err
	}
	batch, r.lost = a.withinBudget(batch)
	if len(batch) == 0 {
		return r, nil
	}
	var buf bytes.Buffer
	if a.torn {
		buf.WriteByte('\n')
	}
	for i := range batch {
		buf.Write(batch[i].line)
	}
	n, err := a.f.Write(buf.Bytes())
	if err == nil && n < buf.Len() {
		err = io.ErrShortWrite
	}
	if a.torn && n > 0 {
		a.torn = false
		a.end++
		n--
	}
	r.back = a.count(batch, n)
	if err != nil {
		a.closeFile()
	}
	return r, err
}

// count takes note of n bytes of a batch that were written, and returns the entries that were not.
func (a *appender) count(batch []entry, n int) []entry {
	i := 0
	for ; i < len(batch) && n >= len(batch[i].line); i++ {
		a.end += int64(len(batch[i].line))
		n -= len(batch[i].line)
		a.keep(batch[i])
	}
	if n > 0 && !a.cutTo(a.end, a.end+int64(n)) {
		a.torn = true
		a.end += int64(n)
		if n == len(batch[i].line)-1 { // whole, once the newline follows
			a.keep(batch[i])
			i++
		}
	}
	return batch[i:]
}

// keep holds an entry that is written until it is synced.
func (a *appender) keep(e entry) {
	a.unsynced = append(a.unsynced, e)
	a.bytes += e.size()
	switch {
	case e.loss != nil:
		a.relist = true
	case e.class == classSample && a.bare:
		a.bare = false
		a.relist = a.relist || !e.listAll
	}
}

// settle forgets the unsynced entries, and returns them.
func (a *appender) settle() []entry {
	u := a.unsynced
	a.unsynced, a.bytes = nil, 0
	return u
}

// urgent reports whether something was written that is to be synced without delay.
func (a *appender) urgent() bool {
	for i := range a.unsynced {
		if a.unsynced[i].class == classState {
			return true
		}
	}
	return a.bytes > batchBytes
}

// sync has the disk keep what was written. What it then says it did not keep is cut off again, and comes back.
func (a *appender) sync() (r result, err error) {
	if len(a.unsynced) == 0 {
		return r, nil
	}
	gone, err := a.hold()
	if gone {
		r.back = a.settle()
		return r, fmt.Errorf("%s %w", a.dir.file(a.day), errGone)
	}
	if err != nil {
		return r, err
	}
	if err = a.f.Sync(); err == nil {
		err = a.dir.sync()
	}
	switch {
	case err == nil:
		a.settle()
		a.mark()
		return r, nil
	case a.synced.ours && a.cutTo(a.synced.end, a.end):
		a.end, a.torn = a.synced.end, a.synced.torn
		r.back = a.settle()
	default:
		r.gone = a.settle()
		a.mark()
	}
	a.closeFile()
	return r, err
}

// mark takes what is in the file as what will not be cut off any more.
func (a *appender) mark() { a.synced.end, a.synced.torn, a.synced.ours = a.end, a.torn, true }

// cutTo takes back what was written behind an offset, if nobody wrote behind that.
func (a *appender) cutTo(offset, end int64) bool {
	info, err := a.f.Stat()
	return err == nil && info.Size() == end && a.f.Truncate(offset) == nil
}

// hold has the day's file open if there is one, and finds whether it is still what its path leads to and as long as it
// was. If not, what was written to it and is not synced is gone.
func (a *appender) hold() (gone bool, err error) {
	if a.info == nil {
		return false, nil
	}
	info, err := a.disk.Lstat(a.dir.file(a.day))
	if err == nil && os.SameFile(info, a.info) && info.Size() >= a.end {
		if a.f == nil {
			if a.f, err = a.dir.open(a.day, false); err == nil {
				info, err = a.f.Stat()
			}
		}
		if err == nil && os.SameFile(info, a.info) {
			return false, a.follow(info.Size())
		}
	}
	if err != nil && !missing(err) {
		a.closeFile()
		return false, err
	}
	a.forget()
	return true, nil
}

// follow takes note of what others wrote to the file.
func (a *appender) follow(size int64) error {
	if size == a.end {
		return nil
	}
	torn, err := a.inspect(a.end, size)
	if err != nil {
		a.closeFile()
		return err
	}
	a.end, a.torn, a.synced.ours = size, torn, false
	if len(a.unsynced) == 0 {
		a.mark()
	}
	return nil
}

// open opens the day's file for the first time.
func (a *appender) open(create bool) error {
	f, err := a.dir.open(a.day, false)
	fresh := create && errors.Is(err, fs.ErrNotExist)
	if fresh {
		f, err = a.dir.open(a.day, true)
	}
	if err != nil {
		return err
	}
	a.f, a.end, a.torn, a.bare = f, 0, false, fresh
	info, err := f.Stat()
	if err == nil {
		err = a.follow(info.Size())
	}
	if err != nil {
		a.forget()
		return err
	}
	a.info = info
	a.mark()
	if create {
		a.retain(0) // a day begins
	}
	return nil
}

// inspect reports whether the last line of a part of the file lacks its end. It fails if a later version wrote to it: that
// is left alone.
func (a *appender) inspect(from, to int64) (torn bool, err error) {
	s := scanner{r: io.NewSectionReader(a.f, from, to-from)}
	for {
		c, err := s.next()
		if errors.Is(err, io.EOF) {
			return torn, nil
		}
		if err != nil {
			return false, err
		}
		torn = !c.ended
		if e, _, err := peek(c.line); err == nil && e.V > record.Version {
			return false, fmt.Errorf("%w (move the file away, or use the ctwatch that wrote it)",
				newer(a.dir.file(a.day), "offset", from+c.offset, e.V))
		}
	}
}

func (a *appender) closeFile() {
	if a.f != nil {
		_ = a.f.Close() // what matters is synced before
		a.f = nil
	}
}

func (a *appender) forget() {
	a.closeFile()
	a.info = nil
}
