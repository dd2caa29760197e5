package conntrack

import (
	"fmt"
	"strings"
)

// Counter is one of the statistics that the kernel keeps per network namespace and CPU (struct ip_conntrack_stat in
// include/linux/netfilter/nf_conntrack_common.h). Each is an unsigned int that wraps.
type Counter uint8

// The counters, in the order in which `conntrack -S` prints them. What moves each, see docs/causes.md.
const (
	CounterFound         Counter = iota // EL7: every hit. Since 4.9: NAT met a port in use (nf_conntrack_tuple_taken)
	CounterInvalid                      // no valid header or state; the packet is accepted as INVALID
	CounterInsert                       // since 4.9: only entries made through ctnetlink or bpf
	CounterInsertFailed                 // not put in the table; a refused packet only from 5.10 on, see Refused
	CounterDrop                         // refused in nf_conntrack_in, or for an unresolved clash
	CounterEarlyDrop                    // an older entry evicted for a newer one
	CounterError                        // ICMP error handling failed; /proc calls it icmp_error
	CounterSearchRestart                // a lookup began again: the table was being resized or the entry moved
	CounterClashResolve                 // a clash that cost no packet; since 5.10 and EL8.4; /proc calls it clashres
	CounterChainTooLong                 // since 5.15 and EL9; /proc calls it chainlength
	// NumCounters is how many counters there are.
	NumCounters = int(CounterChainTooLong) + 1
)

// String returns the kernel's name of the counter, such as "insert_failed".
func (c Counter) String() string {
	names := [NumCounters]string{"found", "invalid", "insert", "insert_failed", "drop", "early_drop", "error",
		"search_restart", "clash_resolve", "chaintoolong"}
	if int(c) >= NumCounters {
		return fmt.Sprintf("counter(%d)", uint8(c))
	}
	return names[c]
}

// Counters are the counters of one CPU, or by how much they moved, modulo 2^32.
type Counters [NumCounters]uint32

// Totals are counters added up over CPUs, and over time if a Meter made them; they do not wrap.
type Totals [NumCounters]uint64

// CounterSet says which counters a kernel has. One that it lacks is not zero: it is unknown.
type CounterSet uint16

// Has reports whether c is in the set.
func (s CounterSet) Has(c Counter) bool { return s&(1<<c) != 0 }

func (s *CounterSet) add(c Counter) { *s |= 1 << c }

// String lists the set, such as "found,invalid,drop".
func (s CounterSet) String() string {
	var names []string
	for c := range Counter(NumCounters) {
		if s.Has(c) {
			names = append(names, c.String())
		}
	}
	return strings.Join(names, ",")
}
