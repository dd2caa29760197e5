package watch

import (
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

// hooks is how well the probe's hooks see, as of the last look.
type hooks struct {
	missed   uint64 // calls that they were kept from seeing
	hits     uint64
	unhooked uint64 // table_full by conclusion
	told     bool   // said that they see nothing
}

// unhookedMuch is how many refusals a full table has in between two looks, without a hook seeing one, until that is told.
const unhookedMuch = 100

// lookAtHooks learns how much the hooks missed. It comes after they were read.
func (w *watcher) lookAtHooks() (err error) {
	w.hooks.missed, err = w.probe.Missed()
	return err
}

// tellHooks tells the account of a place what the hooks saw there. What a kprobe misses does not always show.
func (w *watcher) tellHooks(p *place, h conntrack.Hooked) {
	p.account.Hooks(h, w.hooks.missed-min(w.hooks.missed, p.missed), w.probe.Name == loader.Fexit)
	p.missed = w.hooks.missed
}

// hear tells the account of a place what the hooks saw there, read after what was counted there.
func (w *watcher) hear(p *place, t *loader.Table) error {
	hooked := t.Hooked
	if p.account.Behind(t.Refused, t.Hooked) {
		// A table's CPUs are copied one by one, and a packet may move between them.
		later, err := w.probe.Table(t.Cookie)
		if err != nil {
			return err
		}
		hooked = later.Hooked
	}
	w.tellHooks(p, hooked)
	return nil
}

// sawAll reports whether the hooks saw every refusal in the namespace that may have been for want of room. On its own CPU
// a refused packet may come before its hook's count does, for it moved there.
func (w *watcher) sawAll(cookie uint64) bool {
	if !w.probe.Hooked() {
		return false
	}
	t, err := w.probe.Table(cookie)
	return err == nil && t.Hooked.Full >= t.Refused.DropAlone && t.Refused.DropAlone > 0
}

// tellBlindHooks says so if the hooks see nothing any more, as when somebody switches kprobes off. Counting goes on.
func (w *watcher) tellBlindHooks() {
	if !w.probe.Hooked() {
		return
	}
	var unhooked uint64
	for _, p := range w.places {
		unhooked += p.account.Unhooked
	}
	blind := w.tally.Hits == w.hooks.hits && unhooked >= w.hooks.unhooked+unhookedMuch
	w.hooks.hits, w.hooks.unhooked = w.tally.Hits, unhooked
	if blind && !w.hooks.told {
		w.hooks.told = true
		w.out.Notice("the hooks see nothing of what is refused (kprobes or function tracing switched off since the start?): " +
			"all is counted, but table_full is concluded from the table's fill")
	}
}

// readHooks tells the account of a place that was read what hooks alone saw there.
func (w *watcher) readHooks(p *place) {
	if !w.probe.Hooked() {
		return
	}
	t, err := w.probe.Table(p.ns.Cookie)
	if err == nil {
		err = w.lookAtHooks()
	}
	if err == nil {
		w.tellHooks(p, t.Hooked)
	}
}

// bookAlone is book for probes that do not count every refusal. Of a namespace that is gone, or cannot be entered, what
// the hooks saw is all there is. last: nobody will look again.
func (w *watcher) bookAlone(last bool) error {
	if !w.probe.Hooked() {
		return nil
	}
	tables, err := w.probe.Tables(time.Now())
	if err != nil {
		return err
	}
	w.unbooked = false
	w.meetTables(tables, false)
	for i := range tables {
		t := &tables[i]
		p := w.places[key{t.Cookie, t.Inode}]
		if !p.locked && (p.unseen == 0 || p.unseen == 1 && !last) {
			continue // its counters are read, or it may be found again
		}
		w.tellHooks(p, t.Hooked)
		p.account.Unread()
		if p.unseen > 1 && time.Since(p.active) >= activeFor {
			if err := w.probe.Forget(t.Cookie); err != nil {
				return err
			}
			p.account.Forgotten()
		}
	}
	return nil
}

// begins handles what a hook saw begin: the place is looked at, and what is found is told, at once.
func (w *watcher) begins(e loader.Event) error {
	p := w.placeOf(e)
	t := remediate.ByEviction
	if e.Begins == loader.Refusing {
		w.refusedAt, t = e.Boot, remediate.ByRefusal // of a full table, or else it has room and nothing is raised
	} else {
		p.evictedAt = e.Boot
	}
	if err := w.heal(p, t, e.Boot); err != nil {
		return err
	}
	return w.atOnce(p)
}

// atOnce looks at a place and writes a sample out of turn.
func (w *watcher) atOnce(p *place) error {
	p.active = time.Now()
	w.read(p)
	if at := time.Now(); !p.untimely.take(at) || !w.untimely.take(at) {
		return nil
	}
	if w.probe.Counts() {
		if err := w.bookOne(p); err != nil {
			return err
		}
	}
	w.limitsAt = time.Time{} // as they are now, for an incident may open
	return w.tell()
}

// How many samples a second that nobody asked for there are: many namespaces may begin at once. In one of them a hook, a
// packet and another cause may; a packet for which no incident opens, because it was booked under another cause, may not go on.
const (
	mostUntimely     = 200
	mostUntimelyEach = 3
)
