package report

import (
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// chapters is all that there is to say of one incident.
func (r *Report) chapters(i *Incident, c clock, x extent) []section {
	all := []section{
		{Title: say("Impact"), Blocks: r.impact(i, x)},
		{Title: say("Timeline"), Blocks: []block{r.timeline(i, c, x)}},
		{Title: say("Why"), Blocks: i.evidence()},
		{Title: say("Who filled the table"), Blocks: i.fillers(c, x)},
		{Title: say("True loss and the kernel log"), Blocks: []block{{Text: i.logged()}}},
		{Title: say("What did ctwatch do?"), Blocks: r.done(i, c, x)},
		{Title: say("Will it come back?"), Blocks: r.comeback(i)},
		{Title: say("What to do next"), Blocks: []block{{Steps: r.stepsFor(i)}}},
	}
	for n := range all {
		all[n].ID = slug(all[n].Title.String()) + "-" + i.ID
	}
	return all
}

func slug(s string) string {
	return strings.Trim(strings.ReplaceAll(strings.ToLower(s), " ", "-"), "?")
}

func (r *Report) impact(i *Incident, x extent) []block {
	refused := say("%s", several(i.refused(), "packet"))
	if i.refused() > 0 {
		refused = say("%s (%s)", several(i.refused(), "packet"), typed(i.Cause.String()))
	}
	facts := []fact{{"Refused", refused}}
	if i.Unattributed > 0 {
		facts = append(facts, fact{"Beyond these", say("%s that the kernel counted and the program did not see", several(i.Unattributed, "packet"))})
	}
	facts = append(facts, fact{"Over", say("%s", duration(time.Duration(i.Duration)))})
	if i.PeakDropRate > 0 {
		facts = append(facts, fact{"Highest rate", say("%s", rate(i.PeakDropRate))})
	}
	if i.Above95 > 0 {
		facts = append(facts, fact{"At least 95 % full", say("for %s", duration(time.Duration(i.Above95)))})
	}
	if i.Evicted > 0 {
		facts = append(facts, fact{"Evicted", say("%s to make room: no packet is lost by it, but the connection has to be tracked anew", several(i.Evicted, "entry"))})
	}
	where := i.place()
	if i.Name != "" && !i.Host {
		where = say("%s, net:[%s]", where, plainNumber(i.NS))
	}
	facts = append(facts, fact{"Where", where})
	if i.Owner != "" {
		facts = append(facts, fact{"Whose", line{named(i.Owner)}})
	}
	blocks := []block{{Facts: facts}}
	s := i.Sufferers
	switch {
	case s == nil && i.refused() > 0:
		return append(blocks, block{Text: say("Who suffered is not known: none of the refused packets was looked at.")})
	case s == nil:
		return blocks
	}
	blocks = append(blocks, block{Text: say("Who suffered, by %s of the refused packets that were looked at:", s.Packets)})
	return append(blocks, rankings([]rank{{"sources", "source", s.Src}, {"destinations", "destination", s.Dst}, {"ports", "port", s.Dport},
		{"interfaces", "interface", s.Ifname}}, func(k rank) grid {
		return ranking("Who suffered: "+k.caption, k.column, "packets", k.rows, x.rows, false, false)
	})...)
}

// logged sets the true loss beside what the kernel log let through.
func (i *Incident) logged() line {
	n := i.loss()
	switch {
	case i.LoggedLines == nil:
		return say("The kernel log could not be read. (It would have carried a few lines a second at most.)")
	case i.Cause != conntrack.TableFull:
		return say("%s, and the kernel logs nothing for this cause.", i.lost())
	case n == 0:
		return say("%s about this table.", logLines(*i.LoggedLines))
	case *i.LoggedLines == 0:
		return say("%s. The kernel log carried %s about it.", i.lost(), stressed("no line"))
	}
	return say("%s. The kernel log carried %s about it: one for each %s packets.", i.lost(),
		stressed(several(*i.LoggedLines, "line")), max(1, n / *i.LoggedLines))
}

// lost is what was refused, as the beginning of a sentence.
func (i *Incident) lost() line {
	n, verb := i.loss(), "were"
	if n == 1 {
		verb = "was"
	}
	return say("%s %s refused", stressed(several(n, "packet")), verb)
}

func logLines(n uint64) string {
	if n == 0 {
		return "The kernel log carried no line"
	}
	return "The kernel log carried " + several(n, "line")
}

// causeWords say what the kernel does, as docs/causes.md has it at length.
var causeWords = [conntrack.NumCauses]string{
	conntrack.TableFull:    "the namespace's count was over nf_conntrack_max, and the kernel found no entry that it might evict.",
	conntrack.Clash:        "when the new entry was to be inserted, another with the same tuple was there already, and the two could not be merged.",
	conntrack.ChainTooLong: "the new entry's hash chain was longer than the kernel allows. Nothing is logged of it.",
	conntrack.InsertRace:   "the new entry was dying, or its extensions were stale, before its first packet was through.",
	conntrack.AllocFailed:  "there was no memory for the new entry, or for an extension of it.",
	conntrack.Other:        "the kernel's counter of drops moved for another reason, such as sequence numbers that could not be adjusted.",
}

func (i *Incident) evidence() []block {
	var blocks []block
	if v := sentence(i.Verdict); len(v) > 0 {
		blocks = append(blocks, block{Lead: v})
	}
	words := causeWords[i.Cause]
	switch {
	case i.VerdictKind == record.VerdictUnseen:
		words = "the kernel's counters show refusals, on a path that the program does not see."
	case i.loss() == 0 && i.Evicted > 0:
		words = "the table was full, or nearly so, and the kernel evicted entries to make room. No packet was refused."
	case i.loss() == 0:
		words = "the table was nearly full. No packet was refused."
	}
	blocks = append(blocks, block{Text: say("The cause is %s: %s", typed(i.Cause.String()), words)})
	for _, l := range []struct {
		title   string
		lines   []string
		figures bool
	}{{"This rests on:", i.Reasons, true}, {"Helps:", i.Helps, false}, {"Does not help:", i.HelpsNot, false}} {
		if len(l.lines) == 0 {
			continue
		}
		b := block{List: make([]line, 0, len(l.lines))}
		for _, s := range l.lines {
			if l.figures {
				s = grouped(s)
			}
			b.List = append(b.List, sentence(s))
		}
		blocks = append(blocks, block{Text: line{stressed(l.title)}}, b)
	}
	return blocks
}

func (r *Report) comeback(i *Incident) []block {
	o := r.outlook(i)
	facts := []fact{
		{"Limit before", say("%s", limit(i.Limits.Before))},
		{"Limit after", say("%s", limit(i.Limits.After))},
	}
	if i.Limits.Before == 0 && i.Limits.After == 0 {
		facts = nil
	} else {
		persisted := say("no file sets it")
		if p := i.Limits.Persisted; p != nil {
			persisted = say("%s", limit(*p))
		}
		boot := say("not known")
		if n := i.nextBoot(); n != nil {
			boot = say("%s", limit(*n))
		}
		if i.Limits.Why != "" {
			boot = say("%s (%s)", boot, i.Limits.Why)
		}
		facts = append(facts, fact{"On disk", persisted}, fact{"At the next boot", boot})
		if now := i.limitNow(); now != i.Limits.After {
			facts = append(facts, fact{"Limit now", say("%s", limit(now))})
		}
		if now := i.limitNow(); now > 0 && i.PeakCount > 0 {
			facts = append(facts, fact{"Peak", say("%s, %s of the limit now", several(i.PeakCount, "entry"), percent(float64(i.PeakCount)/float64(now)))})
		}
	}
	blocks := []block{{Lead: o.answer}}
	if len(facts) > 0 {
		blocks = append(blocks, block{Facts: facts})
	}
	return append(blocks, block{Text: sentences(o.boot, o.healing)})
}
