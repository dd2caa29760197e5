package report

import (
	"math"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/rival"
)

// verdictWords are the verdicts in a few words, as a table has room for.
var verdictWords = map[string]string{
	record.VerdictLimitTooSmall: "limit too small for the load",
	record.VerdictFloodFew:      "flood from few sources",
	record.VerdictFloodMany:     "flood from many sources",
	record.VerdictNoAnswer:      "a destination does not answer",
	record.VerdictIdleEntries:   "idle entries kept by timeouts",
	record.VerdictLimitLowered:  "limit was lowered",
	record.VerdictFewBuckets:    "too few buckets",
	record.VerdictPortCollision: "port collisions",
	record.VerdictMemoryShort:   "memory short",
	record.VerdictInsertRace:    "entries removed under traffic",
	record.VerdictOther:         "protocol trackers",
	record.VerdictUnseen:        "refused on an unseen path",
	record.VerdictFull:          "table full",
}

func (i *Incident) verdictWords() string {
	if w := verdictWords[i.VerdictKind]; w != "" {
		return w
	}
	return i.Cause.String()
}

// because is the cause in words, after "refused ... ".
func (i *Incident) because() line {
	if i.VerdictKind == record.VerdictUnseen {
		return say("on a path that the program does not see")
	}
	switch i.Cause {
	case conntrack.TableFull:
		if peak := i.PeakCount; peak > 0 {
			return say("because the table was full, with %s at its peak", several(peak, "entry"))
		}
		return say("because the table was full")
	case conntrack.Clash:
		return say("because two connections claimed the same tuple")
	case conntrack.ChainTooLong:
		return say("because hash chains were too long")
	case conntrack.InsertRace:
		return say("because entries went away under their first packet")
	case conntrack.AllocFailed:
		return say("because there was no memory for new entries")
	}
	return say("for reasons of a protocol tracker or helper")
}

// place is the namespace in words.
func (i *Incident) place() line { return place(i.Name, i.NS, i.Host) }

func place(name string, ns uint64, host bool) line {
	if host {
		return say("the host's own namespace")
	}
	return say("the namespace %s", nsName(name, ns, host))
}

// nsName is what a person calls a namespace, as short as a table needs it. Others than the host may be named "host".
func nsName(name string, ns uint64, host bool) span {
	switch {
	case host:
		return span{Text: "host"}
	case name == "":
		return named("net:[" + plainNumber(ns) + "]")
	}
	return named(name)
}

func plainNumber(n uint64) string { return strings.ReplaceAll(number(n), ",", "") }

// whose adds the owner, where it says more than the name.
func (i *Incident) whose() line {
	if i.Owner == "" || i.Owner == i.Name {
		return nil
	}
	return say(" (%s)", named(i.Owner))
}

// refused is what the incident cost.
func (i *Incident) refused() uint64 { return i.Drops.Total() }

// loss is refused with what the program did not see.
func (i *Incident) loss() uint64 { return i.refused() + i.Unattributed }

// limitNow is the limit as last known: after the incident, others may have changed it.
func (i *Incident) limitNow() uint64 {
	if i.now != nil && !i.open() {
		return *i.now
	}
	return i.Limits.After
}

// room is how many entries a limit leaves room for: 0 is no limit.
func room(limit uint64) uint64 {
	if limit == 0 {
		return math.MaxUint64
	}
	return limit
}

// state is whether it is over, in a word or two.
func (i *Incident) state() string {
	switch {
	case i.Interrupted:
		return "interrupted"
	case i.open():
		return "still open"
	case i.Closed == record.ClosedGone:
		return "over: namespace gone"
	case i.Closed == record.ClosedStop:
		return "ended with ctwatch"
	case i.Closed == record.ClosedUnloaded:
		return "over: conntrack unloaded"
	}
	return "over"
}

// over says whether it is over.
func (i *Incident) over(c clock, until time.Time) line {
	at := i.end()
	when := c.time(at, false)
	if !c.sameDay(at, i.Started) {
		when = c.moment(at)
	}
	switch {
	case i.Interrupted:
		return say("ctwatch itself ended before it was over: these are the last figures known, from %s.", when)
	case i.open():
		return say("It was %s at %s.", stressed("not over"), c.time(until, false))
	case i.Closed == record.ClosedGone:
		return say("It is over: the namespace is gone.")
	case i.Closed == record.ClosedStop:
		return say("ctwatch was stopped before it had been quiet for long.")
	case i.Closed == record.ClosedUnloaded:
		return say("It is over: conntrack was unloaded.")
	}
	return say("It is over: nothing more happened after %s.", when)
}

// summary is the incident in one paragraph: what, where, why, how many, how long, is it over, will it come back.
func (r *Report) summary(i *Incident, c clock) line {
	var what line
	length := duration(time.Duration(i.Duration))
	on := line{}
	if len(r.Hosts) == 1 {
		on = say(" on %s", named(r.Hosts[0]))
	}
	head := say("On %s at %s", c.day(i.Started), c.time(i.Started, false))
	var lasted line
	if i.Duration >= time.Millisecond.Nanoseconds() {
		lasted = say(" within %s", length)
	}
	switch n := i.refused(); {
	case n > 0 || i.Unattributed > 0:
		packets := stressed(several(n, "packet"))
		if n == 0 {
			packets = stressed(several(i.Unattributed, "packet"))
		}
		what = say("%s, connection tracking%s began to refuse packets in %s%s: %s%s, %s.", head, on, i.place(), i.whose(), packets, lasted, i.because())
		if n > 0 && i.Unattributed > 0 {
			what = sentences(what, say("The kernel counted %s more that the program did not see.", i.Unattributed))
		}
	case i.Evicted > 0:
		what = say("%s, the table of %s%s%s came close to its limit: it held %s, and %s evicted to make room. %s",
			head, i.place(), i.whose(), on, several(i.PeakCount, "entry"), were(i.Evicted, "entry"), stressed("No packet was refused."))
	default:
		what = say("%s, the table of %s%s%s filled to %s (%s). %s",
			head, i.place(), i.whose(), on, percent(i.PeakFill), several(i.PeakCount, "entry"), stressed("No packet was refused."))
	}
	o := r.outlook(i)
	l := sentences(what, sentence(grouped(i.Verdict)), r.did(i), i.over(c, r.Until), say("Will it come back? %s", o.answer))
	if o.relapse {
		l = sentences(l, o.boot)
	}
	return l
}

func were(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun + " was"
	}
	return several(n, noun) + " were"
}

// outlook is whether it will come back.
type outlook struct {
	answer  line
	boot    line // what the next boot will do to the limit
	relapse bool // it takes a limit away that is enough now
	healing line // whether ctwatch stands ready to act
}

func (r *Report) outlook(i *Incident) outlook {
	o := outlook{healing: r.healing(i)}
	switch i.VerdictKind {
	case record.VerdictLimitTooSmall, record.VerdictFull, record.VerdictLimitLowered:
		o.answer = i.headroom()
	case record.VerdictFloodFew, record.VerdictFloodMany:
		o.answer = say("Yes, with the next such flood: nothing keeps it from filling the table again, and a higher limit only takes more of it.")
	case record.VerdictNoAnswer:
		o.answer = say("Yes, whenever that destination does not answer: what is tried in vain fills any table.")
	case record.VerdictIdleEntries:
		o.answer = say("Yes: with these timeouts, the same entries pile up again.")
	case record.VerdictFewBuckets:
		o.answer = say("Yes, with as many entries, unless there are more buckets than the %s there were.", i.Buckets)
	case record.VerdictPortCollision:
		o.answer = say("Yes, whenever two connections are given the same tuple: that does not depend on the size of the table.")
	case record.VerdictMemoryShort:
		o.answer = say("Yes, when memory is as short again.")
	case record.VerdictInsertRace:
		o.answer = say("Yes, whenever entries are removed while their connections begin.")
	case record.VerdictUnseen:
		o.answer = say("Not known: the kernel counted it on a path that the program does not see.")
	default:
		o.answer = say("Not known: it does not depend on the limit.")
	}
	after, peak := room(i.limitNow()), i.PeakCount
	switch boot := i.nextBoot(); {
	case i.Limits.After == 0 && i.Limits.Before == 0: // the limits were not read
	case boot == nil:
		o.boot = say("What the next boot will set is not known.")
	case room(*boot) == after:
		o.boot = say("The next boot will set the same limit again.")
	case room(*boot) < after && *boot <= peak:
		o.relapse = after > peak
		o.boot = say("But %s: that will set %s, and the peak was %s.", stressed("only until the next boot"), *boot, several(peak, "entry"))
	case room(*boot) < after:
		o.boot = say("The next boot will set less, %s.", *boot)
	default:
		o.boot = say("The next boot will set more, %s.", limit(*boot))
	}
	return o
}

// headroom compares the limit as it is now with the peak.
func (i *Incident) headroom() line {
	after, peak := i.limitNow(), i.PeakCount
	switch {
	case after == 0 && i.Limits.Before > 0:
		return say("Not for this reason: the limit is 0 now, which this kernel takes as none. Memory is the limit then.")
	case after == 0 || peak == 0:
		return say("Not known: the limit could not be read.")
	case after <= peak:
		return say("Yes, with the next such load: the limit is %s, and the table held %s.", after, peak)
	case after < 2*peak:
		return say("It may: the limit is %s now, and the peak would fill %s of it. A full table hides how many more there would have been.", after, percent(float64(peak)/float64(after)))
	}
	return say("Not at this load: the limit is %s now, and the peak would fill %s of it.", after, percent(float64(peak)/float64(after)))
}

// who is a writer of a limit: who that is, its process, and the names of its task and unit where they say more.
func who(w record.Writer) line {
	if w.PID == 0 && w.Comm == "" {
		return say("somebody whom nobody saw")
	}
	l := say("%s (pid %s", culprit(w), plainNumber(uint64(max(0, w.PID))))
	for _, s := range []string{w.Comm, w.Unit} {
		if s != "" && s != rival.Of(w).Name {
			l = say("%s, %s", l, named(s))
		}
	}
	return append(l, span{Text: ")"})
}

// culprit is a writer by the name that people know it by.
func culprit(w record.Writer) line {
	if w.PID == 0 && w.Comm == "" {
		return say("whoever did it")
	}
	n := rival.Of(w).Name
	if n != w.Comm && strings.Contains(n, " ") { // words of our own, such as "a person"
		return say("%s", n)
	}
	return line{named(n)}
}
