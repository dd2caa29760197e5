package watch

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/ledger"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/netns"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

// key is a namespace's identity. Inodes are used again at once, cookies never.
type key struct{ cookie, inode uint64 }

// place is one network namespace that is watched.
type place struct {
	ns       netns.Namespace // Path "": nobody can enter it
	account  ledger.Account
	snapshot conntrack.Snapshot
	history  bool // older than the counting: the first look is where it begins
	found    bool // by a scan
	unseen   int  // scans running that did not find it
	gone     bool // not on the kernel's list any more
	slotted  bool // the program has a table of it
	locked   bool // it is there, and cannot be entered
	nth      int  // of all places there were

	missed      uint64 // by the hooks, of all places, when theirs were last read here
	idle        uint64 // looks of the program that found nothing ...
	idleSettled uint64 // ... and how many of them there had been when nothing was missing yet

	untimely budget        // samples out of turn because of this place
	active   time.Time     // when something last moved
	readAt   moment        // before the last look
	told     *record.NetNS // as it was last listed

	health
}

// restart says that conntrack was loaded again: nothing is history, and what is counted begins at zero.
func (p *place) restart() {
	p.account.Restart()
	p.history, p.missed, p.idle, p.idleSettled = false, 0, 0, 0
	p.pace, p.looks, p.againAt, p.trigger, p.refused = remediate.Pace{}, nil, 0, remediate.Nothing, p.account.Drops
}

const (
	walkEvery = 3 * time.Second
	activeFor = 10 * time.Second // a place where something moved is read each tick for that long
)

// rhythm is how often is looked for what no event tells.
type rhythm struct {
	scan time.Duration // namespaces that live by a process alone show in no change of mounts
	turn uint64        // where nothing moves, the table is read once in so many ticks
}

// rhythm depends on whether there is a program, which tells of new namespaces and of refused packets by itself.
func (w *watcher) rhythm() rhythm {
	if w.probe.Counts() {
		return rhythm{scan: 30 * time.Second, turn: 60}
	}
	return rhythm{scan: 5 * time.Second, turn: 10}
}

// discover learns of namespaces that came and went. The program knows of all, also those that nobody can enter; to name
// them and to enter them takes a scan.
func (w *watcher) discover() error {
	at := time.Now()
	// Where the kernel tells no cookies, only a walk tells a namespace from one that got its inode.
	if at.Sub(w.walked) >= walkEvery || w.cookieless && w.finder.Changed() {
		w.walked = at
		if err := w.probe.Walk(); err != nil {
			return err
		}
		entered, err := w.moved()
		if err != nil {
			return err
		}
		if entered || w.cookieless {
			if err := w.meet(false); err != nil {
				return err
			}
		}
	}
	if !w.finder.Changed() && at.Sub(w.scanned) < w.rhythm().scan {
		return nil
	}
	w.scan(false)
	return w.meet(false) // who is gone
}

// scan finds namespaces by their files and processes. history: those found are older than the counting. If that fails,
// counting goes on: the program does not need names.
func (w *watcher) scan(history bool) {
	w.scanned = time.Now()
	look, err := w.finder.Scan()
	if err != nil {
		if !w.lame {
			w.lame = true
			w.out.Notice(fmt.Sprintf("network namespaces cannot be found: %v", err))
		}
		return
	}
	w.lame = false
	for _, p := range w.places {
		p.unseen++
	}
	for _, ns := range look.Namespaces {
		w.cookieless = w.cookieless || ns.Host && ns.Cookie == 0
		k := w.keyOf(ns)
		if p := w.places[k]; p != nil && k.cookie == 0 && p.missing() {
			w.retire(k) // what has its inode now is another one
		}
		p := w.place(k, history)
		cookie := p.ns.Cookie
		p.ns, p.found, p.unseen = ns, true, 0
		p.ns.Cookie = max(ns.Cookie, cookie)
	}
	if look.Denied > 0 && !w.denied && !w.probe.Counts() {
		w.denied = true
		w.out.Notice(Denied(look.Denied))
	}
}

// keyOf is the identity of a namespace that was found. Where we may not enter it, its cookie is unknown; the program
// knows it.
func (w *watcher) keyOf(ns netns.Namespace) key {
	found := key{ns.Cookie, ns.Inode}
	if ns.Cookie == 0 {
		latest := 0
		for k, p := range w.places {
			if k.inode == ns.Inode && k.cookie != 0 && !p.missing() && p.nth > latest {
				found, latest = k, p.nth
			}
		}
	}
	return found
}

// Denied says that the namespaces of some processes cannot be seen.
func Denied(processes int) string {
	return fmt.Sprintf("%d processes do not show us their network namespace (they hold capabilities that we lack): "+
		"one that no other process is in is not read", processes)
}

func (w *watcher) place(k key, history bool) *place {
	p := w.places[k]
	if p == nil && w.adopt(k) {
		return w.places[k]
	}
	if p == nil {
		w.nth++
		p = &place{ns: netns.Namespace{Inode: k.inode, Cookie: k.cookie}, history: history, unseen: 1, nth: w.nth, untimely: budget{perSecond: mostUntimelyEach}}
		w.places[k] = p
	}
	return p
}

// meet learns which namespaces the program knows, and where something happened. history: they are older than the
// counting.
func (w *watcher) meet(history bool) error {
	tables, err := w.probe.Tables(time.Now())
	if err != nil {
		return err
	}
	w.meetTables(tables, history)
	return nil
}

func (w *watcher) meetTables(tables []loader.Table, history bool) {
	for _, p := range w.places {
		p.slotted = false
	}
	for i := range tables {
		t := &tables[i]
		k := key{t.Cookie, t.Inode}
		known := w.places[k] != nil
		p := w.place(k, history)
		if !known && p.ns.Path == "" && !history {
			w.scanned = time.Time{} // someone new: look for its name
		}
		p.slotted, p.gone = true, t.Gone
		if p.account.Behind(t.Refused, t.Hooked) {
			p.active = time.Now()
		}
	}
}

// adopt gives a namespace that was found before the program knew it, where the kernel does not tell its cookie, the one
// that the program knows it by.
func (w *watcher) adopt(k key) bool {
	found := key{inode: k.inode}
	p := w.places[found]
	if p == nil || p.unseen > 0 {
		return false
	}
	p.ns.Cookie = k.cookie
	w.places[k] = p
	delete(w.places, found)
	return true
}

// due says which places are read in this tick: the host, those where something moves or may soon have to, and the rest in turn.
func (w *watcher) due(p *place) bool {
	filling := p.account.Read && p.account.Max > 0 && p.account.Count >= p.account.Max/4*3
	return p.ns.Host || filling || time.Since(p.active) < activeFor || p.readAt == (moment{}) ||
		(p.ns.Inode+uint64(w.ticks))%w.rhythm().turn == 0
}

// read looks at the place's table, if it can be entered.
func (w *watcher) read(p *place) {
	if time.Since(p.readAt.wall) > 2*lookEvery {
		p.account.Stale()
	}
	p.readAt = now()
	s := &p.snapshot
	if !w.enter(p, s) {
		return
	}
	count, evicted, drops := p.account.Count, p.account.Evicted, p.account.Drops
	switch {
	case p.history:
		p.history = false
		p.account.Baseline(s)
	case w.probe.Counts():
		p.account.Kernel(s)
	default:
		w.readHooks(p)
		p.account.Counters(s)
	}
	if p.account.Count != count || p.account.Evicted != evicted || p.account.Drops != drops {
		p.active = p.readAt.wall
	}
}

// enter reads the place's table into s, and reports whether it could.
func (w *watcher) enter(p *place, s *conntrack.Snapshot) bool {
	if p.ns.Path == "" || p.gone || p.unseen > 0 || w.leaving {
		return false
	}
	err := w.finder.Enter(p.ns, func() error { return w.reader.Read(s) })
	switch {
	case err == nil && (s.Cookie == 0 || p.ns.Cookie == 0 || s.Cookie == p.ns.Cookie):
		p.locked = false
		return true
	case err == nil, errors.Is(err, netns.ErrGone):
		p.ns.Path = "" // gone, or the process by which we entered is: the next scan tells
		w.scanned = time.Time{}
	default:
		p.locked = true
		p.account.Read = false
		if !errors.Is(err, conntrack.ErrNotLoaded) {
			w.denyOnce(p, err)
		}
	}
	return false
}

func (w *watcher) denyOnce(p *place, err error) {
	if !w.unread {
		w.unread = true
		w.out.Notice(fmt.Sprintf("network namespace %d (%q), and maybe others, cannot be read: %v", p.ns.Inode, p.ns.Name, err))
	}
}

// finished reports whether the place is no more. The program keeps a table for some time after: until then a last
// packet may still be refused there. One scan may miss a namespace whose only process is just being replaced.
func (p *place) finished() bool { return p.unseen > 1 && !p.slotted }

// missing reports, in the middle of a scan, whether the place is not there any more, so that its inode may be another's.
func (p *place) missing() bool { return p.gone || p.found && p.unseen > 1 }

// retire forgets a place, but for what was counted there. If nobody was told that it is gone, the next sample tells.
func (w *watcher) retire(k key) {
	p := w.places[k]
	w.past.add(&p.account)
	if p.told != nil && !p.told.Gone {
		r := p.record()
		r.Gone = true
		w.farewells = append(w.farewells, r)
	}
	w.closeGauge(p)
	if w.healer != nil {
		w.healer.Forget(w.patient(p))
	}
	delete(w.places, k)
}

// all lists the places, the host first.
func (w *watcher) all() []*place {
	var all []*place
	for _, p := range w.places {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *place) int {
		if a.ns.Host != b.ns.Host {
			if a.ns.Host {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.ns.Inode, b.ns.Inode), cmp.Compare(a.ns.Cookie, b.ns.Cookie))
	})
	return all
}
