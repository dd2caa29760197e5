package watch

import (
	"fmt"
	"time"

	"github.com/ctwatch/ctwatch/internal/boot"
	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/incident"
	"github.com/ctwatch/ctwatch/internal/kmsg"
	"github.com/ctwatch/ctwatch/internal/netns"
	"github.com/ctwatch/ctwatch/internal/record"
)

const (
	// findFor is how long a namespace may take to be found.
	findFor = 3 * time.Second
	// bootEvery is how often the files that say what the next boot gives are read while an incident is open.
	bootEvery = time.Minute
	// surveyFor is how long the end of a run waits for looks that are under way.
	surveyFor = time.Second
)

// incidents is what goes into incidents beside samples.
type incidents struct {
	engine   *incident.Engine
	log      *kmsg.Log // nil where the kernel log cannot be read
	unlogged bool      // said that some of it was overwritten
	surveyor *surveyor

	bootAsked time.Time // when the files of the next boot were last asked for
	held      bool      // it was looked whether what files set holds
}

func (w *watcher) openIncidents() {
	log, err := kmsg.Open("")
	if err != nil {
		w.out.Notice(fmt.Sprintf("what the kernel log says of full tables will not be shown beside the counts: %v", err))
	}
	w.log = log
	w.engine = incident.New(incident.Options{Lines: w.lines})
	w.surveyor = newSurveyor(w.finder, w.o.Root)
}

func (w *watcher) closeIncidents() {
	w.surveyor.close()
	if w.log != nil {
		_ = w.log.Close()
	}
}

// lines is how many lines of the kernel log there were about a namespace's table, as of the last sample.
func (w *watcher) lines(ns uint64, host bool) *uint64 {
	if w.log == nil {
		return nil
	}
	n := w.log.Lines(ns, host)
	return &n
}

// readLog reads what came to the kernel log. It comes after the sample: what is logged about the first refusal belongs
// to the incident that it opens.
func (w *watcher) readLog() {
	if w.log == nil {
		return
	}
	if err := w.log.Read(); err != nil {
		w.out.Notice(fmt.Sprintf("the kernel log is not read any more: %v", err))
		_ = w.log.Close()
		w.log = nil
	} else if w.log.Missed() > 0 && !w.unlogged {
		w.unlogged = true
		w.out.Notice("the kernel log was overwritten faster than it was read: there may have been more lines of full tables than are shown")
	}
}

// tellIncidents writes incident records, and sees to it that somebody looks into the tables of those that opened.
func (w *watcher) tellIncidents(all []*record.Incident) error {
	opened := false
	for _, in := range all {
		if err := w.write(in); err != nil {
			return err
		}
		opened = opened || in.Phase == record.PhaseOpen
	}
	if !opened {
		return nil
	}
	return w.askAround()
}

// askAround has somebody look into the tables that should be looked into. A namespace that nobody knew before may take a
// moment to be found.
func (w *watcher) askAround() error {
	for _, ns := range w.engine.Unlooked() {
		p := w.places[key{ns.Cookie, ns.NS}]
		switch {
		case p != nil && p.ns.Path != "" && !w.leaving:
			if !w.surveyor.ask(p.ns) {
				return nil // when there is room
			}
			w.engine.Looking(ns.NS, ns.Cookie)
		case ns.Since > findFor:
			if err := w.tellIncidents(w.engine.Filled(ns.NS, ns.Cookie, nil, "the namespace could not be entered")); err != nil {
				return err
			}
		}
	}
	if w.engine.Open() > 0 && time.Since(w.bootAsked) >= bootEvery {
		w.askBoot()
	}
	return nil
}

// askBoot has the files read that say what the next boot gives. If there is no room the next time will do.
func (w *watcher) askBoot() {
	if w.surveyor.ask(netns.Namespace{}) {
		w.bootAsked = time.Now()
	}
}

// surveyed takes what a look into a table found.
func (w *watcher) surveyed(s survey) error {
	w.surveyor.pending = max(0, w.surveyor.pending-1)
	if s.bootErr == nil {
		w.out.Boot(s.boot)
		w.engine.NextBoot(s.boot.Persisted.Max, s.boot.NextBoot.Max, s.boot.Why)
		w.tellHeld(s.boot)
	} else {
		w.engine.NextBoot(nil, nil, s.bootErr.Error())
	}
	if s.ns.Path == "" {
		return nil
	}
	why := ""
	if s.err != nil {
		why = s.err.Error()
	}
	return w.tellIncidents(w.engine.Filled(s.ns.Inode, s.ns.Cookie, s.fillers, why))
}

// tellHeld says, once, if what files set is not what holds: some other file or program was stronger.
func (w *watcher) tellHeld(b boot.Outlook) {
	if w.held || w.limits == (conntrack.Limits{}) {
		return
	}
	w.held = true
	if v := boot.Held(b, boot.Limits{Max: &w.limits.Max, Buckets: &w.limits.Buckets}); !v.Held {
		w.out.Notice("a limit that a file sets does not hold: " + v.Why)
	}
}

// endIncidents closes what is open. Looks that are under way may take a moment.
func (w *watcher) endIncidents() error {
	w.readLog()
	if w.engine.Open() > 0 {
		w.askBoot()
	}
	patience := time.NewTimer(surveyFor)
	defer patience.Stop()
	for w.surveyor.pending > 0 {
		select {
		case s := <-w.surveyor.done:
			if err := w.surveyed(s); err != nil {
				return err
			}
		case <-patience.C:
			w.surveyor.pending = 0
		}
	}
	return w.tellIncidents(w.engine.Stop(record.ClosedStop))
}
