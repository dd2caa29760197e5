package remediate

import (
	"fmt"
	"math"
	"time"

	"github.com/ctwatch/ctwatch/internal/incident"
	"github.com/ctwatch/ctwatch/internal/record"
)

const (
	// GlanceEntries is how many entries a look takes that refused packets wait for: the kernel tells them in two chunks, and all
	// of it takes some hundred microseconds.
	GlanceEntries = 80
	// LookEntries is how many a look takes while nothing is lost yet: about a millisecond.
	LookEntries = 320
	// CloseEntries is how many it takes when a table is nearly full: few that came lately have to be told among many.
	CloseEntries = 1280

	// lookAge is how old a look may be to stand for now, and sameTable by which part the table may have grown since.
	lookAge   = 10 * time.Second
	sameTable = 0.05
	// baseAge is how far back it is looked for what the table was before, and slow how long it must have taken a table to grow
	// by no more than looks can tell for that to be no matter.
	baseAge = 30 * time.Second
	slow    = 5 * time.Second
	// somePending is from which share on it counts where the pending entries come from. A few there always are, and those of a
	// gateway's own clients are all from one network.
	somePending = 0.2
	// oneNetwork is the part of pending entries in one /24 (IPv6 /64) that makes a flood of them.
	oneNetwork = 0.3
)

// Looks are what was found in one table lately, oldest first.
type Looks []Look

// Look is one of them.
type Look struct {
	At      time.Duration // CLOCK_BOOTTIME
	Entries uint64        // in the table
	Walked  uint64        // of these
	Pending float64       // share that was never completed, 0 to 1
	Text    string        // the same in words
	Net     string        // the network most of these come from; "" is none
	NetPart float64       // its part of them
	Largest string        // the network that holds most entries
	Share   float64       // its share of all
}

// LookOf is what a look into a table tells of it.
func LookOf(f *record.Fillers, boot time.Duration) Look {
	p := incident.PendingIn(f)
	l := Look{At: boot, Entries: f.Entries, Walked: f.Walked, Pending: p.Share, Text: p.Text}
	for i, s := range f.SrcNet {
		if i == 0 {
			l.Largest, l.Share = s.Key, s.Share
		}
		if part := p.Of(s); p.Share > 0 && part > l.NetPart {
			l.Net, l.NetPart = s.Key, part
		}
	}
	return l
}

// Add keeps a look as long as it may be of use.
func (all Looks) Add(l Look) Looks {
	old := 0
	for old < len(all) && l.At-all[old].At > baseAge {
		old++
	}
	return append(all[old:], l)
}

// Stand reports whether the last look stands for a table that holds so many entries now: it is not old, and too few came
// since to make another table of it.
func (all Looks) Stand(count uint64, boot time.Duration) bool {
	l := all.at(boot)
	return l != nil && float64(count)-float64(l.Entries) < sameTable*float64(count)
}

// at is the last look that stands for a moment; nil if none does.
func (all Looks) at(boot time.Duration) *Look {
	if n := len(all); n > 0 && boot-all[n-1].At <= lookAge {
		return &all[n-1]
	}
	return nil
}

// flooding is what looks tell of what fills a table.
type flooding int

const (
	noFlood flooding = iota
	isFlood          // it would fill a larger table as well
	unknown          // it may be: what came lately is too little to be told apart
)

// flood tells whether what fills the table is a flood, and why. before is how many it held a second ago.
// flooded is when it last was a flood, if that was lately (0 is not): then only what came since can show that it is over, for the
// kernel sheds a flood's entries bucket by bucket, and a look into the first of them finds few.
//
// A table that was half full of real connections before a flood began is half full of it when this is asked, or not even
// that. So it counts what came.
func (all Looks) flood(now *Look, before uint64, flooded time.Duration) (flooding, string) {
	if now.Pending > incident.MostlyPending {
		return isFlood, now.Text
	}
	if now.Pending > somePending && now.NetPart > oneNetwork {
		return isFlood, fmt.Sprintf("%s, and %s of these are from %s", now.Text, percent(now.NetPart), now.Net)
	}
	lately := float64(now.Entries) - float64(before)
	if now.pending()+now.error() <= incident.MostlyPending*lately {
		return noFlood, "" // even if nothing of what was there before was pending
	}
	slowly := false
	for i := len(all) - 1; i >= 0; i-- {
		base := &all[i]
		age := now.At - base.At
		if age <= 0 || age > baseAge || flooded > 0 && base.At < flooded {
			continue
		}
		came, wrong := float64(now.Entries)-float64(base.Entries), math.Hypot(now.error(), base.error())
		if came/2 <= wrong {
			slowly = slowly || age >= slow && lately <= max(0, came/2) // and not all of it just now
			continue                                                   // an older one may tell
		}
		// The newest that can tell: what came before it may have been real.
		part := (now.pending() - base.pending()) / came
		switch wrong /= came; {
		case part-wrong > incident.MostlyPending:
			return isFlood, fmt.Sprintf("of the %s entries that came in the last %v, %s are of connections that were never completed",
				Thousands(uint64(came)), age.Round(time.Millisecond), percent(min(1, part)))
		case part+wrong < incident.MostlyPending:
			return noFlood, ""
		}
		return unknown, "of what came lately about half is pending, or that cannot be told yet"
	}
	if slowly && flooded == 0 {
		return noFlood, ""
	}
	return unknown, "what came lately is too little, or too little known, to tell what it is"
}

// pending is how many entries were never completed.
func (l *Look) pending() float64 { return l.Pending * float64(l.Entries) }

// error is half of the 95 % interval of pending, also where none or all of a few are (Agresti and Coull).
func (l *Look) error() float64 {
	const z = 1.96
	n := float64(l.Walked) + z*z
	p := (l.Pending*float64(l.Walked) + z*z/2) / n
	return z * math.Sqrt(max(0, p*(1-p))/n) * float64(l.Entries)
}
