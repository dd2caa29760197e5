package watch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ctwatch/ctwatch/internal/census"
	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

const (
	// mostGauges is how many tables are looked at between ticks; each takes a file descriptor. The others have the ticks.
	mostGauges = 4096
	// glanceFill is from which fill on somebody looks into a table now and then, to know what comes later.
	glanceFill = 0.25
	// glanceEvery is how often at most where the table grows, glances how many of them a second in all tables together.
	glanceEvery = time.Second
	glances     = 10
	// considerAgain is how long a decision stands that was no, unless something worse gives rise to the next, and lookAgain how
	// long it takes until more can be told of what came.
	considerAgain = time.Second
	lookAgain     = 20 * time.Millisecond
	// memoryEvery is how often it is read what memory there is.
	memoryEvery = 10 * time.Second
)

// healing is what it takes to raise limits in time. Nothing of it is at work with remediation off.
type healing struct {
	healer  *remediate.Healer // nil: remediation is off
	limit   *conntrack.Gauge  // nf_conntrack_max
	gauges  int
	pulses  *time.Timer
	glances budget
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
	refused   uint64            // as of the last tick
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
	w.glances = budget{perSecond: glances}
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

// readMemory reads what memory there is, if that was not done lately: what hurries does not wait for it. first: with what an
// entry costs, for which conntrack must be loaded.
func (w *watcher) readMemory(first bool) {
	m, at := &w.memory, now().boot
	switch {
	case first:
		m.Memory, m.err = remediate.ReadMemory(w.o.Root)
	case at-m.at > memoryEvery:
		m.Memory, m.err = m.Again(w.o.Root)
	default:
		return
	}
	m.at = at
}

// pulse looks at how full tables are, has limits raised where that is called for, and looks again in time. all: also at
// those for which there is time until the next tick.
func (w *watcher) pulse(all bool) error {
	if w.healer == nil || w.probe == nil {
		return nil
	}
	limit, ok := w.readLimit()
	if !ok {
		return nil
	}
	pause, at := time.Second, now().boot
	for _, p := range w.places {
		if !all && p.dueAt > at {
			pause = min(pause, max(p.dueAt-at, time.Millisecond))
			continue
		}
		if !w.measure(p, at) {
			continue
		}
		growth := p.pace.Growth()
		if t := w.healer.Policy().Trigger(p.count, limit, growth); t != remediate.Nothing {
			if err := w.heal(p, t, at); err != nil {
				return err
			}
		} else if float64(p.count) >= glanceFill*float64(limit) && (growth > 0 || !p.looks.Stand(p.count, at)) {
			w.glanceAhead(p)
		}
		next := p.pace.Pause(limit)
		if wait := p.againAt - at; wait > 0 {
			next = min(next, wait)
		}
		p.dueAt = at + next
		pause = min(pause, next)
	}
	if pause < time.Second {
		w.pulses.Reset(pause)
	}
	return nil
}

// readLimit is nf_conntrack_max at this moment.
func (w *watcher) readLimit() (uint64, bool) {
	if w.limit == nil {
		g, err := conntrack.OpenGauge(w.o.Root, conntrack.KeyMax)
		if err != nil {
			return 0, false
		}
		w.limit = g
	}
	limit, err := w.limit.Read()
	if err != nil {
		_ = w.limit.Close()
		w.limit = nil // the module was unloaded
	}
	return limit, err == nil
}

// measure reads how many entries a place's table holds, and reports whether it could.
func (w *watcher) measure(p *place, at time.Duration) bool {
	if p.gauge == nil {
		if p.ns.Path == "" || p.gone || w.gauges >= mostGauges {
			return false
		}
		err := w.finder.Enter(p.ns, func() (err error) {
			p.gauge, err = conntrack.OpenGauge(w.o.Root, conntrack.KeyCount)
			return err
		})
		if err != nil {
			return false
		}
		w.gauges++
	}
	count, err := p.gauge.Read()
	if err != nil {
		w.closeGauge(p)
		return false
	}
	p.count = count
	p.pace.Add(at, count)
	return true
}

func (w *watcher) closeGauge(p *place) {
	if p.gauge != nil {
		_ = p.gauge.Close()
		p.gauge = nil
		w.gauges--
	}
}

// glanceAhead glances at a table about which it may have to be decided soon.
func (w *watcher) glanceAhead(p *place) {
	if now().boot-p.lookedAt >= glanceEvery && w.glances.take(time.Now()) {
		w.glance(p, remediate.LookEntries)
	}
}

// glance has a look at some entries of a place's table. blind is why nobody could.
func (w *watcher) glance(p *place, entries uint64) (blind string) {
	at := now().boot
	p.lookedAt = at
	if p.ns.Path == "" {
		return "the namespace cannot be entered"
	}
	err := w.finder.Enter(p.ns, func() error {
		f, err := census.Take(context.Background(), census.Options{Root: w.o.Root, Limit: entries, Rows: 3, Load: true})
		if err != nil {
			return err
		}
		if f.Walked == 0 {
			return errors.New("no entry was found in it")
		}
		p.looks = p.looks.Add(remediate.LookOf(f, at))
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return ""
}

// heal decides whether the limit is to be raised for a place, and raises it. since is when what gives rise to it happened.
func (w *watcher) heal(p *place, t remediate.Trigger, since time.Duration) error {
	if w.healer == nil {
		return nil
	}
	limit, ok := w.readLimit()
	at := now().boot
	if !ok || !w.measure(p, at) {
		return nil
	}
	if err := w.yield(limit); err != nil {
		return err
	}
	if t == remediate.ByRefusal && p.count < limit || t <= p.trigger && at < p.againAt {
		return nil
	}
	s := w.situation(p, t, limit)
	switch {
	case t != remediate.ByRefusal:
		s.Blind = w.glance(p, remediate.LookEntries)
	case !p.looks.Stand(p.count, at):
		s.Blind = w.glance(p, remediate.GlanceEntries)
	}
	s.Looks, s.Now = p.looks, now().boot
	told, d := w.healer.Consider(w.patient(p), s, since)
	p.trigger, p.againAt = t, at+considerAgain
	switch d.Refused {
	case "":
		p.trigger, p.againAt = remediate.Nothing, 0
	case remediate.Unclear:
		p.againAt = at + lookAgain
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

// convalesce is what can wait for a tick: the buckets that belong to a limit which was raised in a hurry, evictions that no
// hook told of, and what operators said.
func (w *watcher) convalesce() error {
	if w.healer == nil {
		return nil
	}
	w.readMemory(false)
	at := now().boot
	for _, p := range w.places {
		if n := p.account.Drops.Total(); n > p.refused {
			p.refused, w.refusedAt = n, at
		}
		evicts := p.account.Evicted > p.evicted
		p.evicted = p.account.Evicted
		if evicts {
			p.evictedAt = at
			if err := w.heal(p, remediate.ByEviction, at); err != nil {
				return err
			}
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
	applied := false
	for _, a := range told {
		applied = applied || a.Result == record.ResultApplied
		if err := w.record(a); err != nil {
			return err
		}
	}
	if !applied {
		return nil
	}
	before := w.limits
	if err := w.checkLimits(); err != nil {
		return err
	}
	w.keeper.keep(before, w.limits)
	return nil
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
		s.Entries += max(other.count, other.account.Count)
	}
	if p != nil {
		s.Where, s.Count, s.Peak, s.Growth, s.Before = w.where(p), p.count, p.count, p.pace.Growth(), p.pace.Before()
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
