// Package conntrack holds the vocabulary of connection tracking (Cause, Counters, Snapshot) and reads what
// the kernel says of a network namespace's table.
package conntrack

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// Cause is why conntrack refused a packet. The words are the same in the BPF program, records, metrics and
// docs/causes.md, which says for each what the kernel does, what helps and what does not.
type Cause uint8

// The causes, in the order in which they are listed everywhere.
const (
	// TableFull: the count was over the max and early_drop found nothing to evict (__nf_conntrack_alloc).
	TableFull Cause = iota
	// Clash: an unresolvable clash at confirm, the same tuple from two packets (nf_ct_resolve_clash).
	Clash
	// ChainTooLong: the hash chain is over the kernel's limit, too few buckets (__nf_conntrack_confirm).
	ChainTooLong
	// InsertRace: the entry was dying, or its extensions stale, at confirm (__nf_conntrack_confirm).
	InsertRace
	// AllocFailed: no memory for the entry or an extension (__nf_conntrack_alloc, init_conntrack).
	AllocFailed
	// Other: the kernel's drop counter moved for another reason: a TCP reopen race, sequence adjustment.
	Other
	// NumCauses is how many causes there are.
	NumCauses = int(Other) + 1
)

var causeNames = [NumCauses]string{"table_full", "clash", "chain_too_long", "insert_race", "alloc_failed", "other"}

// String returns the cause's word in the contract, such as "table_full".
func (c Cause) String() string {
	if int(c) >= NumCauses {
		return fmt.Sprintf("cause(%d)", uint8(c))
	}
	return causeNames[c]
}

// Drops counts refused packets by cause.
type Drops [NumCauses]uint64

// Total is the number of refused packets, all causes together.
func (d Drops) Total() uint64 {
	var n uint64
	for _, v := range d {
		n += v
	}
	return n
}

// Add returns the sum of both, cause by cause.
func (d Drops) Add(o Drops) Drops {
	for i := range d {
		d[i] += o[i]
	}
	return d
}

// MarshalJSON writes every cause, also those with no drop, in their order.
func (d Drops) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, n := range d {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, causeNames[i]...)
		b = append(b, '"', ':')
		b = strconv.AppendUint(b, n, 10)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON writes. A cause that this version does not know is an error: it would be lost.
func (d *Drops) UnmarshalJSON(text []byte) error {
	var m map[string]uint64
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	*d = Drops{}
	for name, n := range m {
		i := slices.Index(causeNames[:], name)
		if i < 0 {
			return fmt.Errorf("unknown cause %q", name)
		}
		d[i] = n
	}
	return nil
}

// MarshalText writes the cause's word.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the cause's word.
func (c *Cause) UnmarshalText(text []byte) error {
	i := slices.Index(causeNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("unknown cause %q", text)
	}
	*c = Cause(i)
	return nil
}
