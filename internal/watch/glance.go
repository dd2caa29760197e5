package watch

import (
	"context"
	"errors"
	"time"

	"github.com/ctwatch/ctwatch/internal/census"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

const (
	// glanceFill is from which fill on somebody looks into a table now and then, to know what comes later.
	glanceFill = 0.25
	// glanceEvery is how often at most where the table grows, and glances how many of them a second in all tables together.
	glanceEvery = time.Second
	glances     = 10
	// looks is how many looks a second there are in all tables together while nothing is lost: each takes a millisecond or three.
	looks = 60
	// networks is how many rows of the ranking by networks are looked at for one that stands out.
	networks = 32
)

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
		f, err := census.Take(context.Background(), census.Options{Root: w.o.Root, Limit: entries, Rows: networks, Load: true})
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

// examine looks into a table before a decision: the hastier, the smaller. ok: one that is worth a decision, or why there is none.
func (w *watcher) examine(p *place, t remediate.Trigger) (blind string, ok bool) {
	at := now().boot
	hurried := t == remediate.ByRefusal
	switch {
	case hurried && p.looks.Stand(p.count, at):
		return "", true
	case !hurried && !w.looks.take(time.Now()):
		return "", false
	}
	entries := uint64(remediate.LookEntries)
	switch {
	case hurried && (p.floodAt == 0 || at-p.floodAt >= floodFor):
		entries = remediate.GlanceEntries
	case t == remediate.ByBrink, t == remediate.ByEviction, hurried:
		entries = remediate.CloseEntries // few that came lately have to be told among many
	}
	return w.glance(p, entries), true
}

// floodFor is how long a table that a flood filled is looked into more closely.
const floodFor = time.Minute
