package report

import (
	"slices"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// deed is what ctwatch did, or was kept from doing, however often for the same reason. It holds the first of these actions.
type deed struct {
	*record.Action
	times uint64
	last  *record.Action
}

// deeds are in the order in which they were first done.
type deeds []deed

// beside is how long before and after an incident what was done belongs to it.
const beside = time.Minute

// deedsOf are those about an incident.
func (r *Report) deedsOf(i *Incident) deeds {
	var all []*record.Action
	for n := range r.Actions {
		if a := &r.Actions[n]; i.concerns(a) {
			all = append(all, a)
		}
	}
	return gather(all)
}

// concerns reports whether an action belongs to the incident: by time, and by namespace where it was for one. What was done
// to the limits belongs to every incident of that time, for all namespaces share them.
func (i *Incident) concerns(a *record.Action) bool {
	if !i.covers(a.Time) {
		return false
	}
	return a.NS == 0 || a.NS == i.NS && a.Cookie == i.Cookie || a.What != record.ActionHook && a.Result == record.ResultApplied
}

// covers reports whether a time is that of the incident, or shortly before or after.
func (i *Incident) covers(t time.Time) bool {
	return !t.Before(i.Started.Add(-beside)) && !t.After(i.end().Add(beside))
}

// gather joins actions that are the same but for their figures.
func gather(all []*record.Action) deeds {
	type likeness struct {
		what, result, why string
		ns, cookie        uint64
		from, to          uint64
	}
	at := map[likeness]int{}
	var out deeds
	for _, a := range all {
		like := likeness{what: a.What, result: a.Result}
		if a.What != record.ActionHook {
			like.ns, like.cookie, like.why = a.NS, a.Cookie, figureless(a.Why)
		}
		if a.Result == record.ResultApplied {
			like.from, like.to = a.From, a.To
		}
		n, again := at[like]
		if !again {
			n = len(out)
			at[like] = n
			out = append(out, deed{Action: a})
		}
		out[n].times++
		out[n].last = a
	}
	return out
}

// figureless is a text without its figures.
func figureless(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '.' || r == ',' {
			return -1
		}
		return r
	}, s)
}

// find returns the last of these kinds with this result; nil if there is none.
func (all deeds) find(result string, whats ...string) *deed {
	for n := len(all) - 1; n >= 0; n-- {
		if all[n].Result == result && slices.Contains(whats, all[n].What) {
			return &all[n]
		}
	}
	return nil
}

// raise is the last that was to raise max, whatever became of it; nil if there is none.
func (all deeds) raise() *deed {
	for n := len(all) - 1; n >= 0; n-- {
		if all[n].What == record.ActionRaiseMax {
			return &all[n]
		}
	}
	return nil
}

// idle reports whether none of them is about limits.
func (all deeds) idle() bool {
	return !slices.ContainsFunc(all, func(d deed) bool { return d.What != record.ActionHook })
}

// ordered reports whether an operator's command did it: no table gave rise to it.
func (d *deed) ordered() bool {
	return d.Result == record.ResultApplied && d.NS == 0 && (d.What == record.ActionRaiseMax || d.What == record.ActionRaiseBuckets)
}

// told is a deed in words: what, when beside the first loss, how often, and, if full, why. i may be nil.
func (d *deed) told(i *Incident, c clock, full bool) line {
	l := d.what()
	if d.NS != 0 && d.What != record.ActionHook && (i == nil || d.NS != i.NS || d.Cookie != i.Cookie) {
		l = say("%s (for %s)", l, nsName(d.Name, d.NS, false))
	}
	raised := d.Result == record.ResultApplied && (d.What == record.ActionRaiseMax || d.What == record.ActionRaiseBuckets)
	if raised && i != nil {
		l = append(l, i.beside(d.Action)...)
	}
	if raised && d.What == record.ActionRaiseBuckets && d.Took > 0 {
		l = say("%s; all tracked traffic waited for it, for at most %s", l, duration(time.Duration(d.Took)))
	}
	again := d.times > 1 && d.What != record.ActionHook
	if again {
		l = say("%s (%s, the last time at %s)", l, several(d.times, "time"), c.time(d.last.Time, false))
	}
	l = append(l, span{Text: "."})
	if !full || strings.TrimSpace(d.Why+d.last.Why) == "" {
		return l
	}
	if d.What == record.ActionHook {
		return sentences(l, say("The last time: %s", tail(d.last.Why)))
	}
	return sentences(l, say("Why: %s", tail(grouped(d.Why))))
}

// what is what was done to what.
func (d *deed) what() line {
	key := typed(conntrack.KeyMax)
	if d.What == record.ActionRaiseBuckets {
		key = typed(conntrack.KeyBuckets)
	}
	step := say("%s from %s to %s", key, limit(d.From), limit(d.To))
	if d.To == 0 || d.To == d.From {
		step = say("%s, which was %s", key, limit(d.From))
	}
	var words [5]string // in the order of record.Results()
	switch d.What {
	case record.ActionRaiseMax, record.ActionRaiseBuckets:
		words = [5]string{"ctwatch raised %s", "On trial only, ctwatch would have raised %s", "ctwatch refused to raise %s", "ctwatch yielded, and did not raise %s", "ctwatch tried to raise %s, and failed"}
		if d.ordered() {
			words[0] = "An operator raised %s"
		}
		if d.To > 0 && d.To < d.From {
			words[3] = "ctwatch yielded to whoever lowered %s"
		}
	case record.ActionPersist:
		step = say("the limit of %s", limit(d.To))
		if d.To == 0 {
			step = say("the limits")
		}
		const files = " into files of the machine, for the next boots"
		words = [5]string{"ctwatch wrote %s" + files, "On trial only, ctwatch would have written %s" + files, "ctwatch refused to write %s" + files,
			"ctwatch yielded, and did not write %s" + files, "ctwatch tried to write %s" + files + ", and failed"}
	case record.ActionUndo:
		words = [5]string{"The last change was taken back: %s", "On trial only, ctwatch would have taken the last change back: %s", "ctwatch refused to take the last change back: %s",
			"ctwatch yielded, and did not take the last change back: %s", "ctwatch tried to take the last change back, and failed: %s"}
	case record.ActionHook:
		step = say("%s", several(d.times, "time"))
		words = [5]string{"The operator's hook ran %s", "On trial only, the operator's hook would have run %s", "The operator's hook was not run, %s",
			"ctwatch yielded, and did not run the operator's hook, %s", "The operator's hook failed %s"}
	}
	if n := slices.Index(record.Results(), d.Result); n >= 0 && n < len(words) && words[n] != "" {
		return say(words[n], step)
	}
	return say("ctwatch: %s, %s", d.What, d.Result)
}

// beside says when something was done, measured from the first loss.
func (i *Incident) beside(a *record.Action) line {
	first := i.firstLoss()
	switch {
	case i.loss() == 0:
		return say(", and no packet was refused")
	case first == nil:
		return nil
	case a.Time.Before(*first) && i.exactLoss():
		return say(", %s before the first packet was refused", duration(first.Sub(a.Time)))
	case a.Time.Before(*first):
		return say(", before the first packet was refused")
	}
	after := a.Time.Sub(*first)
	// The action's own figure is exact where it was the first loss that gave rise to it.
	if own := time.Duration(a.Latency); own > 0 && (after-own).Abs() < 50*time.Millisecond {
		after = own
	}
	return say(", %s after the first packet was refused", duration(after))
}

// firstLoss is when the first packet was refused; nil if none was, or none tells.
func (i *Incident) firstLoss() *time.Time {
	if i.exactLoss() {
		return &i.Started
	}
	return i.lossAt
}

// exactLoss reports whether the incident began with the first packet that was refused: then the time is exact.
func (i *Incident) exactLoss() bool { return i.Trigger == record.TriggerDrop }
