// Package watch is the daemon's loop: it looks at every network namespace in turn, joins what the kernel says with what
// the program counted, and makes records of it.
package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/ledger"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/netns"
	"github.com/ctwatch/ctwatch/internal/record"
)

// lookEvery is how long at most nobody looks, however rarely samples are wanted: counters wrap, and limits change.
const lookEvery = time.Second

// Options says what to watch and how often.
type Options struct {
	Version  string        // ctwatch's own, for the start record
	Probe    string        // one of loader.Names
	Interval time.Duration // between samples; positive
	Duration time.Duration // how long; 0 is until the context ends
	Samples  int           // drop records a second, at most; 0 is none
	Root     string        // where proc, sys are; "" is the machine's own
}

// Output is where records go.
type Output interface {
	Record(record.Record) error // an error ends the run
	Notice(text string)         // something that a person should know and no record holds
}

// Run watches until the context ends or the duration has passed, and then writes the final sample and the stop record.
// While conntrack is not loaded it waits, and does not load it. A *loader.UnavailableError says that the named probe
// cannot work here; an error of out ends the run as it is.
func Run(ctx context.Context, o Options, out Output) (err error) {
	w, err := newWatcher(o, out)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.open(); err != nil {
		return err
	}
	if o.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Duration)
		defer cancel()
	}
	ticker := time.NewTicker(min(o.Interval, lookEvery))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return w.finish()
		case s := <-w.samples:
			err = w.sample(s)
		case <-ticker.C:
			err = w.tick()
		}
		if err != nil {
			return err
		}
	}
}

// watcher is the state of a run. Its methods run on one goroutine.
type watcher struct {
	o      Options
	out    Output
	reader *conntrack.Reader
	finder *netns.Finder

	probe   *loader.Probe // nil while conntrack is not loaded
	samples chan loader.Sample
	drained chan struct{} // closed when the goroutine that feeds samples has ended
	unsent  atomic.Uint64 // samples that found no room in samples

	places map[key]*place
	past   totals // of namespaces that are no more
	tally  loader.Tally
	sight  ledger.Sight
	limits conntrack.Limits

	ticks    int
	begun    time.Time
	scanned  time.Time
	walked   time.Time
	toldAt   time.Time
	seq      uint64
	last     moment
	unloaded moment
	budget   budget
	denied   bool // said that some namespaces cannot be seen
}

func newWatcher(o Options, out Output) (*watcher, error) {
	reader, err := conntrack.NewReader(o.Root)
	if err != nil {
		return nil, err
	}
	finder, err := netns.NewFinder(o.Root)
	if err != nil {
		return nil, err
	}
	return &watcher{
		o: o, out: out, reader: reader, finder: finder,
		samples: make(chan loader.Sample, 256),
		places:  map[key]*place{},
		begun:   time.Now(),
		last:    now(),
		budget:  budget{perSecond: o.Samples},
	}, nil
}

func (w *watcher) close() {
	if w.probe != nil {
		_ = w.probe.Close()
	}
	_ = w.finder.Close()
}

// open attaches the probe once conntrack is loaded, and takes what there is as the beginning.
func (w *watcher) open() error {
	if !conntrack.Loaded(w.o.Root) {
		w.out.Notice("conntrack is not loaded: waiting for it (ctwatch does not load it)")
		return w.start(loader.Probe{Skipped: []loader.Skip{{Probe: loader.Auto, Why: "conntrack is not loaded"}}})
	}
	probe, err := loader.Open(loader.Options{Probe: w.o.Probe, Samples: w.o.Samples, Module: conntrack.IsModule(w.o.Root)})
	if err != nil {
		return err
	}
	w.probe = probe
	w.feed()
	first := w.ticks == 0
	if err := w.readTally(); err != nil {
		return err
	}
	if err := w.tables(first); err != nil {
		return err
	}
	if err := w.scan(first); err != nil {
		return err
	}
	for _, p := range w.places {
		w.read(p)
	}
	if w.limits, err = conntrack.ReadLimits(w.o.Root); err != nil {
		return err
	}
	return w.start(*probe)
}

func (w *watcher) start(p loader.Probe) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("read the kernel's version: %w", err)
	}
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("read the host's name: %w", err)
	}
	r := &record.Start{
		Version: w.o.Version, Kernel: unix.ByteSliceToString(uts.Release[:]), Hostname: hostname,
		Probe: p.Name, Hooks: append([]string{}, p.Hooks...), Skipped: []record.Skip{},
		Buckets: w.limits.Buckets, Max: w.limits.Max,
	}
	for _, s := range p.Skipped {
		r.Skipped = append(r.Skipped, record.Skip(s))
	}
	return w.record(r)
}

// tick is one interval's work: look, count, compare, tell.
func (w *watcher) tick() error {
	w.ticks++
	if err := w.gap(); err != nil {
		return err
	}
	if w.probe == nil || !conntrack.Loaded(w.o.Root) {
		return w.absent()
	}
	if err := w.count(w.due); err != nil {
		return err
	}
	if err := w.look(); err != nil {
		return err
	}
	// The ticks of an interval that is no multiple of them do not add up to it exactly.
	if time.Since(w.toldAt) < w.o.Interval-min(w.o.Interval, lookEvery)/2 {
		return nil
	}
	return w.tell()
}

// absent waits for conntrack to come back, and begins anew when it is there.
func (w *watcher) absent() error {
	if w.probe != nil {
		w.out.Notice("conntrack was unloaded: waiting for it to come back")
		w.unloaded = now()
		err := errors.Join(w.flush(), w.probe.Close())
		w.unsent.Add(w.tally.SamplesLost)
		w.tally = loader.Tally{}
		w.probe = nil
		return err
	}
	if !conntrack.Loaded(w.o.Root) {
		return nil
	}
	for _, p := range w.places {
		p.account.Restart()
	}
	if w.unloaded != (moment{}) {
		if err := w.record(&record.Gap{Why: "restart", From: w.unloaded.wall, To: time.Now().UTC()}); err != nil {
			return err
		}
	}
	return w.open()
}

// count reads the namespaces that due names, and then what the program counted, if anything.
func (w *watcher) count(due func(*place) bool) error {
	if err := w.discover(); err != nil {
		return err
	}
	if err := w.readTables(false); err != nil { // who is active
		return err
	}
	open := false
	for _, p := range w.places {
		if due(p) {
			w.read(p)
		}
		open = open || p.account.Open()
	}
	// After the kernel's counters: what the program then lacks, it did not see.
	return w.readTables(open)
}

// readTables takes what the program counted, if it did or got to know a namespace since the last time, or if always.
func (w *watcher) readTables(always bool) error {
	before := w.tally
	if err := w.readTally(); err != nil {
		return err
	}
	if !always && w.tally.Refusals == before.Refusals && w.tally.Entered == before.Entered {
		return nil
	}
	return w.tables(false)
}

func (w *watcher) readTally() (err error) {
	w.tally, err = w.probe.Tally()
	return err
}

// finish writes what is still to be said, and says that it is all.
func (w *watcher) finish() error {
	if w.probe != nil {
		if err := w.flush(); err != nil {
			return err
		}
		all := func(*place) bool { return true }
		// What was being refused when it was read is read again, until the two counts agree or the rest stays.
		for range 4 {
			if err := w.count(all); err != nil {
				return err
			}
			if !slices.ContainsFunc(w.all(), func(p *place) bool { return p.account.Missing() }) {
				break
			}
			// Missing at two looks running is what stays.
		}
		if err := w.tell(); err != nil {
			return err
		}
	}
	t := w.totals()
	return w.record(&record.Stop{
		Totals: t.drops, Evicted: t.evicted, Unattributed: t.unattributed,
		Lost: w.lostSamples(), Uptime: time.Since(w.begun).Nanoseconds(),
	})
}

func (w *watcher) record(r record.Record) error {
	w.seq++
	m := now()
	record.Stamp(r, w.seq, m.wall, m.boot)
	return w.out.Record(r)
}
