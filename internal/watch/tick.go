package watch

import (
	"errors"
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/record"
)

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
	if err := errors.Join(w.look(), w.askAround(), w.convalesce(), w.pulse(true)); err != nil {
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
		if w.healer != nil {
			w.healer.Restart()
		}
		if err = errors.Join(err, w.tellIncidents(w.engine.Stop(record.ClosedUnloaded))); err != nil {
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
		if err := w.record(&record.Gap{Why: record.GapRestart, From: w.unloaded.wall, To: time.Now().UTC()}); err != nil {
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
	if err := errors.Join(w.endIncidents(), w.endHealing(), w.endCalls()); err != nil {
		return err
	}
	t := w.totals()
	return w.record(&record.Stop{
		Totals: t.drops, Evicted: t.evicted, Unattributed: t.unattributed,
		Lost: w.lostEvents(), Missed: w.missed + w.hooks.missed, Uptime: time.Since(w.begun).Nanoseconds(),
	})
}

// record writes a record, and the incidents that it gives rise to, and calls the hook.
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
	err := w.out.Record(r)
	w.call(r)
	return err
}
