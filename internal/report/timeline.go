package report

import (
	"slices"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/rival"
)

// changesOf are the changes of limits in an incident: its own, or those on record from shortly before until its end.
func (r *Report) changesOf(i *Incident) []record.Change {
	if len(i.Changes) > 0 {
		return i.Changes
	}
	var all []record.Change
	for _, l := range r.Limits {
		if i.covers(l.Time) {
			all = append(all, record.Change{Time: l.Time, Key: l.Key, From: l.From, To: l.To, Writer: l.Writer})
		}
	}
	return all
}

// othersOf are the changes in an incident but for those that are deeds.
func (r *Report) othersOf(i *Incident) []record.Change {
	return slices.DeleteFunc(slices.Clone(r.changesOf(i)), func(ch record.Change) bool { return r.didIt(ch) })
}

// didIt reports whether a change is what an action on record tells of.
func (r *Report) didIt(ch record.Change) bool {
	if rival.Of(ch.Writer).By != rival.BySelf {
		return false
	}
	return slices.ContainsFunc(r.Actions, func(a record.Action) bool {
		return a.Result == record.ResultApplied && a.From == ch.From && a.To == ch.To && a.Time.Sub(ch.Time).Abs() < 5*time.Second
	})
}

func changed(ch record.Change) line {
	verb := "raised"
	if room(ch.To) < room(ch.From) {
		verb = "lowered"
	}
	return say("%s %s %s from %s to %s.", upper(who(ch.Writer)), verb, typed(ch.Key), ch.From, limit(ch.To))
}

func upper(l line) line {
	l = slices.Clone(l)
	if len(l) > 0 && l[0].Kind == plain && l[0].Text != "" {
		l[0].Text = strings.ToUpper(l[0].Text[:1]) + l[0].Text[1:]
	}
	return l
}

// timeline is the incident in the order of its times.
func (r *Report) timeline(i *Incident, c clock, x extent) block {
	type at struct {
		time  time.Time
		order int // of what has one time
		event
	}
	var all []at
	add := func(t time.Time, order int, alarm bool, l line) {
		when := c.time(t, i.brief())
		if !c.sameDay(t, i.Started) {
			when = c.moment(t)
		}
		all = append(all, at{t, order, event{when, l, alarm}})
	}
	opened := say("The incident opened")
	switch i.Trigger {
	case record.TriggerDrop:
		opened = say("The first packet was refused: the incident opened.")
	case record.TriggerUnattributed:
		opened = say("The kernel's counters told of refused packets that the program did not see: the incident opened.")
	case record.TriggerEvicted:
		opened = say("Entries were evicted to make room: the incident opened.")
	case record.TriggerFill:
		opened = say("The table stayed nearly full: the incident opened.")
	default:
		opened = append(opened, span{Text: "."})
	}
	add(i.Started, 1, true, opened)
	// Where packets were refused because the table was full, it was so from the first one on.
	if i.PeakTime != nil && i.PeakCount > 0 && (i.Cause != conntrack.TableFull || i.refused() == 0) {
		t := later(*i.PeakTime, i.Started)
		if !t.After(i.end()) {
			add(t, 2, false, say("The table held %s, the most (%s of the limit of that time).", several(i.PeakCount, "entry"), percent(i.PeakFill)))
		}
	}
	if f := i.Fillers; f != nil {
		add(f.Time, 3, false, say("ctwatch looked at %s to see who fills the table.", several(f.Walked, "entry")))
	}
	changes := r.othersOf(i)
	for n, ch := range changes {
		if n == x.events {
			add(ch.Time, 4, false, say("And %s more changes of limits.", uint64(len(changes)-n)))
			break
		}
		add(ch.Time, 4, false, changed(ch))
	}
	done := r.deedsOf(i)
	for n, d := range done {
		if n == x.events {
			add(d.Time, 5, false, say("And %s more actions.", uint64(len(done)-n)))
			break
		}
		add(d.Time, 5, false, d.told(i, c, false))
	}
	end := i.end()
	switch {
	case i.Interrupted:
		add(end, 6, true, say("The last that is known: ctwatch ended while the incident was open."))
	case i.open():
		add(later(end, r.Until), 6, true, say("The window ended while the incident was open."))
	default:
		add(end, 6, false, say("The last thing happened; %s.", closedWhy(i.Closed)))
	}
	slices.SortStableFunc(all, func(a, b at) int {
		if d := a.time.Compare(b.time); d != 0 {
			return d
		}
		return a.order - b.order
	})
	var b block
	for _, e := range all {
		b.Timeline = append(b.Timeline, e.event)
	}
	return b
}

// brief reports whether the incident was so short that seconds do not tell its times apart.
func (i *Incident) brief() bool { return i.Duration < (10 * time.Second).Nanoseconds() }

func closedWhy(closed string) string {
	switch closed {
	case record.ClosedGone:
		return "the incident was closed as the namespace was gone"
	case record.ClosedStop:
		return "the incident was closed as ctwatch stopped"
	case record.ClosedUnloaded:
		return "the incident was closed as conntrack was unloaded"
	}
	return "the incident was closed after it had been quiet for some time"
}
