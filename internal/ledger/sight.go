package ledger

// Sight finds out whether the program still runs. Refusals that it did not see may have come by a way that it does not
// watch (OVS, act_ct); only if it does not run at all while the kernel refuses packets, it is blind.
type Sight struct {
	missing  uint64 // refusals unseen, as of the last look
	refusals uint64 // refusals seen
	runs     uint64
	doubting bool
}

// Doubt is what Look concludes.
type Doubt uint8

// What to do after a look.
const (
	Clear  Doubt = iota // all is well: runs need not be counted
	Unsure              // have the kernel count the program's runs until the next look
	Blind               // the program did not run while packets were refused
)

// Look judges by what is unattributed and what was counted, and, where the last answer was Unsure, by how often the
// program has run since some fixed moment.
func (s *Sight) Look(unattributed, refusals, runs uint64) Doubt {
	more := unattributed > s.missing
	saw := refusals != s.refusals
	ran := runs != s.runs
	s.missing, s.refusals, s.runs = unattributed, refusals, runs
	switch {
	case !more && s.doubting && !saw && !ran:
		return Unsure // nothing happened that could tell
	case !more || saw:
		s.doubting = false
		return Clear
	case !s.doubting:
		s.doubting = true
		return Unsure
	case ran:
		s.doubting = false
		return Clear
	}
	s.doubting = false
	return Blind
}
