package watch

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/ledger"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/record"
)

// lull is how long the feed rests when it waited for another event of the same namespace: each wakes several threads, and
// where packets are being refused the CPUs have other work. What comes meanwhile is read in one go.
const lull = 50 * time.Millisecond

// lullSamples is how many drop records a second may be wanted at most for that: the ring is no larger.
const lullSamples = 1000

// feed passes the probe's events on until the probe is closed.
func (w *watcher) feed() {
	w.drained = make(chan struct{})
	go func(p *loader.Probe, drained chan struct{}) {
		defer close(drained)
		var e loader.Event
		var last key
		for {
			asked := time.Now()
			if p.ReadEvent(&e) != nil {
				return
			}
			waited := time.Since(asked) > time.Millisecond
			select {
			case w.events <- e:
			default:
				w.unsent.Add(1)
			}
			again := key{e.Cookie, e.Inode} == last && e.Begins == loader.Nothing
			if last = (key{e.Cookie, e.Inode}); again && waited && w.o.Samples <= lullSamples {
				time.Sleep(lull)
			}
		}
	}(w.probe, w.drained)
}

// flush handles the events that are already on their way, and ends the feed.
func (w *watcher) flush() error {
	if err := w.probe.EndEvents(); err != nil {
		return err
	}
	for {
		select {
		case e := <-w.events:
			if err := w.event(e); err != nil {
				return err
			}
		case <-w.drained:
			for len(w.events) > 0 {
				if err := w.event(<-w.events); err != nil {
					return err
				}
			}
			return nil
		}
	}
}

// lostEvents is how many refused packets were to be told of and are not.
func (w *watcher) lostEvents() uint64 { return w.tally.SamplesLost + w.unsent.Load() }

func (w *watcher) event(e loader.Event) error {
	if e.Begins != loader.Nothing {
		return w.begins(e)
	}
	return w.refused(e)
}

// urgent handles the events that came meanwhile: reading many tables takes longer than an incident should take to be told.
func (w *watcher) urgent() error {
	for n := len(w.events); n > 0; n-- {
		if err := w.event(<-w.events); err != nil {
			return err
		}
	}
	return nil
}

// placeOf is where the event happened. Of a namespace that has no name yet, it looks for one.
func (w *watcher) placeOf(e loader.Event) *place {
	k := key{e.Cookie, e.Inode}
	if p := w.place(k, false); p.ns.Path != "" {
		return p
	}
	if w.scans.take(time.Now()) {
		w.scan(false)
	}
	return w.place(k, false)
}

// witnessEvery is how often at most a table is looked at for why packets are being refused there.
const witnessEvery = 50 * time.Millisecond

// refused tells of one refused packet.
func (w *watcher) refused(s loader.Event) error {
	p := w.placeOf(s)
	p.active = time.Now()
	if err := w.treat(p, s); err != nil {
		return err
	}
	// A look from before the packet was refused tells nothing of why. Also for a packet that is not told of: the look is
	// evidence for all that were refused around now.
	if s.Alone && p.readAt.boot < s.Boot && time.Since(p.readAt.wall) >= witnessEvery {
		w.read(p)
	}
	cause, inferred := s.Cause, s.Inferred
	if s.Alone && !w.sawAll(s.Cookie) {
		cause, inferred = p.account.AloneCause(), true
	}
	opening := w.engine.Opening(s.Inode, s.Cookie, cause)
	// The first of an incident is told of whoever else has used up the budget, unless nobody wants any.
	if w.budget.take(time.Now()) || opening && w.o.Samples > 0 {
		err := w.record(&record.Drop{
			NS: s.Inode, Cookie: s.Cookie, Name: p.ns.Name, Cause: cause, Inferred: inferred,
			Proto: conntrack.ProtoName(s.Proto), Src: addrText(s.Src), Dst: addrText(s.Dst), Sport: s.Sport, Dport: s.Dport,
			Ifname: s.Ifname, Hook: s.Hook,
		})
		if err != nil {
			return err
		}
	}
	if !opening {
		return nil
	}
	return w.atOnce(p)
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// budget keeps to so many of something in any one second of its own.
type budget struct {
	perSecond int
	since     time.Time
	taken     int
}

func (b *budget) take(at time.Time) bool {
	if at.Sub(b.since) >= time.Second {
		b.since, b.taken = at, 0
	}
	b.taken++
	return b.taken <= b.perSecond
}

// look compares what the kernel and the program counted, and attaches the program anew if it turns out to be blind.
func (w *watcher) look() error {
	runs, _, err := w.probe.Runs()
	if err != nil {
		return err
	}
	switch w.sight.Look(w.totals().unattributed, w.tally.Refusals, runs) {
	case ledger.Clear:
		w.clear = w.last.wall
		return w.probe.CountRuns(false)
	case ledger.Unsure:
		if err := w.probe.CountRuns(true); err != nil && !w.unsure {
			w.unsure = true
			w.out.Notice(fmt.Sprintf("it cannot be told whether the program is blind: %v", err))
		}
		return nil
	}
	if w.unsure {
		return nil // nobody counted the runs
	}
	w.out.Notice("the program is attached but does not run: attaching it anew")
	if err := w.probe.Reattach(); err != nil {
		return fmt.Errorf("attach anew: %w", err)
	}
	return w.record(&record.Gap{Why: record.GapBlind, From: w.clear.UTC(), To: time.Now().UTC()})
}
