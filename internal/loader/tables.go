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
	Gone    bool              // off the kernel's list at the last Walk
	Refused conntrack.Refusal // since counting began; Drops holds Clash, ChainTooLong, InsertRace and Other
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
	NotReady    []bool // by CPU: it was offline when counting began and is not counted yet
}

func (c *core) cpus() ([]programCpu, error) {
	var cpus []programCpu
	if err := c.objs.Cpus.Lookup(uint32(0), &cpus); err != nil {
		return nil, fmt.Errorf("read map cpus: %w", err)
	}
	return cpus, nil
}

// Tally is cheap: one look that tells whether anything was counted.
func (p *Probe) Tally() (Tally, error) {
	var t Tally
	if p.core == nil {
		return t, nil
	}
	cpus, err := p.core.cpus()
	if err != nil {
		return t, err
	}
	for _, c := range cpus {
		t.Refusals += c.Refusals
		t.Entered += c.Entered
		t.Unseen += c.Unseen
		t.Skipped += c.Skipped
		t.SamplesLost += c.SamplesLost
		t.NotReady = append(t.NotReady, c.Ready == 0)
	}
	return t, nil
}

// Tables reads what was counted, by namespace. now is a monotonic time; long after a namespace has gone its table is
// not read again.
func (p *Probe) Tables(now time.Time) ([]Table, error) {
	if p.core == nil {
		return nil, nil
	}
	return p.core.tables(now)
}

func (c *core) tables(now time.Time) ([]Table, error) {
	if err := c.readSlots(); err != nil {
		return nil, err
	}
	var walk uint32
	if err := c.objs.CurrentWalk.Get(&walk); err != nil {
		return nil, fmt.Errorf("read current_walk: %w", err)
	}
	tables := make([]Table, 0, len(c.slots))
	for cookie, slot := range c.slots {
		if err := c.objs.Tables.Lookup(slot, &c.scratch); err != nil {
			return nil, fmt.Errorf("read map tables: %w", err)
		}
		t := tableOf(cookie, c.scratch)
		t.Gone = !slices.ContainsFunc(c.scratch, func(t programTable) bool { return t.Walk == walk })
		tables = append(tables, t)
		if !t.Gone {
			delete(c.gone, cookie)
			continue
		}
		since, known := c.gone[cookie]
		if !known {
			c.gone[cookie] = now
		} else if now.Sub(since) >= forget {
			if err := c.free(cookie, slot); err != nil {
				return nil, err
			}
		}
	}
	return tables, nil
}

// readSlots learns which namespace has which slot.
func (c *core) readSlots() error {
	var at ebpf.MapBatchCursor
	n, err := c.objs.Slots.BatchLookup(&at, c.keys, c.values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("read map slots: %w", err)
	}
	clear(c.slots)
	for i := range n {
		c.slots[c.keys[i]] = c.values[i]
	}
	return nil
}

// free gives a slot back.
func (c *core) free(cookie uint64, slot uint32) error {
	delete(c.gone, cookie)
	if err := c.objs.Slots.Delete(cookie); err != nil {
		return fmt.Errorf("forget a namespace: %w", err)
	}
	if err := c.objs.Tables.Put(slot, make([]programTable, len(c.scratch))); err != nil {
		return fmt.Errorf("forget a namespace: %w", err)
	}
	if err := c.objs.FreeSlots.Put(nil, slot); err != nil {
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
		t.Counted[i][conntrack.CounterDrop] = c.Last.Drop
		t.Counted[i][conntrack.CounterInsertFailed] = c.Last.InsertFailed
		t.Counted[i][conntrack.CounterChainTooLong] = c.Last.Chaintoolong
	}
	return t
}
