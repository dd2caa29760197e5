package watch

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/internal/census"
	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

const (
	// considerAgain is how long a decision stands that was no, unless something worse gives rise to the next.
	considerAgain = time.Second
	// lookAgain is how long it takes until more can be told of what came: the longer nothing can be told, the longer.
	lookAgain     = 20 * time.Millisecond
	lookAgainMost = 640 * time.Millisecond
)

// healing is what it takes to raise limits in time. Nothing of it is at work with remediation off.
type healing struct {
	healer  *remediate.Healer // nil: remediation is off
	limit   *conntrack.Gauge  // nf_conntrack_max
	gauges  int
	pulses  *time.Timer
	glances budget
	looks   budget
	memory  struct {
		remediate.Memory
		err error
		at  time.Duration
	}
	refusedAt time.Duration // when a packet was last refused, anywhere
	keeper    *keeper
}

// health is what healing knows of one place.
type health struct {
	gauge     *conntrack.Gauge
	count     uint64 // as last read
	pace      remediate.Pace
	dueAt     time.Duration // when somebody has to look again
	looks     remediate.Looks
	lookedAt  time.Duration
	againAt   time.Duration     // until then a decision stands ...
	trigger   remediate.Trigger // ... that was made for this
	chainsAt  time.Duration     // the same of chains
	unclear   int               // decisions running that could not be made
	floodAt   time.Duration     // when it last was a flood
	refused   conntrack.Drops   // as of the last tick
	evicted   uint64
	evictedAt time.Duration
}

func (w *watcher) openHealing() {
	w.pulses = time.NewTimer(time.Hour)
	w.pulses.Stop()
	if w.o.Remediate.Mode == "" || w.o.Remediate.Mode == remediate.Off {
		return
	}
	o := w.o.Remediate
	o.Root, o.Boot = w.o.Root, func() time.Duration { return now().boot }
	o.Memory = func() (remediate.Memory, error) { return w.memory.Memory, w.memory.err }
	w.healer = remediate.NewHealer(o)
	w.glances, w.looks = budget{perSecond: glances}, budget{perSecond: looks}
	w.keeper = newKeeper(w.o)
}

func (w *watcher) closeHealing() {
	w.pulses.Stop()
	for _, p := range w.places {
		w.closeGauge(p)
	}
	if w.limit != nil {
		_ = w.limit.Close()
	}
	if w.keeper != nil {
		w.keeper.close()
	}
}

// endHealing records what is still being kept.
func (w *watcher) endHealing() error {
	if w.keeper == nil {
		return nil
	}
	w.keeper.close()
	for a := range w.keeper.done {
		if err := w.record(a); err != nil {
			return err
		}
	}
	return nil
}

// canHeal says why no limit could be set here, if so. It is asked as soon as conntrack is loaded.
func (w *watcher) canHeal() error {
	if w.healer == nil || w.o.Remediate.Mode != remediate.On {
		return nil
	}
	if err := limits.CheckMax(w.o.Root); err != nil && !errors.Is(err, conntrack.ErrNotLoaded) {
		return fmt.Errorf("remediate: %w", err)
	}
	return nil
}

// beginHealing has at hand what a raise in a hurry cannot wait for, and looks at every table for the first time.
func (w *watcher) beginHealing() error {
	if w.healer == nil {
		return nil
	}
	w.readMemory(true)
	if census.WouldLoad(w.o.Root) {
		w.out.Notice("whether a flood fills a table only ctnetlink tells: nf_conntrack_netlink is loaded for that, and holds nf_conntrack until it is removed")
		for _, p := range w.places {
			if p.ns.Host {
				w.glance(p, 1)
			}
		}
	}
	return w.pulse(true)
}

// heal decides whether the limit is to be raised for a place, and raises it. since is when what gives rise to it happened.
func (w *watcher) heal(p *place, t remediate.Trigger, since time.Duration) error {
	if w.healer == nil {
		return nil
	}
	limit, ok := w.readLimit()
	at := now().boot
	if !ok || limit == 0 || !w.measure(p, at) {
		return nil
	}
	if err := w.yield(limit); err != nil {
		return err
	}
	if t == remediate.ByRefusal && p.count < limit || t <= p.trigger && at < p.againAt {
		return nil
	}
	s := w.situation(p, t, limit)
	blind, ok := w.examine(p, t)
	if !ok {
		return nil
	}
	s.Blind, s.Looks, s.Now = blind, p.looks, now().boot
	told, d := w.healer.Consider(w.patient(p), s, since)
	p.trigger, p.againAt = t, at+considerAgain
	if d.Refused == remediate.Unclear {
		p.againAt = at + min(lookAgain<<min(p.unclear, 8), lookAgainMost)
		p.unclear++
	} else {
		p.unclear = 0
	}
	if d.Refused == remediate.Flood {
		p.floodAt = at
	}
	if applied(told) {
		p.trigger, p.againAt = remediate.Nothing, 0
	}
	return w.acted(told)
}

// healChains decides whether there are to be more buckets, because chains are too long.
func (w *watcher) healChains(p *place, since time.Duration) error {
	if w.healer == nil {
		return nil
	}
	limit, ok := w.readLimit()
	if at := now().boot; !ok || at < p.chainsAt {
		return nil
	} else {
		p.chainsAt = at + considerAgain
	}
	s := w.situation(p, remediate.ByRefusal, limit)
	s.Cause = conntrack.ChainTooLong
	return w.acted(w.healer.ConsiderBuckets(w.patient(p), s, since))
}

// convalesce is what can wait for a tick: what no event told of, and the buckets that belong to a limit which was raised in a
// hurry.
func (w *watcher) convalesce() error {
	if w.healer == nil {
		return nil
	}
	w.readMemory(false)
	at := now().boot
	for _, p := range w.places {
		before, evicted := p.refused, p.evicted
		p.refused, p.evicted = p.account.Drops, p.account.Evicted
		if p.refused != before {
			w.refusedAt = at
		}
		var err error
		switch {
		case p.refused[conntrack.TableFull] > before[conntrack.TableFull] && !w.probe.Counts():
			err = w.heal(p, remediate.ByRefusal, at)
		case p.refused[conntrack.ChainTooLong] > before[conntrack.ChainTooLong] && !w.probe.Counts():
			err = w.healChains(p, at)
		case p.evicted > evicted:
			p.evictedAt = at
			err = w.heal(p, remediate.ByEviction, at)
		}
		if err != nil {
			return err
		}
	}
	if w.engine.Open() == 0 {
		w.healer.Calm()
	}
	if !w.healer.OwesBuckets(w.limits.Max, w.limits.Buckets) {
		return nil
	}
	s := w.situation(nil, remediate.Nothing, w.limits.Max)
	return w.acted(w.healer.ConsiderBuckets(remediate.Place{}, s, at))
}

// yield takes notice if the limit is not what it was raised to any more.
func (w *watcher) yield(limit uint64) error {
	if limit != w.limits.Max {
		if err := w.checkLimits(); err != nil {
			return err
		}
	}
	if !w.healer.Lowered(limit) {
		return nil
	}
	// It was taken back before anybody had seen it raised.
	l := record.Limit{Key: conntrack.KeyMax, From: w.healer.Raised(), To: limit, Writer: w.writers.of(conntrack.KeyMax, limit)}
	return w.noticed(l)
}

// acted records what was done or not, and sees to what follows from it.
func (w *watcher) acted(told []*record.Action) error {
	from, to := w.limits, w.limits
	for _, a := range told {
		if err := w.record(a); err != nil {
			return err
		}
		if a.Result != record.ResultApplied {
			continue
		}
		switch a.What {
		case record.ActionRaiseMax:
			from.Max, to.Max = a.From, a.To
			w.writers.own(conntrack.KeyMax, a.To)
		case record.ActionRaiseBuckets:
			from.Buckets, to.Buckets = a.From, a.To
			w.writers.own(conntrack.KeyBuckets, a.To)
		}
	}
	if !applied(told) {
		return nil
	}
	w.keeper.keep(from, to)
	return w.checkLimits()
}

// applied reports whether something was done to a limit.
func applied(told []*record.Action) bool {
	return slices.ContainsFunc(told, func(a *record.Action) bool { return a.Result == record.ResultApplied })
}

// situation is what is known, but for looks into the table. p may be nil.
func (w *watcher) situation(p *place, t remediate.Trigger, limit uint64) remediate.Situation {
	at := now().boot
	s := remediate.Situation{
		Usage:   remediate.Usage{Max: limit, Buckets: w.limits.Buckets, Busy: w.busy()},
		Trigger: t, Cause: conntrack.TableFull, Now: at,
		Calm: t != remediate.ByRefusal && (w.refusedAt == 0 || at-w.refusedAt >= remediate.CalmFor),
	}
	for _, other := range w.places {
		count := max(other.count, other.account.Count)
		s.Entries += count
		s.Calm = s.Calm && float64(count) < remediate.Brink*float64(limit) // or packets may be refused before anybody is told
	}
	if p != nil {
		s.Where, s.Count, s.Peak, s.Growth, s.Before = w.where(p), p.count, p.count, p.pace.Growth(), p.pace.Before()
		if p.floodAt != 0 && at-p.floodAt < floodFor {
			s.Flooded = p.floodAt
		}
		s.Evicts = p.evictedAt != 0 && at-p.evictedAt < remediate.CalmFor
	}
	return s
}

// busy is how many tables hold more than a tenth of what the fullest does.
func (w *watcher) busy() (n int) {
	most := uint64(0)
	for _, p := range w.places {
		most = max(most, p.count)
	}
	for _, p := range w.places {
		if p.count > most/10 {
			n++
		}
	}
	return max(n, 1)
}

func (w *watcher) where(p *place) string {
	switch {
	case p.ns.Host:
		return "the host's table"
	case p.ns.Name != "":
		return fmt.Sprintf("the table of %q", p.ns.Name)
	}
	return fmt.Sprintf("the table of net:[%d]", p.ns.Inode)
}

func (w *watcher) patient(p *place) remediate.Place {
	return remediate.Place{NS: p.ns.Inode, Cookie: p.ns.Cookie, Name: p.ns.Name}
}

// treat has done what a refused packet calls for, before anything else is done about it. Whether it was refused for want of
// room, the count tells.
func (w *watcher) treat(p *place, e loader.Event) error {
	w.refusedAt = e.Boot
	switch {
	case e.Cause == conntrack.TableFull, e.Alone:
		return w.heal(p, remediate.ByRefusal, e.Boot)
	case e.Cause == conntrack.ChainTooLong:
		return w.healChains(p, e.Boot)
	}
	return nil
}

// noticed tells the healer of a limit that changed.
func (w *watcher) noticed(l record.Limit) error {
	if w.healer == nil {
		return nil
	}
	for _, a := range w.healer.Changed(l, time.Now()) {
		if err := w.record(a); err != nil {
			return err
		}
	}
	return nil
}

// kept is what became of limits that were to survive a reboot.
func (w *watcher) kept() <-chan *record.Action {
	if w.keeper == nil {
		return nil
	}
	return w.keeper.done
}

func (w *watcher) persisted(a *record.Action) error {
	w.askBoot()
	return w.record(a)
}
