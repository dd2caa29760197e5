package loader

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// forget is how long a namespace that is off the kernel's list keeps its slot: its last packets may still be on their
// way, and must not be taken for those of a new one.
const forget = 30 * time.Second

// Table is what the program counted in one network namespace.
type Table struct {
	Cookie  uint64
	Inode   uint64
	Gone    bool              // off the kernel's list at the last Walk; hooks alone cannot tell
	Hooked  conntrack.Hooked  // what the hooks saw; nothing without hooks
	Refused conntrack.Refusal // since counting began; Drops holds Clash, ChainTooLong, InsertRace and Other
	// Idle is how often a packet was freed as a refused one is, and no counter had moved on that CPU: the firewall dropped it,
	// or it came there after another CPU had counted its refusal.
	Idle uint64
	// Counted holds, by CPU, the kernel counters as far as Refused accounts for them: drop, insert_failed and
	// chaintoolong. What a CPU's counters show beyond was not seen by the program.
	Counted []conntrack.Counters
}

// Tally is what the program says of itself.
type Tally struct {
	Refusals    uint64 // packets counted, all namespaces
	Entered     uint64 // namespaces that the program got to know
	Unseen      uint64 // events of namespaces that found no room
	Skipped     uint64 // looks not taken because the program was at work on that CPU already
	SamplesLost uint64 // samples that found no room in the ring
	Hits        uint64 // refusals and evictions that hooks saw, all namespaces
	NotReady    []bool // by CPU: it was offline when counting began and is not counted yet
}

func (p *program) cpus() ([]programCpu, error) {
	var cpus []programCpu
	if err := p.maps.Cpus.Lookup(uint32(0), &cpus); err != nil {
		return nil, fmt.Errorf("read map cpus: %w", err)
	}
	return cpus, nil
}

// Tally is cheap: one look that tells whether anything was counted.
func (p *Probe) Tally() (Tally, error) {
	var t Tally
	if p.program == nil {
		return t, nil
	}
	cpus, err := p.program.cpus()
	if err != nil {
		return t, err
	}
	for _, c := range cpus {
		t.Refusals += c.Refusals
		t.Entered += c.Entered
		t.Unseen += c.Unseen
		t.Skipped += c.Skipped
		t.SamplesLost += c.SamplesLost
		t.Hits += c.Hits
		t.NotReady = append(t.NotReady, c.Ready == 0)
	}
	return t, nil
}

// Tables reads what was counted, by namespace. now is a monotonic time; long after a namespace has gone its table is
// not read again.
func (p *Probe) Tables(now time.Time) ([]Table, error) {
	if p.program == nil {
		return nil, nil
	}
	return p.program.tables(now)
}

func (p *program) tables(now time.Time) ([]Table, error) {
	if err := p.readSlots(); err != nil {
		return nil, err
	}
	var walk uint32
	if err := p.vars.CurrentWalk.Get(&walk); err != nil {
		return nil, fmt.Errorf("read current_walk: %w", err)
	}
	tables := make([]Table, 0, len(p.slots))
	for cookie, slot := range p.slots {
		if err := p.maps.Tables.Lookup(slot, &p.scratch); err != nil {
			return nil, fmt.Errorf("read map tables: %w", err)
		}
		t := tableOf(cookie, p.scratch)
		t.Gone = p.core && !slices.ContainsFunc(p.scratch, func(t programTable) bool { return t.Walk == walk })
		tables = append(tables, t)
		if !t.Gone {
			delete(p.gone, cookie)
			continue
		}
		since, known := p.gone[cookie]
		if !known {
			p.gone[cookie] = now
		} else if now.Sub(since) >= forget {
			if err := p.free(cookie, slot); err != nil {
				return nil, err
			}
		}
	}
	return tables, nil
}

// Table reads what was counted in one namespace; all is zero if the program does not know it.
func (p *Probe) Table(cookie uint64) (Table, error) {
	if p.program == nil {
		return Table{}, nil
	}
	var slot uint32
	switch err := p.program.maps.Slots.Lookup(cookie, &slot); {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return Table{}, nil
	case err != nil:
		return Table{}, fmt.Errorf("read map slots: %w", err)
	}
	if err := p.program.maps.Tables.Lookup(slot, &p.program.scratch); err != nil {
		return Table{}, fmt.Errorf("read map tables: %w", err)
	}
	return tableOf(cookie, p.program.scratch), nil
}

// Forget gives back what the program keeps of a namespace that is gone, where it cannot find that out by itself: hooks
// alone do not Walk.
func (p *Probe) Forget(cookie uint64) error {
	if p.program == nil || p.program.core {
		return nil
	}
	slot, known := p.program.slots[cookie]
	if !known {
		return nil
	}
	return p.program.free(cookie, slot)
}

// readSlots learns which namespace has which slot.
func (p *program) readSlots() error {
	var at ebpf.MapBatchCursor
	n, err := p.maps.Slots.BatchLookup(&at, p.keys, p.values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("read map slots: %w", err)
	}
	clear(p.slots)
	for i := range n {
		p.slots[p.keys[i]] = p.values[i]
	}
	return nil
}

// free gives a slot back.
func (p *program) free(cookie uint64, slot uint32) error {
	delete(p.gone, cookie)
	if err := p.maps.Slots.Delete(cookie); err != nil {
		return fmt.Errorf("forget a namespace: %w", err)
	}
	if err := p.maps.Tables.Put(slot, make([]programTable, len(p.scratch))); err != nil {
		return fmt.Errorf("forget a namespace: %w", err)
	}
	if err := p.maps.FreeSlots.Put(nil, slot); err != nil {
		return fmt.Errorf("forget a namespace: %w", err)
	}
	return nil
}

func tableOf(cookie uint64, cpus []programTable) Table {
	t := Table{Cookie: cookie, Counted: make([]conntrack.Counters, len(cpus))}
	for i := range cpus {
		c := &cpus[i]
		t.Inode = max(t.Inode, uint64(c.Inum))
		t.Refused.DropAlone += c.Refused[programKindKIND_DROP_ALONE]
		t.Refused.Drops[conntrack.Clash] += c.Refused[programKindKIND_CLASH]
		t.Refused.Drops[conntrack.ChainTooLong] += c.Refused[programKindKIND_CHAIN_TOO_LONG]
		t.Refused.Drops[conntrack.InsertRace] += c.Refused[programKindKIND_INSERT_RACE]
		t.Refused.Drops[conntrack.Other] += c.Refused[programKindKIND_OTHER]
		t.Idle += c.Idle
		t.Hooked.Full += c.Full
		t.Hooked.Clashes += c.Clashes
		t.Counted[i][conntrack.CounterDrop] = c.Last.Drop
		t.Counted[i][conntrack.CounterInsertFailed] = c.Last.InsertFailed
		t.Counted[i][conntrack.CounterChainTooLong] = c.Last.Chaintoolong
	}
	return t
}
