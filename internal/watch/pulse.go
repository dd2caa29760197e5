package watch

import (
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

const (
	// mostGauges is how many tables are looked at between ticks; each takes a file descriptor. The others have the ticks.
	mostGauges = 4096
	// memoryEvery is how often it is read what memory there is.
	memoryEvery = 10 * time.Second
)

// pulse looks at how full tables are, has limits raised where that is called for, and looks again in time. all: also at
// those for which there is time until the next tick.
func (w *watcher) pulse(all bool) error {
	if w.healer == nil || w.probe == nil {
		return nil
	}
	limit, ok := w.readLimit()
	if !ok || limit == 0 {
		return nil // there is no limit to come near to
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
