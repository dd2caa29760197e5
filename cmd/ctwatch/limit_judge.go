package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ctwatch/ctwatch/internal/remediate"
)

// request is what `limit set` is asked for.
type request struct {
	max     uint64
	buckets uint64 // 0: leave them
	persist bool
}

// objection is why limits should not be set. Most can be overruled.
type objection struct {
	why  string
	hint string
	kind objectionKind
}

type objectionKind int

const (
	needsForce objectionKind = iota
	impossible               // on this machine
	senseless                // wrong usage
)

const (
	// goodChain is how long the chains of a full table may be on average: an entry stands in two of them.
	goodChain = 8
	// worstChain is the average at which many chains are longer than the kernel allows (50 to 79 entries; 8 to 31 in 5.14).
	worstChain = 32
)

// judge says what there is against a request, the worst first, and what is worth a word though nothing is against it.
func (m *machine) judge(r request) (objections []objection, notes []string) {
	object := func(kind objectionKind, hint, format string, args ...any) {
		objections = append(objections, objection{fmt.Sprintf(format, args...), hint, kind})
	}
	buckets := r.buckets
	if buckets == 0 {
		buckets = m.state.Buckets
	}
	switch {
	case r.max == 0 && r.persist:
		object(senseless, "set it without --persist, or a number with it", "0 is no limit at all, and that is not made to last: later kernels would refuse it at boot")
	case r.max == 0 && refusesZero(m.release):
		object(impossible, "set a number: `ctwatch limit plan` finds one",
			"0 is not possible: kernel %s takes 1 at least (since 7.0; before, 0 was no limit)", printable(m.release))
	case r.max == 0 && m.state.Max != 0:
		object(needsForce, "", "0 is no limit at all: whoever opens connections can then have the kernel use up all memory, %s here", m.allMemory())
	case r.max > 0:
		m.judgeMax(r.max, buckets, object)
	}
	if r.buckets > 0 {
		m.judgeBuckets(r, object)
	}
	full := r.max
	if full == 0 {
		full = m.fullest().Count
	}
	if buckets > 0 && 2*full/buckets > goodChain {
		notes = append(notes, fmt.Sprintf("with %s buckets the chains of a full table have %s entries on average: `--buckets %d` would keep them short",
			remediate.Thousands(buckets), remediate.Thousands(2*full/buckets), remediate.BucketsFor(full)))
	}
	return objections, notes
}

// object is how a judge objects.
type object func(kind objectionKind, hint, format string, args ...any)

func (m *machine) judgeMax(n, buckets uint64, object object) {
	if over := m.above(n); len(over) > 0 {
		object(needsForce, "", "%s is below what is in use: %s. Nothing is evicted, but every new connection there is refused until the count has fallen below it",
			remediate.Thousands(n), over)
	}
	if m.noMem != nil {
		object(needsForce, "", "what it may cost is not known (%v)", m.noMem)
		return
	}
	plan := remediate.DefaultPolicy().Plan(m.usage(0), m.memory)
	if n > plan.Cap && (n > m.state.Max && m.state.Max != 0) {
		object(needsForce, remediate.Thousands(plan.Cap)+" is the most that a careful memory budget allows now",
			"%s entries could cost %s of this machine's %s (%s available), which cannot be swapped",
			remediate.Thousands(n), remediate.Bytes(m.cost(n, buckets)), remediate.Bytes(m.memory.Total), remediate.Bytes(m.memory.Available))
	}
}

func (m *machine) judgeBuckets(r request, object object) {
	if m.noMem == nil && r.buckets > m.state.Buckets && r.buckets*bytesPerBucket > m.memory.Available/4 {
		object(needsForce, "", "%s buckets take %s of the %s that are available, and the old ones stay until the new are filled",
			remediate.Thousands(r.buckets), remediate.Bytes(r.buckets*bytesPerBucket), remediate.Bytes(m.memory.Available))
	}
	var entries uint64
	for _, t := range m.tables { // of all namespaces, in one hash table
		entries += t.Count
	}
	if chain := 2 * entries / r.buckets; chain > worstChain {
		object(needsForce, "", "with %s buckets the chains would have %s entries on average now, and the kernel refuses packets whose chain is too long",
			remediate.Thousands(r.buckets), remediate.Thousands(chain))
	}
}

// above names the tables that hold more than n.
func (m *machine) above(n uint64) string {
	const most = 3
	var names []string
	more := 0
	for _, t := range m.tables {
		switch {
		case t.Count <= n:
		case len(names) == most:
			more++
		default:
			names = append(names, fmt.Sprintf("%s entries in %s", remediate.Thousands(t.Count), t))
		}
	}
	if more > 0 {
		names = append(names, "more in "+others(more))
	}
	return strings.Join(names, ", ")
}

// others says how many more there are: "1 other", "2 others".
func others(n int) string {
	if n == 1 {
		return "1 other"
	}
	return fmt.Sprintf("%d others", n)
}

func (m *machine) allMemory() string {
	if m.noMem != nil {
		return "however much there is"
	}
	return remediate.Bytes(m.memory.Total)
}

// refusesZero reports whether a kernel takes no max of 0: since 7.0 extra1 of the sysctl is 1.
func refusesZero(release string) bool {
	major, _, _ := strings.Cut(release, ".")
	n, err := strconv.ParseUint(major, 10, 16)
	return err == nil && n >= 7
}
