package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// Window says which records to read.
type Window struct {
	Since time.Time // the first that is wanted; zero is the beginning
	Until time.Time // before this; zero is the end
	Kinds []string  // of these kinds only; none is all
}

func (w Window) has(t time.Time) bool {
	return (w.Since.IsZero() || !t.Before(w.Since)) && (w.Until.IsZero() || t.Before(w.Until))
}

// hasDay reports whether a file may hold something of the window. A record is in the file of its own wall time's day,
// whatever the clock did, so no other file need be read.
func (w Window) hasDay(day string) bool {
	return (w.Since.IsZero() || day >= dayOf(w.Since)) && (w.Until.IsZero() || day <= dayOf(w.Until))
}

// Line is one record, not decoded yet.
type Line struct {
	record.Envelope
	Raw  []byte // without the newline; valid until the function that was called with the Line returns
	Path string // of the file
	At   int64  // offset in the file

	body    []byte // of Raw, after the envelope; nil where that is not in its form
	decoder *decoder
	broken  bool
}

// Record decodes the line. Where that fails the line is damaged, beyond its envelope: return the error as it is, and Read
// counts the line and goes on.
func (l *Line) Record() (record.Record, error) {
	if r := l.decoder.decode(l.Envelope, l.body); r != nil {
		return r, nil
	}
	// In the usual form the version and the kind are known already.
	if l.body != nil {
		if r := record.New(l.Kind); r != nil && json.Unmarshal(l.Raw, r) == nil {
			return r, nil
		}
	}
	r, err := record.Parse(l.Raw)
	if err != nil {
		l.broken = true
		return nil, fmt.Errorf("%s, offset %d: %w", l.Path, l.At, err)
	}
	return r, nil
}

// Damage is what a journal holds beside records.
type Damage struct {
	Lines   int    // that are no record
	Bytes   int64  // of these lines
	First   string // file:offset of the first; "" where there is none
	Torn    int    // files whose last line is cut off: it is being written just now, or never was
	Unknown int    // records of kinds that this version does not know
	Unread  int    // files that could not be read, or not to their end
	Why     error  // why not, of the first; nil if there is none
}

// Read calls f for each record of a window: files by day, lines as they stand. Lines that are no record are passed over
// and counted; those that are not asked for, only as far as their envelope shows it. An error of f ends it. So does a
// record of a later version, with record.ErrNewer. A file that cannot be read does not keep the others from being read:
// Damage tells. A directory that does not exist is fs.ErrNotExist.
//
// A file of the window is read from its beginning to its end. Nothing is looked for by halves, because the clock may have
// been set back and forth between any two lines, and a record would then be missed.
func Read(ctx context.Context, dir string, w Window, f func(*Line) error) (Damage, error) {
	var d Damage
	entries, err := os.ReadDir(dir) // by name, which is by day
	if err != nil {
		return d, fmt.Errorf("read the journal: %w", err)
	}
	for _, e := range entries {
		if day, ok := dayIn(e.Name()); !ok || !w.hasDay(day) {
			continue
		}
		r, err := openFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoFile) {
			continue // removed meanwhile, or none of ours
		}
		if err == nil {
			err = readFile(ctx, r, r.Name(), w, f, &d)
			_ = r.Close()
		}
		var failed *fs.PathError
		switch stopped := (*stopError)(nil); {
		case errors.As(err, &stopped):
			return d, stopped.error
		case errors.As(err, &failed):
			d.Unread++
			d.Why = cmp.Or(d.Why, err)
		case err != nil:
			return d, fmt.Errorf("read the journal: %w", err)
		}
	}
	return d, nil
}

// stopError is an error of the caller's function.
type stopError struct{ error }

var errNoFile = errors.New("no regular file")

// openFile opens a file, and neither follows a link nor waits for a pipe.
func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) {
		return nil, errNoFile
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNoFile
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// readFile reads one file.
func readFile(ctx context.Context, r io.Reader, path string, w Window, f func(*Line) error, d *Damage) error {
	s := scanner{r: r}
	l := Line{Path: path, decoder: &decoder{words: map[string]string{}}}
	for n := 1; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		c, err := s.next()
		if errors.Is(err, io.EOF) {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if !c.ended && !json.Valid(c.line) {
			d.Torn++ // a record that lacks its newline only is one
			continue
		}
		ok, err := readLine(c, n, &l, w, f, d)
		if err != nil {
			return err
		}
		if !ok {
			d.add(path, c)
		}
	}
}

// readLine reports whether a line is a record, as far as it was looked at.
func readLine(c chunk, n int, l *Line, w Window, f func(*Line) error, d *Damage) (ok bool, err error) {
	e, body, err := peek(c.line)
	switch {
	case err != nil:
		return false, nil
	case e.V > record.Version:
		return false, newer(l.Path, "line", int64(n), e.V)
	case !slices.Contains(kinds[:], e.Kind):
		d.Unknown++
		return true, nil
	case !w.has(e.Time) || len(w.Kinds) > 0 && !slices.Contains(w.Kinds, e.Kind):
		return true, nil
	}
	l.Envelope, l.Raw, l.At, l.body, l.broken = e, c.line, c.offset, body, false
	err = f(l)
	if l.broken {
		return false, nil
	}
	if err != nil {
		return true, &stopError{err}
	}
	return true, nil
}

func (d *Damage) add(path string, c chunk) {
	d.Lines++
	d.Bytes += c.size
	if d.First == "" {
		d.First = fmt.Sprintf("%s:%d", path, c.offset)
	}
}

func newer(path, unit string, at int64, version int) error {
	return fmt.Errorf("%s, %s %d: %w: version %d, and this ctwatch knows %d", path, unit, at, record.ErrNewer, version, record.Version)
}
