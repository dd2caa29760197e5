// Package ledger joins what the program counted with what the kernel counted, and tells what neither explains. It is
// pure: no clock, no I/O.
package ledger

import "github.com/ctwatch/ctwatch/internal/conntrack"

// nearlyFull is where a table that was full a moment ago still is: after a failed early_drop the kernel's own collector
// sheds entries down to 95 % (nf_conntrack_max95 in gc_worker).
const nearlyFull = 0.95

// Full reports whether packets were being refused for want of room when a table held count of max entries.
func Full(count, max uint64) bool { return max != 0 && float64(count) >= nearlyFull*float64(max) }

// Account is what is known of one network namespace since counting began. The zero Account is of a namespace born since.
type Account struct {
	Drops        conntrack.Drops // refused packets, by cause
	Evicted      uint64          // the kernel's early_drop
	Unattributed uint64          // refused by the kernel's counters, and not seen by the program

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
}

// Baseline says that the namespace is older than the counting: what its counters hold now is history.
func (a *Account) Baseline(s *conntrack.Snapshot) {
	a.meter.Baseline(s)
	a.begin = append(a.begin[:0], s.CPU...)
	a.look(s)
	a.before, a.after = true, false
}

// Counters is for probes that count nothing: it takes the refusals from the kernel's counters alone.
func (a *Account) Counters(s *conntrack.Snapshot) {
	a.look(s)
	refused := conntrack.Refused(a.meter.Add(s), s.Known)
	a.Evicted = a.meter.Totals[conntrack.CounterEarlyDrop]
	a.add(refused.Drops, refused.DropAlone)
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

// Missing is how many refusals the last look showed that the program had not counted. What is still missing at the next
// look is Unattributed.
func (a *Account) Missing() uint64 { return a.residue }

// NeedsWitness reports whether a look from now could tell why packets were refused that the account does not know yet.
func (a *Account) NeedsWitness(refused conntrack.Refusal) bool {
	return a.seen.DropAlone != refused.DropAlone && a.before && !a.full
}

// Behind reports whether the program has counted something that the account does not know yet.
func (a *Account) Behind(refused conntrack.Refusal) bool { return a.seen != refused }

// Open reports whether Program has something to compare: the kernel refused something since, or something was missing.
func (a *Account) Open() bool { return a.moved || a.residue > 0 || a.Unattributed > a.settled }

// Restart tells the account that the kernel's counters and the program's count begin at zero, as they do when the module
// was loaded again. What was counted stays.
func (a *Account) Restart() {
	a.meter.Restart()
	a.seen = conntrack.Refusal{}
	a.begin, a.snapshot, a.residue = nil, nil, 0
	a.settled = a.Unattributed
}

// NoProgram is for a namespace that the program has no table of, for want of room: all that the kernel refused there
// since counting began is unattributed.
func (a *Account) NoProgram() { a.Unattributed = a.reconcile(a.begin, nil) }

// add adds drops, and those of the drop counter alone under the cause that the looks since the last time speak for.
func (a *Account) add(drops conntrack.Drops, alone uint64) {
	a.Drops = a.Drops.Add(drops)
	if alone > 0 {
		a.Drops[a.AloneCause()] += alone
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
