package watch

import (
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/ledger"
	"github.com/ctwatch/ctwatch/internal/loader"
)

// book enters what the program counted into the accounts. It comes after a look at each table where something happened,
// which tells why.
func (w *watcher) book() error {
	tables, err := w.probe.Tables(time.Now())
	if err != nil {
		return err
	}
	w.unbooked = false
	w.meetTables(tables, false)
	if err := w.lookAtHooks(); err != nil {
		return err
	}
	for i := range tables {
		if err := w.bookTable(w.places[key{tables[i].Cookie, tables[i].Inode}], &tables[i]); err != nil {
			return err
		}
	}
	w.tellBlindHooks()
	for _, p := range w.places {
		if !p.slotted && p.unseen == 0 {
			p.account.NoProgram()
		}
	}
	return nil
}

// bookOne is book for one place.
func (w *watcher) bookOne(p *place) error {
	t, err := w.probe.Table(p.ns.Cookie)
	if err != nil {
		return err
	}
	if (key{t.Cookie, t.Inode}) != (key{p.ns.Cookie, p.ns.Inode}) {
		return w.book() // the program may just have got to know it
	}
	p.slotted = true
	if err := w.lookAtHooks(); err != nil {
		return err
	}
	return w.bookTable(p, &t)
}

// bookTable enters what the program counted in one place.
func (w *watcher) bookTable(p *place, t *loader.Table) error {
	if err := w.hear(p, t); err != nil {
		return err
	}
	if p.account.Missing() == 0 {
		p.idleSettled = p.idle
	}
	p.idle = t.Idle
	if p.account.NeedsWitness(t.Refused) {
		if w.enter(p, &w.witness) {
			p.account.Witness(&w.witness)
		} else {
			p.account.Stale()
		}
	}
	p.account.Program(t.Refused, t.Counted, w.tally.NotReady)
	return nil
}

// totals are drops and evictions of all namespaces together.
type totals struct {
	drops                 conntrack.Drops
	evicted, unattributed uint64
}

func (t *totals) add(a *ledger.Account) {
	t.drops = t.drops.Add(a.Drops)
	t.evicted += a.Evicted
	t.unattributed += a.Unattributed
}

func (w *watcher) totals() totals {
	t := w.past
	for _, p := range w.places {
		t.add(&p.account)
	}
	return t
}
