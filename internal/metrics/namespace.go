package metrics

import (
	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/forecast"
	"github.com/ctwatch/ctwatch/internal/record"
)

// sums are what is counted, of one namespace or of several together. They only grow.
type sums struct {
	drops   conntrack.Drops
	evicted uint64
	kernel  conntrack.Totals
}

// rank is how much of interest a namespace ever was. Only a higher one takes another's series away, so they change hands
// a few times at most.
type rank uint8

const (
	idle     rank = iota // its table was empty at each look
	active               // it had entries
	troubled             // something was refused or evicted in it, or its table was half full
)

// halfFull is the fill of a table that is of interest although nothing was refused there.
const halfFull = 0.5

// namespace is the last state of a namespace.
type namespace struct {
	inode    uint64
	label    string // as it wants to be called; another may be called that
	series   *series
	told     sums // what was counted when it was last listed
	rank     rank
	read     bool // entries and max are known
	entries  uint64
	max      uint64
	forecast forecast.Series
}

// count takes what a sample says was counted in the namespace.
func (n *namespace) count(r *record.NetNS) {
	n.grow(sums{drops: r.Drops, evicted: r.Evicted, kernel: n.told.kernel})
}

// grow adds to the series what was counted since the last time.
func (n *namespace) grow(now sums) {
	n.series.evicted += step(&n.told.evicted, now.evicted)
	for c := range now.drops {
		n.series.drops[c] += step(&n.told.drops[c], now.drops[c])
	}
	for c := range now.kernel {
		n.series.kernel[c] += step(&n.told.kernel[c], now.kernel[c])
	}
}

// step moves a counter on and returns by how much. One that went back began anew, at zero.
func step(last *uint64, now uint64) uint64 {
	grown := now - *last
	if now < *last {
		grown = now
	}
	*last = now
	return grown
}

// look takes what a sample says of the namespace's table.
func (n *namespace) look(r *record.NetNS) {
	n.read = r.Count != nil && r.Max != nil
	if n.read {
		n.entries, n.max = *r.Count, *r.Max
	} else {
		n.forecast = forecast.Series{}
	}
	switch {
	case r.Drops.Total() > 0, r.Evicted > 0, r.Unattributed > 0, r.Fill != nil && *r.Fill >= halfFull:
		n.rank = troubled
	case n.read && n.entries > 0:
		n.rank = max(n.rank, active)
	}
}
