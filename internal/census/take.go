package census

import (
	"cmp"
	"context"
	"errors"
	"math"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// Sample is a limit that takes some 25 ms of one CPU and leaves a share uncertain by 0.01 at most.
const Sample = 10_000

// ErrSparse is why a table was not walked that has too few entries for the machine's buckets.
var ErrSparse = errors.New("the table has so few entries that a walk would hold up packets")

// Options says how to take a census. The zero value is of the whole table, on this machine.
type Options struct {
	// Root is where proc and sys are. Default: the machine's own.
	Root string
	// Limit is how many entries to walk at most. Default: all.
	Limit uint64
	// Load lets the kernel load nf_conntrack_netlink, which then holds nf_conntrack until somebody removes it.
	Load bool
	// Rows is how many rows each ranking has at most. Default: 10.
	Rows int
}

// Take walks the table of the calling thread's namespace and counts its entries; see [Walk] for what that needs. It
// returns ErrSparse for a table of few entries on a machine of many buckets, and nothing when ctx ends before the walk.
func Take(ctx context.Context, o Options) (*record.Fillers, error) {
	begun := time.Now()
	if err := ready(o.Root, o.Load); err != nil {
		return nil, err
	}
	sysctls, err := openSysctls(o.Root)
	if err != nil {
		return nil, err
	}
	timeouts, err := sysctls.timeouts()
	if err != nil {
		return nil, err
	}
	before, err := sysctls.table()
	if err != nil {
		return nil, err
	}
	if before.sparse() {
		return nil, ErrSparse
	}
	t := newTally(timeouts, o.Limit)
	walked, err := walk(ctx, o.Limit, t.add)
	if err != nil {
		return nil, err
	}
	after, err := sysctls.table()
	if err != nil {
		return nil, err
	}
	f, s := judge(walked, before, after)
	t.fill(f, cmp.Or(o.Rows, 10), s)
	f.Time, f.Took = begun.UTC(), time.Since(begun).Nanoseconds()
	return f, nil
}

// table is the size of things around a walk.
type table struct {
	count   uint64 // of the namespace, with expired entries that nobody came across
	buckets uint64
}

// sparse reports whether a walk would stay in the kernel for long. All namespaces' entries are in the same buckets, and a
// read ends when a chunk is full, or with the last bucket: it lets no soft interrupts in before (see [Chunk]). A million
// buckets take from 35 ms, if they are empty, to 130 ms, if they are full of others' entries; the bound is a quarter of it:
// as many buckets as a large machine has by default may be read at once.
func (t table) sparse() bool {
	const most = 1 << 18 // buckets a read
	return t.buckets*chunkEntries > most*max(t.count, chunkEntries)
}

// judge says what a walk is worth.
//
// A resize in the middle of a dump moves entries to and fro across the place where it stands. The flag for that,
// NLM_F_DUMP_INTR, ctnetlink does not set (6.18), so the number of buckets is compared too.
//
// The walk removes expired entries, which it does not tell: they are in the count before it and not in the one after it.
// So a whole walk found all if it found what is there after it, and no less was there before. Where entries came and went,
// those that it did not find are the rest of a sample.
func judge(w Walked, before, after table) (*record.Fillers, sample) {
	f := &record.Fillers{
		Entries:     after.count,
		Walked:      w.Entries,
		Interrupted: w.Interrupted || before.buckets != after.buckets,
	}
	f.Exact = !f.Interrupted && w.Entries == after.count && w.Entries <= before.count
	s := sample{w.Entries, max(w.Entries, before.count, after.count)}
	if f.Exact {
		s.of = w.Entries
	} else if f.Interrupted {
		s.of = math.MaxUint64
	}
	return f, s
}
