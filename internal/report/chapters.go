package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// extent is how much a format shows.
type extent struct {
	incidents int // in detail; the largest ones
	overview  int // rows of the overview
	rows      int // of a ranking
	events    int // of a timeline
}

func (r *Report) document(c clock, x extent) *document {
	d := &document{Kind: "Conntrack post-mortem", Chart: nil}
	d.Headline = r.headline()
	d.Title = "Conntrack post-mortem: " + d.Headline.String()
	d.Under = r.under(c)
	d.Foot = r.foot(c)
	d.Few = len(r.Incidents) <= 10
	switch len(r.Incidents) {
	case 0:
		r.calm(d, c)
	case 1:
		i := &r.Incidents[0]
		d.Lead = sentences(r.summary(i, c), r.remainder())
		d.Figures = i.figures()
		d.Chart = i.chart(r, c)
		d.Sections = r.chapters(i, c, x)
	default:
		r.several(d, c, x)
	}
	if b := r.elsewhere(c); len(b.Timeline) > 0 && !r.asked {
		title := "Changes and actions"
		if len(r.Incidents) > 0 {
			title = "Changes and actions outside of incidents"
		}
		d.Sections = append(d.Sections, section{ID: "changes", Title: say("%s", title), Blocks: []block{b}})
	}
	d.Sections = append(d.Sections, r.unseenChapter(c))
	return d
}

func (r *Report) headline() line {
	total := r.Totals.Total()
	switch len(r.Incidents) {
	case 0:
		switch {
		case r.Watched == 0 && r.Samples == 0:
			return say("Nobody was watching")
		case total > 0:
			return say("%s refused, and no incident", several(total, "packet"))
		case r.Unattributed > 0:
			return say("%s refused unseen, and no incident", several(r.Unattributed, "packet"))
		}
		return say("Nothing was refused")
	case 1:
		i := &r.Incidents[0]
		switch n := i.refused(); {
		case n > 0:
			return say("%s refused: %s", several(n, "packet"), i.verdictWords())
		case i.Unattributed > 0:
			return say("%s refused: %s", several(i.Unattributed, "packet"), i.verdictWords())
		}
		return say("No packet refused, but a table %s full", percent(i.PeakFill))
	}
	incidents := several(uint64(len(r.Incidents)), "incident")
	switch refused := r.inIncidents(); {
	case refused > 0:
		return say("%s refused in %s", several(refused, "packet"), incidents)
	case r.Unattributed > 0:
		return say("%s refused unseen in %s", several(r.Unattributed, "packet"), incidents)
	}
	return say("%s, no packet refused", incidents)
}

// inIncidents is what was refused in the incidents, also before and after the window.
func (r *Report) inIncidents() uint64 {
	var n uint64
	for i := range r.Incidents {
		n += r.Incidents[i].refused()
	}
	return n
}

// remainder says what was refused in the window, where that is not what was refused in the incidents.
func (r *Report) remainder() line {
	total := r.Totals.Total()
	switch refused := r.inIncidents(); {
	case r.asked || total == refused:
		return nil
	case total > refused:
		return say("Outside of incidents, %s refused in the window.", were(total-refused, "packet"))
	}
	return say("Of these, %s refused in the window itself.", were(total, "packet"))
}

func (r *Report) under(c clock) []line {
	var hosts line
	for i, h := range r.Hosts {
		if i > 0 {
			hosts = append(hosts, span{Text: ", "})
		}
		hosts = append(hosts, named(h))
	}
	window := say("%s, %s", c.stretch(r.Since, r.Until), c.zone(r.Since))
	if len(hosts) == 0 {
		return []line{window}
	}
	return []line{hosts, window}
}

func (r *Report) foot(c clock) []line {
	window := r.Until.Sub(r.Since)
	lines := []line{say("ctwatch watched %s of this window of %s, and took %s.", r.watchedShare(), duration(window), several(r.Samples, "sample"))}
	if r.Others > 0 {
		lines = append(lines, say("%s on record in this window, and not part of this report.", were(uint64(r.Others), "other incident")))
	}
	if n := len(r.Runs); n > 0 {
		run := r.Runs[n-1]
		if run.Version != "" {
			lines = append(lines, say("Counted by ctwatch %s with probe %s on Linux %s. Each packet is counted in the kernel: the figures are no estimates, unless it is said.",
				run.Version, cmp.Or(run.Probe, "none"), run.Kernel))
		}
	}
	return append(lines, say("Times are %s.", c.zone(r.Since)))
}

func (r *Report) watchedShare() string {
	window := r.Until.Sub(r.Since)
	switch {
	case r.Watched == 0:
		return "nothing"
	case window <= 0 || r.Watched >= window.Nanoseconds()-time.Second.Nanoseconds():
		return "all"
	}
	return percent(float64(r.Watched) / float64(window.Nanoseconds()))
}

// calm is for a window without an incident.
func (r *Report) calm(d *document, c clock) {
	switch {
	case r.Watched == 0 && r.Samples == 0:
		d.Lead = say("No daemon ran in this window, so nothing is known of it.")
		return
	case r.Totals.Total() > 0 || r.Unattributed > 0:
		d.Lead = say("No incident is on record in this window, but the samples tell of %s, and of %s that the program did not see.",
			several(r.Totals.Total(), "refused packet"), several(r.Unattributed, "packet"))
	default:
		d.Lead = say("Connection tracking refused no packet while ctwatch watched.")
	}
	if len(r.NetNS) > 0 {
		n := slices.MaxFunc(r.NetNS, func(a, b NetNS) int { return cmp.Compare(fillOf(a), fillOf(b)) })
		if n.PeakFill != nil && n.PeakTime != nil {
			d.Lead = sentences(d.Lead, say("The fullest table was that of %s: %s, at %s.", place(n.Name, n.NS, n.Host), percent(*n.PeakFill), c.moment(*n.PeakTime)))
		}
	}
	d.Lead = sentences(d.Lead, r.inTime(c), say("ctwatch watched %s of the window.", r.watchedShare()))
	d.Figures = []figure{
		{Label: "Packets refused", Value: say("%s", r.Totals.Total()), Alarm: r.Totals.Total() > 0},
		{Label: "Peak fill", Value: say("%s", r.peakFill())},
		{Label: "Entries evicted", Value: say("%s", r.Evicted)},
		{Label: "Watched", Value: say("%s", r.watchedShare()), Note: say("%s", several(r.Samples, "sample"))},
	}
	d.Chart = r.chart(c)
	if g := r.netnsGrid(c); len(g.Rows) > 0 {
		d.Sections = append(d.Sections, section{ID: "tables", Title: say("The tables"), Blocks: []block{{Grid: &g}}})
	}
}

// inTime says that ctwatch raised the limit by itself before anything was refused.
func (r *Report) inTime(c clock) line {
	var last *record.Action
	for n := range r.Actions {
		if a := &r.Actions[n]; a.What == record.ActionRaiseMax && a.Result == record.ResultApplied && a.NS != 0 {
			last = a
		}
	}
	if last == nil {
		return nil
	}
	return say("ctwatch raised the limit from %s to %s at %s.", stressed(limit(last.From)), stressed(limit(last.To)), c.moment(last.Time))
}

func fillOf(n NetNS) float64 {
	if n.PeakFill == nil {
		return -1
	}
	return *n.PeakFill
}

func (r *Report) peakFill() string {
	peak := -1.0
	if r.peak != nil {
		peak = *r.peak
	}
	for i := range r.Incidents {
		peak = max(peak, r.Incidents[i].PeakFill)
	}
	if peak < 0 {
		return "not known"
	}
	return percent(peak)
}

func (r *Report) netnsGrid(c clock) grid {
	g := grid{Caption: "Network namespaces, the busiest first", Columns: []gridColumn{{"namespace", false, false}, {"refused", true, true}, {"evicted", true, true}, {"peak", true, true}, {"fill", true, true}, {"peak at", false, true}}}
	for _, n := range r.NetNS {
		fill, at := "-", "-"
		if n.PeakFill != nil {
			fill = percent(*n.PeakFill)
		}
		if n.PeakTime != nil {
			at = c.moment(*n.PeakTime)
		}
		g.Rows = append(g.Rows, cells(line{nsName(n.Name, n.NS, n.Host)}, say("%s", n.Drops.Total()+n.Unattributed), say("%s", n.Evicted), say("%s", n.PeakCount), say("%s", fill), say("%s", at)))
	}
	return g
}

func cells(lines ...line) []cell {
	row := make([]cell, len(lines))
	for i, l := range lines {
		row[i].Line = l
	}
	return row
}

func (i *Incident) figures() []figure {
	n := i.refused()
	note := say("cause: %s", typed(i.Cause.String()))
	f := []figure{{Label: "Packets refused", Value: say("%s", n), Note: note, Alarm: n > 0}}
	if n == 0 && i.Unattributed > 0 {
		f[0] = figure{Label: "Packets refused", Value: say("%s", i.Unattributed), Note: say("not seen by the program"), Alarm: true}
	}
	lasted := say("%s", i.state())
	peak := figure{Label: "Peak fill", Value: say("%s", percent(i.PeakFill)), Note: say("%s", several(i.PeakCount, "entry"))}
	if i.Cause == conntrack.ChainTooLong && i.Buckets > 0 {
		peak.Note = say("%s in %s", several(i.PeakCount, "entry"), several(i.Buckets, "bucket"))
	}
	logged := logFigure(i.LoggedLines, n)
	if i.Cause != conntrack.TableFull {
		logged.Note = say("the kernel logs no line for this cause")
	}
	return append(f, figure{Label: "Lasted", Value: say("%s", duration(time.Duration(i.Duration))), Note: lasted}, peak, logged)
}

func logFigure(lines *uint64, refused uint64) figure {
	switch {
	case lines == nil:
		return figure{Label: "Kernel log lines", Value: say("?"), Note: say("the kernel log could not be read")}
	case *lines == 0 || refused == 0:
		return figure{Label: "Kernel log lines", Value: say("%s", *lines)}
	}
	return figure{Label: "Kernel log lines", Value: say("%s", *lines), Note: say("one for each %s packets", max(1, refused / *lines))}
}

func (r *Report) unseenChapter(c clock) section {
	s := section{ID: "unseen", Title: say("What ctwatch could not see")}
	if len(r.Unseen) == 0 {
		s.Blocks = []block{{Text: say("Nothing is known to be missing: there is no gap in the window, no sample was lost, and the kernel's own counters agree.")}}
		return s
	}
	var b block
	const most = 25
	for n, u := range r.Unseen {
		if n == most {
			b.List = append(b.List, say("And %s more (--format json has them all).", uint64(len(r.Unseen)-most)))
			break
		}
		l := sentence(u.Text)
		switch {
		case u.From != nil && u.To != nil:
			l = say("%s: %s", c.stretch(*u.From, *u.To), l)
		case u.From != nil:
			l = say("%s: %s", c.moment(*u.From), l)
		}
		b.List = append(b.List, l)
	}
	s.Blocks = []block{b}
	return s
}
