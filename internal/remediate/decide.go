package remediate

import (
	"fmt"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// Situation is all that a decision rests on.
type Situation struct {
	Usage
	Where   string          // whose table, in words
	Trigger Trigger         // what gave rise to it
	Cause   conntrack.Cause // of the refusals, if there are any; TableFull otherwise
	Now     time.Duration   // CLOCK_BOOTTIME
	Growth  float64         // entries a second
	Entries uint64          // in all tables together: they share the buckets
	Calm    bool            // nothing was refused for calmFor
	Flooded time.Duration   // when it last was a flood, if that was lately; 0 is not
	Evicts  bool            // the kernel evicts entries: some of them are not assured
	Before  uint64          // entries a second ago
	Looks   Looks
	Blind   string // why nobody could look into the table; "" if somebody could
	Memory  Memory
	Unknown string // why the memory is not known; "" if it is
	Hands   Hands
}

// Hands is what ties the hands of whoever decides.
type Hands struct {
	Paused  string        // by whom and since when; "" is not paused
	Yielded string        // to whom, and what ends it; "" is not yielded
	Raises  int           // in the last raisesWindow
	LastTry time.Duration // to write max; 0 is never
	Failed  int           // writes running that failed, if they are too many
	Resized bool          // the buckets, since an incident was open
}

// Trigger is what gives rise to a decision.
type Trigger int

// The triggers.
const (
	Nothing Trigger = iota
	ByFill          // at or over Policy.RaiseAt, and growing
	ByPace          // full soon
	ByBrink         // one burst away, growing or not
	ByEviction
	ByRefusal
)

const (
	// soon is when a table must be full for that alone to be a reason.
	soon = 2 * time.Second
	// soonFill is from which fill on: below it, growth is a burst's.
	soonFill = 0.25
	// Brink is the fill from which on no growth is needed.
	Brink = 0.9
	// CalmFor is for how long nothing must have been refused before buckets are changed: that holds up all tracked traffic.
	CalmFor = 10 * time.Second
	// lookahead is how far growth is reckoned to go on, to know what peak a limit is for.
	lookahead = 10 * time.Second
	// leastGain is by which factor a raise must raise.
	leastGain = 1.1

	// coolDown is between two raises. A raise that was not enough is followed by another, but no loop is.
	coolDown = 10 * time.Second
	// raisesWindow and mostRaises bound the steps: each doubles the limit at least, where memory does not end it.
	raisesWindow = 24 * time.Hour
	mostRaises   = 8
)

// Trigger tells from a look at a table's count whether to decide.
func (p Policy) Trigger(count, limit uint64, growth float64) Trigger {
	if limit == 0 {
		return Nothing
	}
	fill := float64(count) / float64(limit)
	switch {
	case fill >= Brink:
		return ByBrink
	case fill >= p.RaiseAt && growth > 0:
		return ByFill
	case fill >= soonFill && growth > 0 && float64(limit-count)/growth < soon.Seconds():
		return ByPace
	}
	return Nothing
}

// Reason is why a limit is not raised. It tells refusals apart; the words are in Decision.Why.
type Reason string

// The reasons.
const (
	Flood       Reason = "flood"
	Unlooked    Reason = "unlooked" // nobody could look, so that it may be a flood
	Unclear     Reason = "unclear"  // there is time to look again
	Enough      Reason = "enough"   // as it is
	ShortOf     Reason = "memory"
	AtMost      Reason = "max_limit"
	WrongCure   Reason = "cause" // a limit would not help
	Unlimited   Reason = "unlimited"
	Paused      Reason = "paused"
	Yielded     Reason = "yielded"
	CoolingDown Reason = "cool_down"
	TooOften    Reason = "too_often"
)

// Decision is what to do.
type Decision struct {
	Max     uint64 // 0: leave it
	Buckets uint64 // 0: leave them; never without reason to change them now
	Refused Reason // "" is not refused
	Why     string // with all that it was derived from
}

// Decide says whether to raise nf_conntrack_max, and with it the buckets.
func (p Policy) Decide(s Situation) Decision {
	facts := s.facts()
	refuse := func(r Reason, why string) Decision {
		return Decision{Refused: r, Why: facts + "; " + why + "; so: leave the limit"}
	}
	if r, why := s.tied(); r != "" {
		return refuse(r, why)
	}
	switch {
	case s.Max == 0:
		return refuse(Unlimited, "there is no limit (nf_conntrack_max is 0)")
	case s.Cause != conntrack.TableFull:
		return refuse(WrongCure, fmt.Sprintf("the cause is %s, which a higher limit does not help", s.Cause))
	case s.Unknown != "":
		return refuse(ShortOf, "how much memory there is, is not known: "+s.Unknown)
	}
	about, r, why := s.look()
	if r != "" {
		return refuse(r, why)
	}
	u := s.Usage
	u.Peak = max(u.Peak, u.Count+uint64(s.Growth*lookahead.Seconds()))
	plan := p.Plan(u, s.Memory)
	if float64(plan.Max) < leastGain*float64(s.Max) {
		if p.MaxLimit > 0 && plan.Cap == p.MaxLimit {
			return refuse(AtMost, fmt.Sprintf("%s is the most that the operator allows (--max-limit)", Thousands(p.MaxLimit)))
		}
		if !plan.Capped {
			return refuse(Enough, plan.Why)
		}
		return refuse(ShortOf, "memory is short: "+plan.Why)
	}
	if s.Hands.LastTry > 0 && s.Now-s.Hands.LastTry < coolDown {
		return refuse(CoolingDown, fmt.Sprintf("it was tried %v ago, and the next raise comes after %v at the earliest",
			(s.Now-s.Hands.LastTry).Round(time.Millisecond), coolDown))
	}
	d := Decision{Max: plan.Max}
	words := []string{facts, plan.Why, about, "so: raise to " + Thousands(plan.Max)}
	if plan.Buckets > s.Buckets {
		switch {
		case s.Hands.Resized:
			words = append(words, "buckets were changed before in this incident, and are left alone")
		case !s.Calm:
			words = append(words, fmt.Sprintf("buckets later, when nothing was refused for %v", CalmFor))
		default:
			d.Buckets = plan.Buckets
		}
	}
	d.Why = strings.Join(words, "; ")
	return d
}

// DecideBuckets says whether to have more buckets now: for the limit, while it is calm, or because chains are too long.
func (p Policy) DecideBuckets(s Situation) Decision {
	chain := 0.0
	if s.Buckets > 0 {
		chain = 2 * float64(s.Entries) / float64(s.Buckets)
	}
	facts := fmt.Sprintf("%s buckets for %s entries in all namespaces: %.1f places to a chain on average; nf_conntrack_max is %s",
		Thousands(s.Buckets), Thousands(s.Entries), chain, limitText(s.Max))
	refuse := func(r Reason, why string) Decision {
		return Decision{Refused: r, Why: facts + "; " + why + "; so: leave the buckets"}
	}
	if r, why := s.tied(); r != "" {
		return refuse(r, why)
	}
	if s.Hands.Resized {
		return refuse(TooOften, "they were changed before in this incident")
	}
	wanted := buckets(s.Max, s.Buckets)
	if s.Cause == conntrack.ChainTooLong {
		if chain < longChain {
			return refuse(WrongCure, "chains are too long although there are buckets enough: the same tuples in many zones, or chosen addresses and ports")
		}
		wanted = max(wanted, min(powerOfTwo(2*float64(s.Entries)), powerOfTwo(float64(s.Max))))
		facts = "chains are longer than the kernel allows; " + facts
	} else if !s.Calm {
		return refuse(CoolingDown, "packets are being refused, and a resize would hold up the others")
	}
	if wanted <= s.Buckets {
		return refuse(WrongCure, "they are enough")
	}
	return Decision{Buckets: wanted, Why: fmt.Sprintf("%s; so: %s buckets, which cost %s", facts, Thousands(wanted), Bytes(wanted*bucketSize))}
}

// longChain is how long chains must be on average for more buckets to be the cure.
const longChain = 8

// tied is what forbids to do anything.
func (s Situation) tied() (Reason, string) {
	switch {
	case s.Hands.Paused != "":
		return Paused, "remediation is paused " + s.Hands.Paused + " (`ctwatch limit resume` ends it)"
	case s.Hands.Yielded != "":
		return Yielded, s.Hands.Yielded
	case s.Hands.Failed > 0:
		return TooOften, fmt.Sprintf("writing failed %d times running, and is not tried any more", s.Hands.Failed)
	case s.Hands.Raises >= mostRaises:
		return TooOften, fmt.Sprintf("it was raised %d times in %v, and somebody should look", s.Hands.Raises, raisesWindow)
	}
	return "", ""
}

// look says what the table is full of, or why that forbids a raise.
func (s Situation) look() (about string, r Reason, why string) {
	now := s.Looks.at(s.Now)
	if now == nil {
		blind := s.Blind
		if blind == "" {
			blind = "nobody did yet"
		}
		// Without a look the kernel tells: it evicts what is not assured, as most of a flood is.
		if s.Trigger == ByRefusal && !s.Evicts {
			return "nobody could look into the table (" + blind + "), but the kernel finds nothing to evict in it, so it holds connections that work", "", ""
		}
		return "", Unlooked, "whether it is a flood is not known, for nobody could look into the table: " + blind
	}
	switch f, why := s.Looks.flood(now, s.Before, s.Flooded); {
	case f == isFlood:
		return "", Flood, "it is a flood, which would fill a larger table as well: " + why
	case f == unknown && (s.Flooded > 0 || s.Trigger != ByRefusal && s.Trigger != ByEviction):
		return "", Unclear, why
	}
	about = now.Text
	if now.Largest != "" {
		about += fmt.Sprintf("; the largest source, %s, holds %s", now.Largest, percent(now.Share))
	}
	return about, "", ""
}

// facts are what the table is like.
func (s Situation) facts() string {
	text := fmt.Sprintf("%s: %s of %s entries", s.Where, Thousands(s.Count), limitText(s.Max))
	if s.Max > 0 {
		text += " (" + percent(float64(s.Count)/float64(s.Max)) + ")"
	}
	if s.Growth > 0 {
		text += fmt.Sprintf(", growing %s/s", Thousands(uint64(s.Growth)))
		if s.Count < s.Max {
			text += fmt.Sprintf(", full in %.1f s", float64(s.Max-s.Count)/s.Growth)
		}
	}
	switch s.Trigger {
	case ByEviction:
		text += ", evicting entries"
	case ByRefusal:
		text += ", refusing packets"
	}
	return text
}
