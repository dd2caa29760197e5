package remediate

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// Usage is how a machine's tables are used.
type Usage struct {
	Count   uint64 // entries in the table that it is about, now
	Peak    uint64 // the most there were, or are expected; at least Count
	Max     uint64 // 0 is no limit
	Buckets uint64 // 0 is unknown
	Busy    int    // namespaces that hold many entries: the limit holds in each. At least 1
}

// Plan is what limits should be.
type Plan struct {
	Max     uint64 // never less than it is
	Buckets uint64 // never less than they are; 0 where their number is unknown
	Cap     uint64 // the most entries that memory and the operator allow
	Cost    uint64 // bytes, if Busy tables were full at Max, with the buckets
	Capped  bool   // it would be more but for Cap
	Why     string // how Max and Buckets were found, in words
}

// mostPerBucket is how many entries the limit may have for each bucket. An entry stands in two chains, so a full table's
// are 8 long on average then; kernels before 5.15 chose just that.
const mostPerBucket = 4

// Plan finds the power of two that brings the peak to a fifth of the limit, and at least [Seed], within what memory allows.
func (p Policy) Plan(u Usage, m Memory) Plan {
	peak := max(u.Peak, u.Count)
	busy := uint64(max(u.Busy, 1))
	budget, budgetWhy := p.budget(m)
	pl := Plan{Cap: p.cap(u, m)}
	why := []string{fmt.Sprintf("peak %s of %s", Thousands(peak), limitText(u.Max))}

	wanted := max(Seed, powerOfTwo(float64(peak)/comfortable))
	pl.Max = min(wanted, pl.Cap)
	if pl.Capped = pl.Max < wanted; pl.Capped && pl.Cap != p.MaxLimit {
		pl.Max = roundDown(pl.Max)
	}
	pl.Max = max(pl.Max, u.Max)
	switch {
	case u.Max == 0:
		pl.Max = 0
		why = append(why, "there is no limit (nf_conntrack_max is 0)")
	case pl.Capped && p.MaxLimit > 0 && pl.Cap == p.MaxLimit:
		why = append(why, fmt.Sprintf("%s would bring that to %s or less, but %s is the most that the operator allows (--max-limit)",
			Thousands(wanted), percent(comfortable), Thousands(p.MaxLimit)))
	case pl.Capped:
		why = append(why, fmt.Sprintf("%s would bring that to %s or less, but memory allows %s: new entries may take %s (%s)",
			Thousands(wanted), percent(comfortable), Thousands(pl.Cap), Bytes(budget), budgetWhy))
	case pl.Max == wanted:
		why = append(why, fmt.Sprintf("%s brings that to %s", Thousands(pl.Max), percent(float64(peak)/float64(pl.Max))))
	default:
		why = append(why, fmt.Sprintf("%s is enough: the peak is %s of it", Thousands(pl.Max), percent(float64(peak)/float64(pl.Max))))
	}

	pl.Buckets = buckets(pl.Max, u.Buckets)
	if pl.Max > 0 {
		pl.Cost = pl.Max*m.PerEntry*busy + pl.Buckets*bucketSize
		why = append(why, fmt.Sprintf("%s entries cost at most %s of %s%s", Thousands(pl.Max), Bytes(pl.Cost), Bytes(m.Total), each(m, busy)))
	}
	if pl.Buckets > u.Buckets {
		why = append(why, fmt.Sprintf("%s buckets for them, not %s: a full table's chains would have %s places on average",
			Thousands(pl.Buckets), Thousands(u.Buckets), Thousands(2*pl.Max/u.Buckets)))
	}
	pl.Why = strings.Join(why, "; ")
	return pl
}

// budget is how many bytes new entries may take, and why.
func (p Policy) budget(m Memory) (bytes uint64, why string) {
	part, quarter := uint64(p.MemoryFraction*float64(m.Total)), m.Available/4
	if part <= quarter {
		return part, fmt.Sprintf("%s of all memory", percent(p.MemoryFraction))
	}
	return quarter, "a quarter of what is available"
}

// cap is the most entries that a table may be allowed. The bound is on what comes on top of what there is.
func (p Policy) cap(u Usage, m Memory) uint64 {
	budget, _ := p.budget(m)
	most := u.Count + budget/(max(m.PerEntry, 1)*uint64(max(u.Busy, 1)))
	if p.MaxLimit > 0 {
		most = min(most, p.MaxLimit)
	}
	return min(most, math.MaxInt32)
}

// buckets are how many a limit needs. As soon as there are too few, they are made twice as many as that.
func buckets(limit, now uint64) uint64 {
	if now == 0 || limit <= now*mostPerBucket {
		return now
	}
	return BucketsFor(limit)
}

// BucketsFor is how many buckets a plan has for a limit, where there are too few: a full table's chains are 4 long on average then.
func BucketsFor(limit uint64) uint64 {
	const least, most = 1024, math.MaxInt32 / 8 // nf_conntrack_init_start since 5.15, nf_conntrack_hash_resize
	return min(max(powerOfTwo(float64(limit)/mostPerBucket*2), least), most)
}

// roundDown leaves a limit that memory dictates with three digits or so, in binary.
func roundDown(n uint64) uint64 {
	const digits = 8
	if shift := bits.Len64(n) - digits; shift > 0 {
		return n >> shift << shift
	}
	return n
}

// powerOfTwo is the least that is not below n, as far as the kernel takes it.
func powerOfTwo(n float64) uint64 {
	p := uint64(1)
	for float64(p) < n && p < 1<<30 {
		p <<= 1
	}
	return p
}

func limitText(limit uint64) string {
	if limit == 0 {
		return "no limit"
	}
	return Thousands(limit)
}

func each(m Memory, busy uint64) string {
	text := fmt.Sprintf(" (%d bytes each", m.PerEntry)
	if !m.Measured {
		text += ", reckoned high"
	}
	if busy > 1 {
		text += fmt.Sprintf(", in each of %d busy namespaces", busy)
	}
	return text + ")"
}
