package conntrack

// Meter adds up the counters of one namespace over many looks, past the wrap of the kernel's 32 bits. The zero Meter
// counts from the birth of the namespace; Baseline leaves out what was before.
//
// Look often enough that no counter of one CPU moves by 2^31 in between. A larger step is a step back: the module was
// unloaded and loaded again, the counters began anew, and what they show is counted from zero.
type Meter struct {
	Totals Totals     // all CPUs, since the baseline
	Known  CounterSet // the counters read at least once; the totals of others mean nothing

	last  []Counters // by CPU; a CPU or namespace not seen before began at zero
	fresh CounterSet // counters that had a history when counting began, and whose value was not read yet
	delta []Counters
}

// Baseline begins to count at s. Of a counter that s lacks, having been read from a poorer source, the first value
// read later is the baseline.
func (m *Meter) Baseline(s *Snapshot) {
	*m = Meter{Known: s.Known, last: append(m.last[:0], s.CPU...), fresh: ^s.Known, delta: m.delta}
}

// Restart tells the meter that the counters now begin at zero, as they do when nf_conntrack is loaded again.
func (m *Meter) Restart() {
	clear(m.last)
	m.fresh = 0
}

// Add counts what happened since the last look and returns it by CPU, in memory that the next call uses again.
func (m *Meter) Add(s *Snapshot) []Counters {
	for len(m.last) < len(s.CPU) {
		m.last = append(m.last, Counters{})
	}
	if m.wentBack(s) {
		m.Restart()
	}
	m.delta = m.delta[:0]
	for cpu := range s.CPU {
		var d Counters
		for c := range Counter(NumCounters) {
			if !s.Known.Has(c) {
				continue
			}
			if !m.fresh.Has(c) {
				d[c] = s.CPU[cpu][c] - m.last[cpu][c] // modulo 2^32
			}
			m.last[cpu][c] = s.CPU[cpu][c]
			m.Totals[c] += uint64(d[c])
		}
		m.delta = append(m.delta, d)
	}
	m.Known |= s.Known
	m.fresh &^= s.Known
	return m.delta
}

func (m *Meter) wentBack(s *Snapshot) bool {
	for cpu := range s.CPU {
		for c := range Counter(NumCounters) {
			if s.Known.Has(c) && !m.fresh.Has(c) && int32(s.CPU[cpu][c]-m.last[cpu][c]) < 0 {
				return true
			}
		}
	}
	return false
}
