// Package ledger joins what the program counted with what the kernel counted, and tells what neither explains. It is
// pure: no clock, no I/O.
package ledger

import "github.com/ctwatch/ctwatch/internal/conntrack"

// patience is for how many looks what a hook saw is remembered without a count to go with it.
const patience = 20

// Full reports whether packets were being refused for want of room when a table held count of max entries.
func Full(count, max uint64) bool {
	return max != 0 && float64(count) >= conntrack.NearlyFull*float64(max)
}

// Account is what is known of one network namespace since counting began. The zero Account is of a namespace born since.
type Account struct {
	Drops        conntrack.Drops // refused packets, by cause
	Evicted      uint64          // the kernel's early_drop
	Unattributed uint64          // refused by the kernel's counters, and not seen by the program
	Unhooked     uint64          // of table_full, those that no hook saw: concluded from the table's fill

	Read       bool // Count and Max are known
	Count, Max uint64

	meter    conntrack.Meter
	begin    []conntrack.Counters // when counting began, by CPU; for CPUs that the program did not see then
	snapshot []conntrack.Counters // the last look, by CPU
	known    conntrack.CounterSet
	before   bool // there is a fresh look from before the drops that are not booked yet
	after    bool // and one from after them
	full     bool // one of those looks found the table full
	residue  uint64
	settled  uint64            // Unattributed of times before a Restart
	moved    bool              // the kernel refused something between the last two looks
	seen     conntrack.Refusal // what Program was told last

	half []half // by CPU, what a look saw of a packet in the middle of being refused

	hooked  conntrack.Hooked // what Hooks was told last
	pending conntrack.Hooked // what the hooks saw and no count has shown yet
	quiet   int              // how many Hooks ago they last saw something
	sure    bool             // what they missed is known
	doubt   uint64           // refusals that they may not have seen, of those not counted yet
	begun   bool             // a count was taken since they were attached
	unread  conntrack.Hooked // what Unread counted: a look that can be had after all shows it again
}

// half is what may be the first half of a packet's two counters.
type half struct{ drop, chain uint32 }

// Baseline says that the namespace is older than the counting: what its counters hold now is history.
func (a *Account) Baseline(s *conntrack.Snapshot) {
	a.meter.Baseline(s)
	a.begin = append(a.begin[:0], s.CPU...)
	a.look(s)
	a.before, a.after = true, false
}

// Counters is for probes that do not count every refusal: it takes them from the kernel's counters alone. Where there are
// hooks, the look must be older than what Hooks was told.
func (a *Account) Counters(s *conntrack.Snapshot) {
	a.look(s)
	refused := conntrack.Refused(a.whole(a.meter.Add(s)), s.Known)
	a.Evicted = a.meter.Totals[conntrack.CounterEarlyDrop]
	refused.DropAlone -= min(refused.DropAlone, a.unread.Full)
	refused.Drops[conntrack.Clash] -= min(refused.Drops[conntrack.Clash], a.unread.Clashes)
	a.unread = conntrack.Hooked{}
	a.add(refused.Drops, refused.DropAlone)
}

// whole keeps a look that fell into the middle of a refusal from taking it for two. A clash moves drop, then insert_failed;
// a chain that is too long moves chaintoolong, then insert_failed; and the kernel reads them in the other order. So where
// such packets come on a CPU, one first half that is alone is kept for the next look, which shows whether its second was on
// its way. An entry that ctnetlink fails to insert moves chaintoolong alone: that is kept once, and comes to nothing.
func (a *Account) whole(deltas []conntrack.Counters) []conntrack.Counters {
	for len(a.half) < len(deltas) {
		a.half = append(a.half, half{})
	}
	for cpu := range deltas {
		d, kept := &deltas[cpu], a.half[cpu]
		a.half[cpu] = half{}
		drop, chain, failed := &d[conntrack.CounterDrop], &d[conntrack.CounterChainTooLong], d[conntrack.CounterInsertFailed]
		refusing := *chain > 0 && failed > 0 || *chain == 1
		*chain += kept.chain
		*drop += kept.drop
		clashes := failed > *chain && *drop > 0
		if clashes && *drop > failed {
			*drop--
			a.half[cpu].drop = 1
		}
		if refusing && *chain > failed {
			*chain--
			a.half[cpu].chain = 1
		}
	}
	return deltas
}

// Hooks takes what hooks saw until now, for Program and Counters to tell causes by. missed is how many calls, here or
// elsewhere, they were kept from seeing since the last Hooks; sure: that is known to be all.
func (a *Account) Hooks(h conntrack.Hooked, missed uint64, sure bool) {
	recent := conntrack.Hooked{Full: h.Full - a.hooked.Full, Clashes: h.Clashes - a.hooked.Clashes}
	a.pending.Full += recent.Full
	a.pending.Clashes += recent.Clashes
	a.hooked, a.sure = h, sure
	a.doubt += missed
	a.quiet++
	if recent != (conntrack.Hooked{}) {
		a.quiet = 0
	}
}

// Unread is for hooks alone, and a namespace whose counters cannot be read, or not any more: what the hooks saw is all there
// is to count.
func (a *Account) Unread() {
	a.Drops[conntrack.TableFull] += a.pending.Full
	a.Drops[conntrack.Clash] += a.pending.Clashes
	a.unread.Full += a.pending.Full
	a.unread.Clashes += a.pending.Clashes
	a.pending = conntrack.Hooked{}
}

// Forgotten says that the hooks begin at zero for the namespace, should there be anything more of it.
func (a *Account) Forgotten() {
	a.hooked, a.pending = conntrack.Hooked{}, conntrack.Hooked{}
}

// Kernel is for probes that count by themselves: it notes what the kernel says, for Program to compare with.
func (a *Account) Kernel(s *conntrack.Snapshot) {
	a.look(s)
	a.moved = conntrack.Refused(a.meter.Add(s), s.Known).Total() > 0
	a.Evicted = a.meter.Totals[conntrack.CounterEarlyDrop]
}

// Witness keeps a look as evidence for what Program and Counters will say next, and compares nothing with it.
func (a *Account) Witness(s *conntrack.Snapshot) {
	a.Read, a.Count, a.Max = true, s.Count, s.Max
	a.after = true
	a.full = a.full || Full(s.Count, s.Max)
}

// Totals is what the kernel's own counters add up to since counting began, and which of them are known.
func (a *Account) Totals() (conntrack.Totals, conntrack.CounterSet) {
	return a.meter.Totals, a.meter.Known
}

// Stale says that the last look is long ago: that there was room then tells nothing of what was refused since.
func (a *Account) Stale() { a.before = false }

func (a *Account) look(s *conntrack.Snapshot) {
	a.Witness(s)
	a.snapshot = append(a.snapshot[:0], s.CPU...)
	a.known = s.Known
}

// Program takes what the program counted until now, and by CPU the counters that this accounts for. It must have been
// read after the last Kernel, so that what is still missing was not seen rather than not yet counted. notReady are the
// CPUs that the program does not count on.
func (a *Account) Program(refused conntrack.Refusal, counted []conntrack.Counters, notReady []bool) {
	fresh := refused.Drops
	for c := range fresh {
		fresh[c] -= a.seen.Drops[c]
	}
	a.add(fresh, refused.DropAlone-a.seen.DropAlone)
	a.seen = refused
	a.Unattributed = a.reconcile(counted, notReady)
}

// Missing is how many refusals the last look showed that are not counted. What the program still has not counted at the
// next look is Unattributed.
func (a *Account) Missing() uint64 {
	missing := a.residue
	for _, h := range a.half {
		missing += uint64(h.drop + h.chain)
	}
	return missing
}

// NeedsWitness reports whether a look from now could tell why packets were refused that the account does not know yet.
func (a *Account) NeedsWitness(refused conntrack.Refusal) bool {
	return refused.DropAlone-a.seen.DropAlone > a.pending.Full && a.before && !a.full
}

// Behind reports whether the program or the hooks have counted something that the account does not know yet.
func (a *Account) Behind(refused conntrack.Refusal, hooked conntrack.Hooked) bool {
	return a.seen != refused || a.hooked != hooked
}

// Open reports whether Program has something to compare: the kernel refused something since, or something was missing.
func (a *Account) Open() bool { return a.moved || a.residue > 0 || a.Unattributed > a.settled }

// Restart tells the account that the kernel's counters and the program's count begin at zero, as they do when the module
// was loaded again. What was counted stays.
func (a *Account) Restart() {
	a.meter.Restart()
	a.seen = conntrack.Refusal{}
	a.Forgotten()
	a.unread, a.sure, a.begun, a.doubt = conntrack.Hooked{}, false, false, 0
	a.begin, a.snapshot, a.half, a.residue = nil, nil, nil, 0
	a.settled = a.Unattributed
}

// NoProgram is for a namespace that the program has no table of, for want of room: all that the kernel refused there
// since counting began is unattributed.
func (a *Account) NoProgram() { a.Unattributed = a.reconcile(a.begin, nil) }

// add adds drops. Those of the drop counter alone are table_full if a hook saw it; the others have the cause that the looks
// since the last time speak for.
func (a *Account) add(drops conntrack.Drops, alone uint64) {
	a.Drops = a.Drops.Add(drops)
	certain := min(alone, a.pending.Full)
	a.Drops[conntrack.TableFull] += certain
	if !a.begun {
		a.doubt += alone // what was refused before the hooks were attached they did not see
	}
	a.begun = true
	rest := alone - certain
	if certain > 0 && a.sure && rest > a.doubt {
		// The hooks are at work, and did not miss these: it was not for want of room.
		a.Drops[conntrack.AllocFailed] += rest - a.doubt
		rest = a.doubt
	}
	if rest > 0 {
		cause := a.AloneCause()
		a.Drops[cause] += rest
		if cause == conntrack.TableFull {
			a.Unhooked += rest
		}
	}
	a.doubt -= min(a.doubt, rest)
	a.pending.Full -= certain
	a.pending.Clashes -= min(a.pending.Clashes, drops[conntrack.Clash])
	// A refusal shows in the count some time after its hook saw it, for a task may be made to wait in between. What does
	// not show for long was no packet, but an insert by ctnetlink.
	if a.quiet > patience {
		a.pending = conntrack.Hooked{}
	}
	// The last look stays evidence: of how things stood when the next drops began.
	a.before, a.after = a.Read, false
	a.full = a.Read && Full(a.Count, a.Max)
}

// AloneCause is the cause of a packet for which the drop counter moved alone: alloc_failed if looks from shortly before and
// after found room in the table; else table_full, which is what it nearly always is.
func (a *Account) AloneCause() conntrack.Cause {
	if a.before && a.after && !a.full {
		return conntrack.AllocFailed
	}
	return conntrack.TableFull
}

// reconcile returns what the kernel refused beyond what the program accounts for. A packet in the middle of being
// refused shows in the kernel's counters first, so what was missing at one look only does not count.
func (a *Account) reconcile(counted []conntrack.Counters, notReady []bool) uint64 {
	missing := make([]conntrack.Counters, len(a.snapshot))
	for cpu := range a.snapshot {
		var from conntrack.Counters
		switch {
		case cpu < len(notReady) && notReady[cpu]:
			if cpu < len(a.begin) {
				from = a.begin[cpu]
			}
		case cpu < len(counted):
			from = counted[cpu]
		}
		for c := range from {
			if d := a.snapshot[cpu][c] - from[c]; int32(d) > 0 {
				missing[cpu][c] = d
			}
		}
	}
	before := a.residue
	a.moved = false
	a.residue = conntrack.Refused(missing, a.known).Total()
	return a.settled + min(before, a.residue)
}
