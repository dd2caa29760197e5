package watch

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/netns"
	"github.com/ctwatch/ctwatch/internal/record"
)

const (
	// limitsEvery is how often the machine's limits are read if nobody is seen writing them; a namespace's max is read with
	// its table.
	limitsEvery = 5 * time.Second
	// settling is how long after a write was seen, which is before it is done, the limit is read.
	settling = 5 * time.Millisecond
	// writeAge is how long a write that was seen may explain a limit that changed.
	writeAge = 2 * limitsEvery
)

// writers is who was seen writing limits lately.
type writers struct {
	root    string
	limits  *loader.Limits // nil where nobody can be seen
	writes  chan write
	settled <-chan time.Time
	recent  []write
	lost    bool // said that some writers were not seen
	ended   sync.WaitGroup
}

// write is a write of a limit, and whose process it was.
type write struct {
	loader.LimitWrite
	unit string
	at   time.Time
}

func (w *writers) open(root string, out Output) {
	w.root, w.writes = root, make(chan write, 64)
	limits, err := loader.OpenLimits(root)
	if err != nil {
		out.Notice(fmt.Sprintf("who changes a limit will not be known: %v", err))
		return
	}
	w.limits = limits
	w.ended.Go(func() {
		var one loader.LimitWrite
		for limits.Read(&one) == nil {
			wr := write{LimitWrite: one, at: time.Now()}
			// At once: the writer may be a command that is gone in a moment.
			if owner, err := netns.OwnerOf(root, one.PID); err == nil {
				wr.unit = owner.String()
			}
			select {
			case w.writes <- wr:
			default: // the limit's change is seen all the same
			}
		}
	})
}

func (w *writers) close() {
	if w.limits != nil {
		_ = w.limits.Close()
		w.ended.Wait()
	}
}

// seen notes a write. It has not happened yet.
func (w *writers) seen(one write) {
	w.recent = slices.DeleteFunc(w.recent, func(old write) bool { return one.at.Sub(old.at) > writeAge })
	if len(w.recent) == cap(w.writes) {
		w.recent = w.recent[1:]
	}
	w.recent = append(w.recent, one)
	w.settled = time.After(settling)
}

// own notes a write of ours, which is done: that somebody was seen writing may come later, or not at all.
func (w *writers) own(key string, to uint64) {
	w.recent = append(w.recent, write{LimitWrite: loader.LimitWrite{Key: key, To: to, PID: os.Getpid(), Comm: ownComm}, at: time.Now()})
}

// ownComm is the name of this process's threads, as rival knows it.
const ownComm = "ctwatch"

// of is who made a limit what it is: the last who wrote that.
func (w *writers) of(key string, to uint64) record.Writer {
	for len(w.writes) > 0 {
		w.seen(<-w.writes)
	}
	for _, one := range slices.Backward(w.recent) {
		if one.Key == key && one.To == to && time.Since(one.at) <= writeAge {
			return record.Writer{PID: one.PID, Comm: one.Comm, Unit: one.unit}
		}
	}
	return record.Writer{}
}

// limitMoved reports whether the limits are probably not what was last read: the host's table had another max, or somebody
// was seen writing another value. The kernel may take its time: to change the buckets it moves every entry.
func (w *watcher) limitMoved() bool {
	for _, p := range w.places {
		if p.ns.Host && p.account.Read && p.account.Max != w.limits.Max {
			return true
		}
	}
	return w.writers.pending(conntrack.KeyMax, w.limits.Max) || w.writers.pending(conntrack.KeyBuckets, w.limits.Buckets)
}

// missed reports, once, that there were more writes than could be told of.
func (w *writers) missed() bool {
	if w.limits == nil || w.lost {
		return false
	}
	lost, err := w.limits.Lost()
	w.lost = err == nil && lost > 0
	return w.lost
}

// pending reports whether the last write of a limit that was seen is of another value than it has.
func (w *writers) pending(key string, now uint64) bool {
	for _, one := range slices.Backward(w.recent) {
		if one.Key == key {
			return one.To != now && time.Since(one.at) <= writeAge
		}
	}
	return false
}

// checkLimits reads the limits, and tells of those that changed.
func (w *watcher) checkLimits() error {
	before := w.limits
	if err := w.readLimits(); err != nil {
		return err
	}
	if w.writers.missed() {
		w.out.Notice("limits were written faster than their writers could be told of: who changed one may be unknown")
	}
	changed := false
	for _, l := range []record.Limit{
		{Key: conntrack.KeyMax, From: before.Max, To: w.limits.Max},
		{Key: conntrack.KeyBuckets, From: before.Buckets, To: w.limits.Buckets},
	} {
		if l.From == l.To || before == (conntrack.Limits{}) {
			continue
		}
		changed = true
		l.Writer = w.writers.of(l.Key, l.To)
		if err := errors.Join(w.record(&l), w.noticed(l)); err != nil {
			return err
		}
	}
	if changed {
		w.askBoot()
	}
	return nil
}

// readLimits reads the limits, unless conntrack is being unloaded at this moment: then the next tick waits for it.
func (w *watcher) readLimits() error {
	w.limitsAt = time.Now()
	limits, err := conntrack.ReadLimits(w.o.Root)
	switch {
	case errors.Is(err, conntrack.ErrNotLoaded):
		return nil
	case err != nil:
		return err
	}
	w.limits = limits
	return nil
}
