package report

import (
	"slices"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/rival"
)

// done is what ctwatch did about an incident, what others did to the limits, and whether it lasts.
func (r *Report) done(i *Incident, c clock, x extent) []block {
	all := r.deedsOf(i)
	var list []line
	for _, d := range all {
		if len(list) == x.events {
			list = append(list, say("And %s more actions (--format json has them all).", uint64(len(all)-x.events)))
			break
		}
		list = append(list, say("%s: %s", c.time(d.Time, i.brief()), d.told(i, c, true)))
	}
	if all.idle() {
		list = append(list, say("ctwatch did nothing about limits: no such action is on record."))
	}
	blocks := []block{{List: list}}
	if all.find(record.ResultApplied, record.ActionRaiseMax, record.ActionRaiseBuckets) != nil {
		blocks = append(blocks, block{Text: sentences(i.lasts(), say("To take the last change back: %s.", typed("ctwatch limit undo")))})
	}
	if d := all.find(record.ResultYielded, record.ActionRaiseMax); d != nil {
		if l := r.truce(i, d); len(l) > 0 {
			blocks = append(blocks, block{Text: l})
		}
	}
	changes := r.othersOf(i)
	if len(changes) == 0 {
		return blocks
	}
	var others block
	for n, ch := range changes {
		if n == x.events {
			others.List = append(others.List, say("And %s more changes of limits.", uint64(len(changes)-n)))
			break
		}
		others.List = append(others.List, say("%s: %s", c.time(ch.Time, i.brief()), changed(ch)))
	}
	return append(blocks, block{Text: say("Changed by others:")}, others)
}

// lasts says whether the limit as it is survives a reboot.
func (i *Incident) lasts() line {
	boot := i.nextBoot()
	switch {
	case boot == nil:
		return say("Whether the limit survives a reboot is not known.")
	case room(*boot) >= room(i.limitNow()):
		return say("The limit survives a reboot: the next boot sets %s.", limit(*boot))
	}
	return say("The limit does %s survive a reboot: the next boot sets %s. To have it stay: %s.", stressed("not"), limit(*boot), typed("ctwatch limit persist"))
}

// nextBoot is the limit that the next boot will set, as last known; nil is not known.
func (i *Incident) nextBoot() *uint64 {
	if i.written != nil {
		return i.written
	}
	return i.Limits.NextBoot
}

// truce says to whom ctwatch yielded, and what ends it, where the reason on record does not.
func (r *Report) truce(i *Incident, d *deed) line {
	l := say("ctwatch yields until %s is run, or ctwatch is started again.", typed("ctwatch limit resume"))
	ch := r.lowering(i, d.last.Time)
	if ch == nil {
		return l
	}
	setting := rival.Of(ch.Writer).Setting
	if strings.Contains(d.Why, setting) {
		return nil
	}
	return sentences(say("What ends the quarrel with %s: %s", culprit(ch.Writer), tail(setting)), l)
}

// lowering is the last change before a time that lowered max, of somebody else; nil if none is on record.
func (r *Report) lowering(i *Incident, before time.Time) *record.Change {
	all := slices.Clone(i.Changes)
	for _, l := range r.Limits {
		all = append(all, record.Change{Time: l.Time, Key: l.Key, From: l.From, To: l.To, Writer: l.Writer})
	}
	var last *record.Change
	for n := range all {
		ch := &all[n]
		if ch.Key == conntrack.KeyMax && room(ch.To) < room(ch.From) && !ch.Time.After(before) && rival.Of(ch.Writer).By != rival.BySelf &&
			(last == nil || !ch.Time.Before(last.Time)) {
			last = ch
		}
	}
	return last
}

// did is in short what ctwatch did about an incident; nil where it did nothing about the limit.
func (r *Report) did(i *Incident) line {
	all := r.deedsOf(i)
	var l line
	raised := all.find(record.ResultApplied, record.ActionRaiseMax)
	if raised != nil {
		who := "ctwatch"
		if raised.ordered() {
			who = "An operator"
		}
		l = say("%s raised the limit from %s to %s%s.", who, stressed(limit(raised.From)), stressed(limit(raised.To)), i.beside(raised.Action))
	}
	if d := all.find(record.ResultYielded, record.ActionRaiseMax); d != nil {
		to := say("whoever had lowered it")
		if ch := r.lowering(i, d.last.Time); ch != nil {
			to = say("%s, which had lowered it from %s to %s", culprit(ch.Writer), limit(ch.From), limit(ch.To))
		}
		return sentences(l, say("ctwatch %s to %s.", stressed("yielded"), to))
	}
	d := all.raise()
	if d == nil || raised != nil {
		return l
	}
	switch d.Result {
	case record.ResultDryRun:
		return say("On trial only, ctwatch would have raised the limit from %s to %s.", limit(d.From), limit(d.To))
	case record.ResultRefused:
		return say("ctwatch %s to raise the limit: why is told below.", stressed("refused"))
	case record.ResultFailed:
		return say("ctwatch tried to raise the limit to %s, and %s.", limit(d.To), stressed("failed"))
	}
	return nil
}

// healing says whether ctwatch stands ready to act.
func (r *Report) healing(i *Incident) line {
	d := r.deedsOf(i).raise()
	if d == nil {
		return say("ctwatch did not act on the limit: no such action is on record.")
	}
	switch d.Result {
	case record.ResultApplied:
		if d.ordered() {
			return say("An operator raised the limit. Whether ctwatch would have is not on record.")
		}
		return say("Remediation is on: ctwatch raises the limit while there is reason to.")
	case record.ResultDryRun:
		return say("Remediation is on trial: ctwatch writes down what it would do, and does nothing.")
	case record.ResultYielded:
		return say("Remediation has yielded: ctwatch will not raise the limit by itself.")
	case record.ResultRefused:
		return say("Remediation is on, and ctwatch refused to raise the limit.")
	}
	return say("Remediation is on, and ctwatch could not raise the limit.")
}

// elsewhere is what was done outside of incidents.
func (r *Report) elsewhere(c clock) block {
	covered := func(match func(*Incident) bool) bool {
		for n := range r.Incidents {
			if match(&r.Incidents[n]) {
				return true
			}
		}
		return false
	}
	type at struct {
		time time.Time
		text line
	}
	var all []at
	for n := range r.Limits {
		l := &r.Limits[n]
		ch := record.Change{Time: l.Time, Key: l.Key, From: l.From, To: l.To, Writer: l.Writer}
		if !r.didIt(ch) && !covered(func(i *Incident) bool { return i.covers(l.Time) }) {
			all = append(all, at{l.Time, changed(ch)})
		}
	}
	var today []*record.Action
	gathered := func() {
		for _, d := range gather(today) {
			all = append(all, at{d.Time, d.told(nil, c, true)})
		}
		today = today[:0]
	}
	for n := range r.Actions {
		a := &r.Actions[n]
		if covered(func(i *Incident) bool { return i.concerns(a) }) {
			continue
		}
		if len(today) > 0 && !c.sameDay(today[0].Time, a.Time) {
			gathered()
		}
		today = append(today, a)
	}
	gathered()
	slices.SortStableFunc(all, func(a, b at) int { return a.time.Compare(b.time) })
	var b block
	for _, e := range all[:min(len(all), 50)] {
		b.Timeline = append(b.Timeline, event{Time: c.moment(e.time), Text: e.text})
	}
	if n := len(all) - len(b.Timeline); n > 0 {
		b.Timeline = append(b.Timeline, event{Text: say("and %s more (--format json has them all)", uint64(n))})
	}
	return b
}
