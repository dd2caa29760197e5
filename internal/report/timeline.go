package report

import (
	"slices"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// actionsOf are the actions from shortly before an incident until shortly after.
func (r *Report) actionsOf(i *Incident) []*record.Action {
	var of []*record.Action
	from, to := i.Started.Add(-time.Minute), i.end().Add(time.Minute)
	for n := range r.Actions {
		if a := &r.Actions[n]; !a.Time.Before(from) && !a.Time.After(to) {
			of = append(of, a)
		}
	}
	return of
}

// changesOf are the changes of limits in an incident: its own, or those on record from shortly before until its end.
func (r *Report) changesOf(i *Incident) []record.Change {
	if len(i.Changes) > 0 {
		return i.Changes
	}
	var of []record.Change
	from, to := i.Started.Add(-time.Minute), i.end().Add(time.Minute)
	for _, l := range r.Limits {
		if !l.Time.Before(from) && !l.Time.After(to) {
			of = append(of, record.Change{Time: l.Time, Key: l.Key, From: l.From, To: l.To, Writer: l.Writer})
		}
	}
	return of
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

// acted is an action in words.
func acted(a *record.Action) line {
	what := line{{Text: a.What}}
	switch a.What {
	case "raise_max":
		what = say("%s from %s to %s", typed(conntrack.KeyMax), a.From, a.To)
	case "raise_buckets":
		what = say("%s from %s to %s", typed(conntrack.KeyBuckets), a.From, a.To)
	case "persist":
		what = say("the limit of %s, to be set at each boot", a.To)
	case "undo":
		what = say("back from %s to %s", a.From, a.To)
	case "hook":
		what = say("the operator's hook")
	}
	var l line
	switch a.Result {
	case "applied":
		l = say("ctwatch set %s", what)
		if a.What == "hook" {
			l = say("ctwatch ran %s", what)
		}
	case "dry_run":
		l = say("ctwatch would have set %s", what)
	case "refused":
		l = say("ctwatch refused to set %s", what)
	case "yielded":
		l = say("ctwatch left it to the administrator to set %s", what)
	case "failed":
		l = say("ctwatch failed to set %s", what)
	default:
		l = say("ctwatch: %s, %s", what, a.Result)
	}
	if a.Latency > 0 && a.Result == "applied" {
		l = append(l, say(", %s after it was needed", duration(time.Duration(a.Latency)))...)
	}
	if a.Why == "" {
		return append(l, span{Text: "."})
	}
	return append(l, say(": %s", sentenceTail(a.Why))...)
}

// sentenceTail ends a sentence with others' words.
func sentenceTail(s string) string {
	s = strings.TrimRight(strings.TrimSpace(s), ".")
	return s + "."
}

// timeline is the incident in the order of its times.
func (r *Report) timeline(i *Incident, c clock, x extent) block {
	fine := i.Duration < (10 * time.Second).Nanoseconds()
	type at struct {
		time  time.Time
		order int // of what has one time
		event
	}
	var all []at
	add := func(t time.Time, order int, alarm bool, l line) {
		when := c.time(t, fine)
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
	for n, ch := range r.changesOf(i) {
		if n == x.events {
			add(ch.Time, 4, false, say("And %s more changes of limits.", uint64(len(r.changesOf(i))-n)))
			break
		}
		add(ch.Time, 4, false, changed(ch))
	}
	for n, a := range r.actionsOf(i) {
		if n == x.events {
			add(a.Time, 5, false, say("And %s more actions.", uint64(len(r.actionsOf(i))-n)))
			break
		}
		add(a.Time, 5, false, acted(a))
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
