package watch

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/hook"
	"github.com/ctwatch/ctwatch/internal/ledger"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/netns"
	"github.com/ctwatch/ctwatch/internal/record"
)

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
	healing
	filter  hook.Filter
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
	w.openHealing()
	w.writers.open(o.Root, out)
	return w, nil
}

func (w *watcher) close() {
	if w.probe != nil {
		_ = w.probe.Close()
	}
	w.writers.close()
	w.closeIncidents()
	w.closeHealing()
	_ = w.finder.Close()
}

// open attaches the probe once conntrack is loaded, and takes what there is as the beginning.
func (w *watcher) open() error {
	if !conntrack.Loaded(w.o.Root) {
		return w.wait()
	}
	if err := w.canHeal(); err != nil {
		return err
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
	if err := w.start(*probe); err != nil {
		return err
	}
	return w.beginHealing()
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
