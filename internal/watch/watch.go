// Package watch is the daemon's loop: it looks at every network namespace in turn, joins what the kernel says with what
// the program counted, and makes records of it.
package watch

import (
	"context"
	"time"

	"github.com/ctwatch/ctwatch/internal/boot"
	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/hook"
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

	Remediate remediate.Options // Mode and Policy count; the zero Mode is Off
	Persist   bool              // what was raised is to survive a reboot
	Files     string            // where etc and var are, to keep what was raised; "" is Root
	Hook      *hook.Hook        // called for incidents and actions; nil is none. The run closes it
}

// Output is where records go, and what no record holds.
type Output interface {
	Record(record.Record) error // an error ends the run
	Notice(text string)         // something that a person should know
	Alive()                     // each tick, also while there is nothing to tell
	Kernel(Kernel)              // after a sample, for each namespace whose table was read since the last
	Boot(boot.Outlook)          // what limits the next boot will give, at the start and when it may have changed
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
		case <-w.pulses.C:
			err = w.pulse(false)
		case a := <-w.kept():
			err = w.persisted(a)
		case r, ok := <-w.called():
			if ok {
				err = w.record(r.Action())
			}
		case <-ticker.C:
			err = w.tick()
		}
		if err != nil {
			return err
		}
	}
}
