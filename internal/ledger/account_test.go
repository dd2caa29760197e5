package ledger

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// known is what kernels since 5.15 have.
const known = conntrack.CounterSet(1<<conntrack.NumCounters - 1)

// snapshot is a look at a table of count entries, max 1000, with one CPU's counters.
func snapshot(count uint64, drop, insertFailed, chain uint32) *conntrack.Snapshot {
	var c conntrack.Counters
	c[conntrack.CounterDrop], c[conntrack.CounterInsertFailed], c[conntrack.CounterChainTooLong] = drop, insertFailed, chain
	return &conntrack.Snapshot{Count: count, Max: 1000, Known: known, CPU: []conntrack.Counters{c}}
}

func alone(n uint64) conntrack.Refusal { return conntrack.Refusal{DropAlone: n} }

func drops(c conntrack.Cause, n uint64) (d conntrack.Drops) {
	d[c] = n
	return d
}

func TestDropAloneIsTableFullOrAllocFailed(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after *conntrack.Snapshot
		want          conntrack.Cause
	}{
		{"full before and after", snapshot(1000, 0, 0, 0), snapshot(1000, 5, 0, 0), conntrack.TableFull},
		{"full before only: the limit was raised or the table flushed", snapshot(1000, 0, 0, 0), snapshot(10, 5, 0, 0), conntrack.TableFull},
		{"full after only", snapshot(10, 0, 0, 0), snapshot(1000, 5, 0, 0), conntrack.TableFull},
		{"the collector has shed some already", snapshot(10, 0, 0, 0), snapshot(951, 5, 0, 0), conntrack.TableFull},
		{"room before and after", snapshot(10, 0, 0, 0), snapshot(900, 5, 0, 0), conntrack.AllocFailed},
		{"no look could be had", nil, nil, conntrack.TableFull},
	} {
		t.Run(c.name, func(t *testing.T) {
			var byProgram, byCounters Account
			if c.before != nil {
				byProgram.Baseline(c.before)
				byCounters.Baseline(c.before)
				byProgram.Kernel(c.after)
				byCounters.Counters(c.after)
				if diff := cmp.Diff(drops(c.want, 5), byCounters.Drops); diff != "" {
					t.Errorf("by counters (-want +got):\n%s", diff)
				}
			}
			byProgram.Program(alone(5), nil, nil)
			if diff := cmp.Diff(drops(c.want, 5), byProgram.Drops); diff != "" {
				t.Errorf("by program (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEvidenceIsOfItsTime: a table that was full once does not make later drops table_full.
func TestEvidenceIsOfItsTime(t *testing.T) {
	var a Account
	a.Baseline(snapshot(1000, 0, 0, 0))
	a.Kernel(snapshot(1000, 2, 0, 0))
	a.Program(alone(2), nil, nil)
	a.Kernel(snapshot(10, 2, 0, 0))
	a.Program(alone(2), nil, nil)
	a.Kernel(snapshot(10, 5, 0, 0))
	a.Program(alone(5), nil, nil)
	want := drops(conntrack.TableFull, 2).Add(drops(conntrack.AllocFailed, 3))
	if diff := cmp.Diff(want, a.Drops); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestWitness: a look taken after the drops speaks for them.
func TestWitness(t *testing.T) {
	var a Account
	a.Baseline(snapshot(10, 0, 0, 0))
	if a.NeedsWitness(alone(0)) || !a.NeedsWitness(alone(3)) {
		t.Error("a witness is needed when there are drops, and then only")
	}
	a.Witness(snapshot(1000, 3, 0, 0))
	if a.NeedsWitness(alone(3)) {
		t.Error("one witness is enough")
	}
	a.Program(alone(3), nil, nil)
	if diff := cmp.Diff(drops(conntrack.TableFull, 3), a.Drops); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestUnattributed: what the kernel counted and the program did not is told once it was missing at two looks.
func TestUnattributed(t *testing.T) {
	counted := func(drop uint32) []conntrack.Counters {
		return snapshot(0, drop, 0, 0).CPU
	}
	var a Account
	a.Baseline(snapshot(1000, 100, 0, 0))
	a.Kernel(snapshot(1000, 107, 0, 0))
	a.Program(alone(5), counted(105), nil)
	if a.Unattributed != 0 || a.Missing() != 2 || !a.Open() {
		t.Errorf("at the first look: unattributed %d, missing %d", a.Unattributed, a.Missing())
	}
	a.Kernel(snapshot(1000, 107, 0, 0))
	a.Program(alone(5), counted(105), nil)
	if a.Unattributed != 2 {
		t.Errorf("at the second look: unattributed %d, want 2", a.Unattributed)
	}
	a.Kernel(snapshot(1000, 108, 0, 0))
	a.Program(alone(8), counted(108), nil) // a later event found them
	if a.Unattributed != 0 || a.Open() || a.Drops.Total() != 8 {
		t.Errorf("at the third look: unattributed %d, %d drops", a.Unattributed, a.Drops.Total())
	}
	a.Program(alone(9), counted(109), nil) // the program is ahead of the last look
	if a.Unattributed != 0 || a.Missing() != 0 {
		t.Errorf("program ahead: unattributed %d", a.Unattributed)
	}
}

// TestUnattributedWithoutProgram: where the program has no table of a namespace, or does not count on a CPU, what the
// kernel refused since the beginning is unattributed, and history is not.
func TestUnattributedWithoutProgram(t *testing.T) {
	var a, b Account
	a.Baseline(snapshot(10, 100, 0, 0))
	b.Baseline(snapshot(10, 100, 0, 0))
	for range 2 {
		a.Kernel(snapshot(10, 103, 0, 0))
		a.NoProgram()
		b.Kernel(snapshot(10, 103, 0, 0))
		b.Program(conntrack.Refusal{}, make([]conntrack.Counters, 1), []bool{true})
	}
	if a.Unattributed != 3 || b.Unattributed != 3 {
		t.Errorf("unattributed %d without a table, %d on a CPU not counted; want 3", a.Unattributed, b.Unattributed)
	}
}

// TestCtnetlinkInsertIsNoDrop: chaintoolong alone moves for an entry that ctnetlink failed to insert.
func TestCtnetlinkInsertIsNoDrop(t *testing.T) {
	var a Account
	a.Baseline(snapshot(10, 0, 0, 0))
	a.Counters(snapshot(10, 0, 0, 4))
	if a.Drops.Total() != 0 {
		t.Errorf("drops %v", a.Drops)
	}
	a.Counters(snapshot(10, 1, 3, 6))
	want := drops(conntrack.ChainTooLong, 2).Add(drops(conntrack.Clash, 1))
	if diff := cmp.Diff(want, a.Drops); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRestartKeepsTheCount: the module was unloaded and loaded again, and everything counts from zero.
func TestRestartKeepsTheCount(t *testing.T) {
	var a Account
	a.Baseline(snapshot(1000, 50, 0, 0))
	a.Kernel(snapshot(1000, 60, 0, 0))
	a.Program(alone(10), snapshot(0, 60, 0, 0).CPU, nil)
	a.Restart()
	a.Kernel(snapshot(1000, 3, 0, 0))
	a.Program(alone(3), snapshot(0, 3, 0, 0).CPU, nil)
	if a.Drops.Total() != 13 || a.Missing() != 0 {
		t.Errorf("drops %v, missing %d; want 13", a.Drops, a.Missing())
	}
	a.Kernel(snapshot(1000, 5, 0, 0))
	a.Program(alone(3), snapshot(0, 3, 0, 0).CPU, nil)
	a.Program(alone(3), snapshot(0, 3, 0, 0).CPU, nil)
	a.Restart()
	a.Program(alone(0), nil, nil)
	if a.Unattributed != 2 {
		t.Errorf("unattributed %d after another restart; want 2", a.Unattributed)
	}
}

func hooked(full uint64) conntrack.Hooked { return conntrack.Hooked{Full: full} }

// TestHooksMakeCertain: what a hook saw is table_full however the table looks, and what no hook saw is judged by the looks
// or, if the hooks were at work and missed nothing, by elimination.
func TestHooksMakeCertain(t *testing.T) {
	roomy, full := snapshot(10, 0, 0, 0), snapshot(1000, 0, 0, 0)
	for _, c := range []struct {
		name   string
		look   *conntrack.Snapshot
		full   uint64
		missed uint64
		sure   bool
		alone  uint64
		want   conntrack.Drops
		unseen uint64 // Unhooked
	}{
		{"all seen, the limit was raised at once", roomy, 5, 0, true, 5, drops(conntrack.TableFull, 5), 0},
		{"inserts by ctnetlink beside", full, 9, 0, true, 5, drops(conntrack.TableFull, 5), 0},
		{"some not seen, nothing missed", full, 3, 0, true, 5, drops(conntrack.TableFull, 3).Add(drops(conntrack.AllocFailed, 2)), 0},
		{"some not seen, one missed", full, 3, 1, true, 5, drops(conntrack.TableFull, 4).Add(drops(conntrack.AllocFailed, 1)), 1},
		{"some not seen, it is not known what was missed, full", full, 3, 0, false, 5, drops(conntrack.TableFull, 5), 2},
		{"some not seen, it is not known what was missed, room", roomy, 3, 0, false, 5, drops(conntrack.TableFull, 3).Add(drops(conntrack.AllocFailed, 2)), 0},
		{"none seen, full: the hooks are blind", full, 0, 0, true, 5, drops(conntrack.TableFull, 5), 5},
		{"none seen, room", roomy, 0, 0, true, 5, drops(conntrack.AllocFailed, 5), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var byProgram, byCounters Account
			byProgram.Baseline(c.look)
			byCounters.Baseline(c.look)
			for _, at := range []struct{ full, missed, alone uint64 }{{}, {c.full, c.missed, c.alone}} {
				look := snapshot(c.look.Count, uint32(at.alone), 0, 0)
				byProgram.Kernel(look)
				byProgram.Hooks(hooked(at.full), at.missed, c.sure)
				byProgram.Program(alone(at.alone), nil, nil)
				byCounters.Hooks(hooked(at.full), at.missed, c.sure)
				byCounters.Counters(look)
			}
			for name, a := range map[string]*Account{"by program": &byProgram, "by counters": &byCounters} {
				if diff := cmp.Diff(c.want, a.Drops); diff != "" || a.Unhooked != c.unseen {
					t.Errorf("%s: unhooked %d, drops (-want +got):\n%s", name, a.Unhooked, diff)
				}
			}
		})
	}
}

// TestHooksMissedEarlier: a call that was missed may show in a later count, behind others that the hooks saw ahead.
func TestHooksMissedEarlier(t *testing.T) {
	var a Account
	a.Baseline(snapshot(1000, 0, 0, 0))
	a.Hooks(hooked(10), 0, true)
	a.Counters(snapshot(1000, 8, 0, 0))
	a.Hooks(hooked(20), 3, true) // of 15 calls since, 3 were missed
	a.Counters(snapshot(1000, 18, 0, 0))
	a.Hooks(hooked(20), 0, true)
	a.Counters(snapshot(1000, 23, 0, 0))
	if diff := cmp.Diff(drops(conntrack.TableFull, 23), a.Drops); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestHooksAhead: what a hook saw last may show in the next count only; what does not show there either was no packet.
func TestHooksAhead(t *testing.T) {
	var a Account
	a.Baseline(snapshot(10, 0, 0, 0))
	a.Hooks(hooked(7), 0, true)
	a.Counters(snapshot(10, 3, 0, 0))
	a.Hooks(hooked(7), 0, true)
	a.Counters(snapshot(10, 7, 0, 0))
	if diff := cmp.Diff(drops(conntrack.TableFull, 7), a.Drops); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	a.Hooks(hooked(8), 0, true) // a task that has to wait
	for range patience / 2 {
		a.Counters(snapshot(10, 7, 0, 0))
		a.Hooks(hooked(8), 0, true)
	}
	a.Counters(snapshot(10, 8, 0, 0))
	if diff := cmp.Diff(drops(conntrack.TableFull, 8), a.Drops); diff != "" {
		t.Errorf("after a wait (-want +got):\n%s", diff)
	}
	a.Hooks(hooked(101), 0, true) // 93 inserts by ctnetlink
	for range patience + 2 {
		a.Counters(snapshot(10, 8, 0, 0))
		a.Hooks(hooked(101), 0, true)
	}
	a.Counters(snapshot(10, 10, 0, 0))
	if diff := cmp.Diff(drops(conntrack.TableFull, 8).Add(drops(conntrack.AllocFailed, 2)), a.Drops); diff != "" {
		t.Errorf("after inserts (-want +got):\n%s", diff)
	}
}

// TestHooksAttachedLate: what was refused before they were attached they did not see, and are not asked about.
func TestHooksAttachedLate(t *testing.T) {
	var a Account
	a.Kernel(snapshot(1000, 100, 0, 0))
	a.Hooks(hooked(20), 0, true)
	a.Program(alone(100), nil, nil)
	if diff := cmp.Diff(drops(conntrack.TableFull, 100), a.Drops); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestUnread: of a namespace that is gone, hooks alone count what they saw, each packet once.
func TestUnread(t *testing.T) {
	var a Account
	a.Baseline(snapshot(1000, 0, 0, 0))
	a.Hooks(conntrack.Hooked{Full: 5, Clashes: 3}, 0, false)
	a.Counters(snapshot(1000, 4+2, 2, 0)) // one of each is still on its way
	a.Hooks(conntrack.Hooked{Full: 8, Clashes: 4}, 0, false)
	a.Unread()
	a.Unread()
	want := drops(conntrack.TableFull, 8).Add(drops(conntrack.Clash, 4))
	if diff := cmp.Diff(want, a.Drops); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// It was there all the time, only nobody found it.
	a.Hooks(conntrack.Hooked{Full: 9, Clashes: 4}, 0, false)
	a.Counters(snapshot(1000, 9+4, 4, 0))
	a.Counters(snapshot(1000, 9+4, 4, 0)) // a drop among clashes waits for a second look
	want[conntrack.TableFull]++
	if diff := cmp.Diff(want, a.Drops); diff != "" {
		t.Errorf("found again (-want +got):\n%s", diff)
	}
}

// TestLookIntoAClash: a look that sees one of a clash's two counters moved counts it once, and under its cause.
func TestLookIntoAClash(t *testing.T) {
	var a Account
	a.Baseline(snapshot(10, 0, 0, 0))
	a.Counters(snapshot(10, 6, 5, 0)) // the sixth is under way
	if a.Missing() != 1 {
		t.Errorf("missing %d, want 1", a.Missing())
	}
	a.Counters(snapshot(10, 9, 9, 0))
	if diff := cmp.Diff(drops(conntrack.Clash, 9), a.Drops); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	a.Counters(snapshot(1000, 13, 11, 0)) // two were alone indeed
	a.Counters(snapshot(1000, 13, 11, 0))
	if diff := cmp.Diff(drops(conntrack.Clash, 11).Add(drops(conntrack.TableFull, 2)), a.Drops); diff != "" || a.Missing() != 0 {
		t.Errorf("missing %d (-want +got):\n%s", a.Missing(), diff)
	}
}

// TestLookIntoALongChain: a look that sees one of its two counters moved counts the packet once, and under its cause.
func TestLookIntoALongChain(t *testing.T) {
	var a Account
	a.Baseline(snapshot(10, 0, 0, 0))
	for _, s := range []struct{ failed, chain uint32 }{{0, 1}, {5, 6}, {11, 12}, {12, 12}, {12, 13}} {
		a.Counters(snapshot(10, 0, s.failed, s.chain))
	}
	if a.Missing() != 1 {
		t.Errorf("missing %d, want 1", a.Missing())
	}
	a.Counters(snapshot(10, 0, 12, 13)) // that was an entry of ctnetlink's
	if diff := cmp.Diff(drops(conntrack.ChainTooLong, 12), a.Drops); diff != "" || a.Missing() != 0 {
		t.Errorf("missing %d (-want +got):\n%s", a.Missing(), diff)
	}
}
