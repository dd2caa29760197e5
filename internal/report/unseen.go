package report

import (
	"fmt"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// unseen collects what the records do not tell.
type unseen struct {
	list   []Unseen
	more   map[string]*Unseen // what no room was left for, by kind
	counts map[string]int
	lost   uint64
	missed uint64
}

func (u *unseen) add(n Unseen) {
	if u.counts == nil {
		u.counts, u.more = map[string]int{}, map[string]*Unseen{}
	}
	if u.counts[n.Why]++; u.counts[n.Why] <= maxUnseen {
		u.list = append(u.list, n)
		return
	}
	m := u.more[n.Why]
	if m == nil {
		m = &Unseen{Why: n.Why}
		u.more[n.Why] = m
	}
	m.Count++
	m.Duration += n.Duration
}

// stretch notes a stretch of time, as far as it is in the window.
func (u *unseen) stretch(b *builder, why string, from, to time.Time, length time.Duration) {
	if to.Before(b.o.Since) || from.After(b.o.Until) {
		return
	}
	from, to = later(from, b.o.Since), earlier(to, b.o.Until)
	length = max(0, min(length, to.Sub(from)))
	if length == 0 {
		return
	}
	u.add(Unseen{Why: why, From: &from, To: &to, Duration: length.Nanoseconds(), Text: fmt.Sprintf(stretchText(why), duration(length))})
}

func stretchText(why string) string {
	switch why {
	case record.GapSuspend:
		return "The machine was suspended for %s."
	case record.GapBlind:
		return "The program was blind for %s: the kernel's counters went on, so the totals hold, but causes and packets are missing."
	case record.GapRestart:
		return "Conntrack was not loaded, or was loaded again, for %s."
	case record.GapJournal:
		return "The journal lacks records from a stretch of %s: there was no room, or no disk, for them."
	case UnseenNotRunning:
		return "No daemon ran for %s: what was refused then is not counted."
	case UnseenSilent:
		return "No record was kept for %s, although a daemon may have run."
	}
	return "The records have a gap of %s."
}

// idle notes that no daemon ran since the last one ended, or since the window began.
func (u *unseen) idle(b *builder, until time.Time, boot int64) {
	from, length := b.idle.wall, until.Sub(b.idle.wall)
	if from.IsZero() {
		from, length = b.o.Since, until.Sub(b.o.Since)
	} else if boot > b.idle.boot { // the same boot: the clock may have been set meanwhile
		length = time.Duration(boot - b.idle.boot)
	}
	u.stretch(b, UnseenNotRunning, from, until, length)
	b.r.fill.darken(from.Sub(b.o.Since).Nanoseconds(), until.Sub(b.o.Since).Nanoseconds())
}

func (u *unseen) clock(b *builder, g *record.Gap, step time.Duration) {
	if !b.in(g.Time) && !b.in(g.From) {
		return
	}
	way := "forward"
	if step < 0 {
		way = "back"
	}
	from, to := g.From, g.To
	u.add(Unseen{Why: g.Why, From: &from, To: &to,
		Text: fmt.Sprintf("The wall clock was set %s by about %s. Durations here go by a clock that nobody sets.", way, duration(step.Abs()))})
}

func (u *unseen) crash(r *run) {
	at := r.wall
	u.add(Unseen{Why: UnseenCrash, From: &at,
		Text: "The daemon ended without saying so: what was refused after its last record is not counted."})
}

// finish adds what is no stretch of time.
func (u *unseen) finish(r *Report, d Damage) []Unseen {
	list := append([]Unseen{}, u.list...)
	for _, why := range []string{record.GapSuspend, record.GapClock, record.GapBlind, record.GapRestart, record.GapJournal, UnseenNotRunning, UnseenSilent, UnseenCrash} {
		if m := u.more[why]; m != nil {
			m.Text = fmt.Sprintf("And %s more such times (%s), %s in all.", number(m.Count), why, duration(time.Duration(m.Duration)))
			list = append(list, *m)
		}
	}
	for _, c := range []struct {
		why       string
		n         uint64
		one, more string
	}{
		{UnseenUnattributed, r.Unattributed, "The kernel counted 1 refused packet that the program did not see: where, who and why are not known of it.",
			"The kernel counted %s refused packets that the program did not see: where, who and why are not known of them."},
		{UnseenSamples, u.lost, "1 refused packet was counted and could not be shown: it may be missing among those who suffered.",
			"%s refused packets were counted and could not be shown: they may be missing among those who suffered."},
		{UnseenMissed, u.missed, "The hooks missed 1 call: nothing that was counted, but its cause is a conclusion.",
			"The hooks missed %s calls: nothing that was counted, but some causes are conclusions."},
		{UnseenLost, d.Lost, "1 record did not reach the journal. Counts go on in the records after it.",
			"%s records did not reach the journal. Counts go on in the records after them."},
		{UnseenDamaged, d.Lines, "1 line of the journal could not be read. It is left as it is.",
			"%s lines of the journal could not be read. They are left as they are."},
		{UnseenUnread, d.Unread, "1 file of the journal could not be read, or not to its end: what it tells is missing.",
			"%s files of the journal could not be read, or not to their end: what they tell is missing."},
		{UnseenUnknown, d.Unknown, "1 record is of a kind that this version of ctwatch does not know, and is left out.",
			"%s records are of kinds that this version of ctwatch does not know, and are left out."},
	} {
		if c.n == 0 {
			continue
		}
		text := c.one
		if c.n > 1 {
			text = fmt.Sprintf(c.more, number(c.n))
		}
		list = append(list, Unseen{Why: c.why, Count: c.n, Text: text})
	}
	return list
}
