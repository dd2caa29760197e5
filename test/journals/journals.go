// Package journals makes journals of weeks as a run of ctwatch would have kept them, for benchmarks and tests of what
// reads them.
package journals

import (
	"bufio"
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/ctwatch/ctwatch/internal/journal"
	"github.com/ctwatch/ctwatch/internal/record"
)

// Options says what there is to tell.
type Options struct {
	Days      int       // 0 is 30
	Incidents int       // spread over them; negative is none, 0 is 200
	NetNS     int       // namespaces; 0 is 100
	Until     time.Time // when the last day ends; zero is 2026-11-24 00:00 UTC
	Seed      uint64    // the same seed makes the same journal
}

// Write makes the journal: a sample each second, and what belongs to the incidents, as a run writes them. They go through
// journal.Rollup and journal.Encode straight into the daily files.
func Write(dir string, o Options) (err error) {
	o.Days = cmp.Or(o.Days, 30)
	o.Incidents = max(0, cmp.Or(o.Incidents, 200))
	o.NetNS = cmp.Or(o.NetNS, 100)
	if o.Until.IsZero() {
		o.Until = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	f := files{dir: dir, roll: journal.NewRollup()}
	defer func() { err = errors.Join(err, f.close()) }()
	return newHost(o, &f).live()
}

// files puts records into the files of their days.
type files struct {
	dir  string
	roll *journal.Rollup
	day  string
	f    *os.File
	w    *bufio.Writer
}

func (f *files) add(r record.Record) error {
	for _, r := range f.roll.Add(r) {
		if err := f.write(r); err != nil {
			return err
		}
	}
	return nil
}

func (f *files) write(r record.Record) error {
	if day := r.Head().Time.Format(time.DateOnly); day != f.day {
		if err := f.close(); err != nil {
			return err
		}
		var err error
		if f.f, err = os.OpenFile(filepath.Join(f.dir, day+".jsonl"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640); err != nil {
			return err
		}
		f.day, f.w = day, bufio.NewWriterSize(f.f, 1<<16)
	}
	line, err := journal.Encode(r)
	if err != nil {
		return err
	}
	_, err = f.w.Write(line)
	return err
}

func (f *files) close() error {
	if f.f == nil {
		return nil
	}
	err := errors.Join(f.w.Flush(), f.f.Close())
	f.f = nil
	return err
}
