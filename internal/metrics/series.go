package metrics

import "github.com/ctwatch/ctwatch/internal/conntrack"

// series are the counters under one value of the label netns.
type series struct {
	label string
	sums
	known     conntrack.CounterSet        // of sums.kernel
	incidents [conntrack.NumCauses]uint64 // that there were
	shown     [conntrack.NumCauses]bool   // those incidents are here; where false, they are with the others
	owner     *namespace                  // nil: it is gone, or the series is that of the others
}

func newSeries(label string, shown bool) *series {
	s := &series{label: label}
	for c := range s.shown {
		s.shown[c] = shown
	}
	return s
}

// clean reports whether nothing was counted that somebody may be alerted for.
func (s *series) clean() bool {
	return s.drops.Total() == 0 && s.evicted == 0 && s.incidents == [conntrack.NumCauses]uint64{}
}

// entries are those in the owner's table now.
func (s *series) entries() uint64 {
	if s.owner == nil {
		return 0
	}
	return s.owner.entries
}

// absorb adds o to s.
func (s *series) absorb(o *series) {
	s.drops = s.drops.Add(o.drops)
	s.evicted += o.evicted
	for c := range o.kernel {
		s.kernel[c] += o.kernel[c]
	}
	s.known |= o.known
	for c := range o.incidents {
		s.incidents[c] += o.incidents[c]
	}
}
