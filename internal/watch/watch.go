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
	"github.com/ctwatch/ctwatch/internal/remediate"
)

// lookEvery is how long at most nobody looks, however rarely samples are wanted: counters wrap, and limits change.
const lookEvery = time.Second

// leastSamples is how many refused packets a second the program tells of even if nobody wants to see any: they wake us.
const leastSamples = 20

// Options says what to watch and how often.
type Options struct {
	Version  string        // ctwatch's own, for the start record
	Probe    string        // one of loader.Names
	Interval time.Duration // between samples; positive
	Duration time.Duration // how long; 0 is until the context ends
	Samples  int           // drop records a second, at most; 0 is none
	Root     string        // where proc, sys are; "" is the machine's own
	Alone    bool          // hooks without the core, as on kernels where the core cannot run
}

// Output is where records go, and what no record holds.
type Output interface {
	Record(record.Record) error // an error ends the run
	Notice(text string)         // something that a person should know
	Alive()                     // each tick, also while there is nothing to tell
	Kernel(Kernel)              // after a sample, for each namespace whose table was read since the last
	Boot(remediate.Boot)        // what limits the next boot will give, at the start and when it may have changed
}

// Kernel is what the kernel's own counters of a namespace add up to since counting began, past their wrap.
type Kernel struct {
	NS, Cookie uint64
	Totals     conntrack.Totals
	Known      conntrack.CounterSet // of Totals; what others say means nothing
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
		case e := <-w.events:
			err = w.event(e)
		case s := <-w.surveyor.done:
			err = w.surveyed(s)
		case write := <-w.writers.writes:
			w.writers.seen(write)
		case <-w.writers.settled:
			err = w.checkLimits()
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

	probe    *loader.Probe // nil while conntrack is not loaded
	instance uint64        // the loading of conntrack that the probe is for
	leaving  bool          // it is no more: nothing may be read
	events   chan loader.Event
	drained  chan struct{} // closed when the goroutine that feeds events has ended
	unsent   atomic.Uint64 // events that found no room in events

	places    map[key]*place
	past      totals         // of namespaces that are no more
	farewells []record.NetNS // of those, what is still to be told
	missed    uint64         // by hooks of probes that are closed
	tally     loader.Tally
	unbooked  bool // the tally moved since the last book
	sight     ledger.Sight
	limits    conntrack.Limits
	writers   writers
	incidents
	witness conntrack.Snapshot // memory for a look that only tells why

	nth        int  // places there were
	cookieless bool // the kernel tells no cookies of namespaces (before 5.14)

	crowded bool   // said that there is no room for all namespaces
	settled uint64 // of what the program skipped, how many were found
	hooks   hooks

	ticks    int
	begun    time.Time
	scanned  time.Time
	walked   time.Time
	toldAt   time.Time
	limitsAt time.Time
	seq      uint64
	last     moment
	clear    time.Time // when the program last was not blind
	unloaded moment
	budget   budget // of drop records
	untimely budget // of samples out of turn
	scans    budget // of scans for the name of one namespace
	denied   bool   // said that some namespaces cannot be seen
	unread   bool   // said that some cannot be read
	unsure   bool   // said that it cannot be told whether the program is blind
	lame     bool   // said that namespaces cannot be found
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
	w := &watcher{
		o: o, out: out, reader: reader, finder: finder,
		events:   make(chan loader.Event, 256),
		places:   map[key]*place{},
		begun:    time.Now(),
		last:     now(),
		budget:   budget{perSecond: o.Samples},
		untimely: budget{perSecond: mostUntimely},
		scans:    budget{perSecond: 10},
	}
	w.openIncidents()
	w.writers.open(o.Root, out)
	return w, nil
}

func (w *watcher) close() {
	if w.probe != nil {
		_ = w.probe.Close()
	}
	w.writers.close()
	w.closeIncidents()
	_ = w.finder.Close()
}

// open attaches the probe once conntrack is loaded, and takes what there is as the beginning.
func (w *watcher) open() error {
	if !conntrack.Loaded(w.o.Root) {
		return w.wait()
	}
	// What comes to be while we watch has no history.
	first := w.ticks == 0
	w.instance = conntrack.Instance(w.o.Root)
	probe, err := loader.Open(loader.Options{Probe: w.o.Probe, Samples: max(w.o.Samples, leastSamples), Module: conntrack.IsModule(w.o.Root),
		Fresh: !first, Alone: w.o.Alone})
	if err != nil && w.unloadedMeanwhile() {
		return w.wait() // that is why; the next tick tries again
	}
	if err != nil {
		return err
	}
	w.probe, w.hooks = probe, hooks{}
	if probe.HoldsModule() {
		w.out.Notice("the module nf_conntrack cannot be unloaded while probe fexit is attached to it (--probe tracepoint and kprobe do not hold it)")
	}
	w.feed()
	if _, err := w.moved(); err != nil {
		return err
	}
	if err := w.meet(first); err != nil {
		return err
	}
	w.scan(first)
	for _, p := range w.places {
		w.read(p)
	}
	if err := w.readLimits(); err != nil {
		return err
	}
	w.askBoot()
	w.clear = now().wall
	return w.start(*probe)
}

// wait says, at the start, that there is nothing to watch yet.
func (w *watcher) wait() error {
	if w.ticks > 0 {
		return nil
	}
	w.out.Notice("conntrack is not loaded: waiting for it (ctwatch does not load it)")
	return w.start(loader.Probe{Skipped: []loader.Skip{{Probe: loader.Auto, Why: "conntrack is not loaded"}}})
}

// unloadedMeanwhile reports whether the loading of conntrack that the probe was to be for is no more.
func (w *watcher) unloadedMeanwhile() bool {
	return !conntrack.Loaded(w.o.Root) || conntrack.Instance(w.o.Root) != w.instance
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
	w.toldAt = time.Now()
	return w.record(r)
}

// tick is one interval's work: look, count, compare, tell.
func (w *watcher) tick() error {
	w.ticks++
	w.out.Alive()
	if err := w.gap(); err != nil {
		return err
	}
	if w.probe == nil || w.unloadedMeanwhile() {
		return w.absent()
	}
	if err := w.count(w.due); err != nil {
		return err
	}
	if err := errors.Join(w.look(), w.askAround()); err != nil {
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
		w.out.Notice("conntrack was unloaded: beginning anew when it is back")
		w.unloaded = now()
		// What can be read now, if anything, is of the next loading.
		w.leaving = true
		err := errors.Join(w.book(), w.flush(), w.probe.Close())
		w.unsent.Add(w.tally.SamplesLost)
		w.missed += w.hooks.missed
		w.tally, w.settled, w.hooks = loader.Tally{}, 0, hooks{}
		w.probe, w.leaving = nil, false
		if err = errors.Join(err, w.tellIncidents(w.engine.Stop("unloaded"))); err != nil {
			return err
		}
	}
	if !conntrack.Loaded(w.o.Root) {
		return nil
	}
	for _, p := range w.places {
		p.restart()
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
	if err := errors.Join(w.discover(), w.urgent()); err != nil {
		return err
	}
	if _, err := w.moved(); err != nil {
		return err
	}
	if w.unbooked {
		if err := errors.Join(w.meet(false), w.urgent()); err != nil { // who is active
			return err
		}
	}
	open := false
	for _, p := range w.places {
		if due(p) {
			w.read(p)
			if err := w.urgent(); err != nil {
				return err
			}
		}
		open = open || p.account.Open()
	}
	// After the kernel's counters: what the program then lacks, it did not see.
	if _, err := w.moved(); err != nil {
		return err
	}
	if !w.probe.Counts() {
		w.tellBlindHooks()
		return w.bookAlone(false)
	}
	if !w.unbooked && !open {
		return nil
	}
	if err := errors.Join(w.book(), w.urgent()); err != nil {
		return err
	}
	return w.settle()
}

// moved reports whether the program counted something, or got to know a namespace, since it was last asked.
func (w *watcher) moved() (bool, error) {
	before := w.tally
	var err error
	if w.tally, err = w.probe.Tally(); err != nil {
		return false, err
	}
	if w.tally.Unseen > before.Unseen && !w.crowded {
		w.crowded = true
		w.out.Notice("there are more network namespaces than the program has room for: what is refused in the others is unattributed")
	}
	moved := w.tally.Refusals != before.Refusals || w.tally.Entered != before.Entered || w.tally.Hits != before.Hits
	w.unbooked = w.unbooked || moved
	return moved, nil
}

// settle has the program find what it was kept from seeing: because it was at work on that CPU, or because the packet
// moved to another CPU between being refused and being freed. It counts how often that may have been, and no more than
// that was missed; what is missing beyond came another way, and stays unattributed. Where a firewall drops packets too, a
// look that found nothing may have been for one of these, and unattributed is the least that there was.
func (w *watcher) settle() error {
	skipped, err := w.probe.SkippedLooks()
	if err != nil {
		return err
	}
	found := false
	for _, p := range w.places {
		missing := p.account.Missing()
		if missing == 0 || missing > skipped-w.settled && missing > p.idle-p.idleSettled {
			continue
		}
		if err := w.probe.Settle(p.ns.Cookie); err != nil {
			return err
		}
		w.settled += min(missing, skipped-w.settled)
		found = true
	}
	if !found {
		return nil
	}
	return w.book()
}

// finish writes what is still to be said, and says that it is all.
func (w *watcher) finish() error {
	if w.probe != nil {
		w.leaving = w.unloadedMeanwhile()
		if err := w.flush(); err != nil {
			return err
		}
		all := func(*place) bool { return true }
		// What was being refused when it was read is read again, until the two counts agree or the rest stays.
		for range 4 {
			if err := w.count(all); err != nil {
				return err
			}
			if !slices.ContainsFunc(w.all(), func(p *place) bool { return p.account.Missing() > 0 }) {
				break
			}
		}
		if !w.probe.Counts() {
			if err := w.bookAlone(true); err != nil {
				return err
			}
		}
		w.limitsAt = time.Time{}
		if err := w.tell(); err != nil {
			return err
		}
	}
	if err := w.endIncidents(); err != nil {
		return err
	}
	t := w.totals()
	return w.record(&record.Stop{
		Totals: t.drops, Evicted: t.evicted, Unattributed: t.unattributed,
		Lost: w.lostEvents(), Missed: w.missed + w.hooks.missed, Uptime: time.Since(w.begun).Nanoseconds(),
	})
}

// record writes a record, and the incidents that it gives rise to.
func (w *watcher) record(r record.Record) error {
	if err := w.write(r); err != nil {
		return err
	}
	return w.tellIncidents(w.engine.Record(r))
}

func (w *watcher) write(r record.Record) error {
	w.seq++
	m := now()
	record.Stamp(r, w.seq, m.wall, m.boot)
	return w.out.Record(r)
}
