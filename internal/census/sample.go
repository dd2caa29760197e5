package census

import "math"

// sample says how many entries of how many were walked: a uniform sample without replacement.
type sample struct {
	walked uint64
	of     uint64 // at least walked; math.MaxUint64 where that is not known
}

// share is the share of so many of those walked.
func (s sample) share(n uint64) float64 {
	if s.walked == 0 {
		return 0
	}
	return float64(n) / float64(s.walked)
}

// halfWidth is how far the true share may be from the sample's: the farther end of the 95 % score interval (Wilson 1927),
// which holds for shares near 0 and 1 too.
func (s sample) halfWidth(share float64) float64 {
	n := s.effective()
	if n == 0 || math.IsInf(n, 1) {
		return min(1, 1/n)
	}
	centre := (share + z*z/(2*n)) / (1 + z*z/n)
	half := z * math.Sqrt(share*(1-share)/n+z*z/(4*n*n)) / (1 + z*z/n)
	return half + math.Abs(centre-share)
}

// widest is the largest half width of any share: that of (1-z/sqrt(n))/2.
func (s sample) widest() float64 {
	return min(1, z/(2*math.Sqrt(s.effective())))
}

// z is where the normal distribution has 2.5 % beyond.
const z = 1.959964

// effective is the size of a sample with replacement that is as good: infinite if all were walked.
func (s sample) effective() float64 {
	if s.walked >= s.of {
		return math.Inf(1)
	}
	return float64(s.walked) * float64(s.of-1) / float64(s.of-s.walked)
}
