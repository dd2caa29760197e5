package conntrack

// Source is the kernel interface that a snapshot was read from.
type Source uint8

// The sources, best first.
const (
	CTNetlink Source = iota + 1 // GET_STATS and GET_STATS_CPU: everything. Needs CAP_NET_ADMIN in the namespace
	Procfs                      // /proc/net/stat/nf_conntrack: everything, where CONFIG_NF_CONNTRACK_PROCFS is set
	Sysctl                      // count and max alone
)

// String returns "ctnetlink", "procfs" or "sysctl".
func (s Source) String() string {
	switch s {
	case CTNetlink:
		return "ctnetlink"
	case Procfs:
		return "procfs"
	case Sysctl:
		return "sysctl"
	}
	return "none"
}

// Snapshot is one look at the table of one network namespace.
type Snapshot struct {
	Count  uint64     // entries now, expired ones that were not yet collected among them
	Max    uint64     // the limit that holds in this namespace; 0 is none (kernels before 7.0)
	Known  CounterSet // which of CPU's counters were read; empty when Source is Sysctl
	CPU    []Counters // by CPU number (procfs: by rank among the possible CPUs, the same on all but odd machines)
	Source Source
	Cookie uint64 // of the namespace read; 0 where the kernel has none (before 5.14) or no socket was opened
	Passed error  // why a better source was passed over; nil when Source is CTNetlink
}

// Totals returns the counters added up over all CPUs. Each is exact only until it first wraps on some CPU; a Meter
// goes on counting.
func (s *Snapshot) Totals() Totals {
	var t Totals
	for i := range s.CPU {
		for c, v := range s.CPU[i] {
			t[c] += uint64(v)
		}
	}
	return t
}

// reset forgets what was read but keeps the memory of CPU.
func (s *Snapshot) reset() { *s = Snapshot{CPU: s.CPU[:0]} }

// cpu returns the counters of one CPU, zero if it was not seen before.
func (s *Snapshot) cpu(n int) *Counters {
	for len(s.CPU) <= n {
		s.CPU = append(s.CPU, Counters{})
	}
	return &s.CPU[n]
}
