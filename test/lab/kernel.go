package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Counters are the kernel's counters of one namespace, on one CPU or on all: struct ip_conntrack_stat in
// include/linux/netfilter/nf_conntrack_common.h. They are 32 bits wide and wrap. Those the kernel lacks are 0.
type Counters struct {
	Found         uint32 // lookups for a free NAT port that found it taken
	Invalid       uint32 // packets that are no part of a connection; they go on
	Insert        uint32 // entries made by netlink, since Linux 4.9
	InsertFailed  uint32 // refused at confirm: clash, chain too long, dying entry
	Drop          uint32 // refused: table full, no memory, unresolved clash, sequence adjustment
	EarlyDrop     uint32 // entries evicted to make room; no packet is lost
	Error         uint32 // ICMP errors that could not be parsed
	SearchRestart uint32 // lookups begun again
	ClashResolve  uint32 // clashes resolved; the packet goes on
	ChainTooLong  uint32 // refused at confirm for too long a chain, also in InsertFailed
}

// Sub returns what was counted since old, counters that wrapped included.
func (c Counters) Sub(old Counters) Counters {
	return Counters{
		Found:         c.Found - old.Found,
		Invalid:       c.Invalid - old.Invalid,
		Insert:        c.Insert - old.Insert,
		InsertFailed:  c.InsertFailed - old.InsertFailed,
		Drop:          c.Drop - old.Drop,
		EarlyDrop:     c.EarlyDrop - old.EarlyDrop,
		Error:         c.Error - old.Error,
		SearchRestart: c.SearchRestart - old.SearchRestart,
		ClashResolve:  c.ClashResolve - old.ClashResolve,
		ChainTooLong:  c.ChainTooLong - old.ChainTooLong,
	}
}

// add is Sub of the negative.
func (c Counters) add(o Counters) Counters { return c.Sub(Counters{}.Sub(o)) }

// Kernel is what the kernel has counted in a namespace.
type Kernel struct {
	// Total is the sum over the CPUs.
	Total Counters
	// CPU has the counters of each possible CPU.
	CPU []Counters
}

// Kernel reads the namespace's counters from /proc/net/stat/nf_conntrack, which needs
// CONFIG_NF_CONNTRACK_PROCFS; without it the error is os.ErrNotExist.
func (n *Namespace) Kernel() (Kernel, error) {
	var text []byte
	err := n.Do(func() (err error) {
		// Not /proc/net: that is the first thread's.
		text, err = os.ReadFile("/proc/thread-self/net/stat/nf_conntrack")
		return err
	})
	if err != nil {
		return Kernel{}, fmt.Errorf("read counters: %w", err)
	}
	k, err := parseKernel(string(text))
	if err != nil {
		return Kernel{}, fmt.Errorf("read counters of %s: %w", n.Name, err)
	}
	return k, nil
}

// parseKernel parses a line of column names, then a line of hexadecimal numbers for each CPU. Columns are found
// by name: their order and some of their meanings changed in 5.10 and 5.15.
func parseKernel(text string) (Kernel, error) {
	header, rows, _ := strings.Cut(text, "\n")
	names := strings.Fields(header)
	if len(names) == 0 {
		return Kernel{}, fmt.Errorf("no header")
	}
	var k Kernel
	for row := range strings.Lines(rows) {
		fields := strings.Fields(row)
		if len(fields) > len(names) {
			return Kernel{}, fmt.Errorf("%d columns, %d names", len(fields), len(names))
		}
		var c Counters
		columns := map[string]*uint32{
			"found": &c.Found, "invalid": &c.Invalid, "insert": &c.Insert, "insert_failed": &c.InsertFailed,
			"drop": &c.Drop, "early_drop": &c.EarlyDrop, "icmp_error": &c.Error,
			"search_restart": &c.SearchRestart, "clashres": &c.ClashResolve, "chainlength": &c.ChainTooLong,
		}
		for i, field := range fields {
			column, ok := columns[names[i]]
			if !ok {
				continue
			}
			v, err := strconv.ParseUint(field, 16, 32)
			if err != nil {
				return Kernel{}, fmt.Errorf("column %s: %w", names[i], err)
			}
			*column = uint32(v)
		}
		k.CPU = append(k.CPU, c)
		k.Total = k.Total.add(c)
	}
	return k, nil
}
