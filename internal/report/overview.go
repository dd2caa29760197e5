package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// several is for a window of many incidents: first the overview.
func (r *Report) several(d *document, c clock, x extent) {
	var unseen uint64
	var open, interrupted int
	kinds := map[string]int{}
	places := map[key]bool{}
	for n := range r.Incidents {
		i := &r.Incidents[n]
		unseen += i.Unattributed
		kinds[i.verdictWords()]++
		places[key{i.Cookie, i.NS}] = true
		if i.open() {
			open++
		}
		if i.Interrupted {
			interrupted++
		}
	}
	largest := r.largest(1)[0]
	in := "in one network namespace"
	if len(places) > 1 {
		in = "in " + several(uint64(len(places)), "network namespace")
	}
	d.Lead = sentences(
		say("Connection tracking had %s %s, and refused %s in them.", stressed(several(uint64(len(r.Incidents)), "incident")), in, stressed(several(r.inIncidents(), "packet"))), r.remainder(),
		say("The largest began on %s at %s in %s%s: %s, %s.", c.day(largest.Started), c.time(largest.Started, false), largest.place(), largest.whose(), several(largest.loss(), "packet"), largest.verdictWords()),
		r.kindsLine(kinds))
	if unseen > 0 {
		d.Lead = sentences(d.Lead, say("The kernel counted %s that the program did not see.", several(unseen, "more packet")))
	}
	switch {
	case open > 0:
		d.Lead = sentences(d.Lead, say("%s not over when the window ended.", stressed(were(uint64(open), "incident"))))
	case interrupted == 0:
		d.Lead = sentences(d.Lead, say("All are over."))
	}
	if interrupted > 0 {
		d.Lead = sentences(d.Lead, say("%s cut short by the end of ctwatch: the last figures known are given.", were(uint64(interrupted), "incident")))
	}
	d.Figures = []figure{
		{Label: "Packets refused", Value: say("%s", r.Totals.Total()+r.Unattributed), Note: say("in the whole window"), Alarm: r.Totals.Total()+r.Unattributed > 0},
		{Label: "Incidents", Value: say("%s", uint64(len(r.Incidents))), Note: say("%s", in)},
		{Label: "Peak fill", Value: say("%s", r.peakFill())},
		logFigure(r.LoggedLines, r.Totals[conntrack.TableFull]),
	}
	d.Chart = r.chart(c)
	d.Sections = append(d.Sections, section{ID: "overview", Title: say("The incidents"), Blocks: []block{{Grid: r.overview(c, x)}, {Grid: causesGrid(r.Totals)}}})
	for _, i := range r.detailed(x) {
		d.Sections = append(d.Sections, r.incidentSection(i, c, x, len(d.Sections) < 3))
	}
}

func (r *Report) kindsLine(kinds map[string]int) line {
	var words []string
	for w := range kinds {
		words = append(words, w)
	}
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(cmp.Compare(kinds[b], kinds[a]), cmp.Compare(a, b)) })
	l := say("The verdicts: ")
	for n, w := range words {
		if n > 0 {
			l = append(l, span{Text: ", "})
		}
		l = append(l, say("%s (%s)", w, uint64(kinds[w]))...)
	}
	return append(l, span{Text: "."})
}

// largest are the n incidents that cost most.
func (r *Report) largest(n int) []*Incident {
	var all []*Incident
	for i := range r.Incidents {
		all = append(all, &r.Incidents[i])
	}
	slices.SortStableFunc(all, func(a, b *Incident) int {
		return cmp.Or(cmp.Compare(b.refused()+b.Unattributed, a.refused()+a.Unattributed), cmp.Compare(b.Evicted, a.Evicted), cmp.Compare(b.PeakFill, a.PeakFill))
	})
	return all[:min(n, len(all))]
}

// detailed are the incidents that get a chapter: the largest and the last one, oldest first.
func (r *Report) detailed(x extent) []*Incident {
	if len(r.Incidents) <= x.incidents {
		return byTime(r.largest(len(r.Incidents)))
	}
	picked := r.largest(x.incidents)
	if last := &r.Incidents[len(r.Incidents)-1]; !slices.Contains(picked, last) {
		picked[len(picked)-1] = last
	}
	return byTime(picked)
}

func byTime(all []*Incident) []*Incident {
	slices.SortStableFunc(all, func(a, b *Incident) int { return a.Started.Compare(b.Started) })
	return all
}

func (r *Report) overview(c clock, x extent) *grid {
	g := &grid{Caption: "Incidents, the oldest first", Columns: []gridColumn{{"began", false, true}, {"lasted", true, true}, {"namespace", false, false}, {"refused", true, true}, {"peak", true, true}, {"verdict", false, false}}}
	if slices.ContainsFunc(r.Incidents, func(i Incident) bool { return i.state() != "over" }) {
		g.Columns = append(g.Columns, gridColumn{"state", false, false})
	}
	shown := byTime(r.largest(x.overview))
	if n := len(r.Incidents) - len(shown); n > 0 {
		g.More = several(uint64(n), "smaller incident") + " left out here"
	}
	for _, i := range shown {
		row := cells(say("%s", c.minute(i.Started)), say("%s", duration(time.Duration(i.Duration))), line{nsName(i.Name, i.NS, i.Host)},
			say("%s", i.loss()), say("%s", percent(i.PeakFill)), say("%s", i.verdictWords()), say("%s", i.state()))
		g.Rows = append(g.Rows, row[:len(g.Columns)])
	}
	return g
}

// causesGrid is what was refused, by cause.
func causesGrid(d conntrack.Drops) *grid {
	g := &grid{Caption: "Packets refused in the whole window, by cause", Columns: []gridColumn{{"cause", false, true}, {"packets", true, true}, {"share", true, true}}}
	total := d.Total()
	for cause, n := range d {
		if n == 0 {
			continue
		}
		row := cells(line{typed(conntrack.Cause(cause).String())}, say("%s", n), say("%s", percent(float64(n)/float64(total))))
		row[2].Bar = float64(n) / float64(total)
		g.Rows = append(g.Rows, row)
	}
	if len(g.Rows) == 0 {
		return nil
	}
	return g
}

func (r *Report) incidentSection(i *Incident, c clock, x extent, unfolded bool) section {
	s := section{
		ID:    "incident-" + i.ID,
		Title: say("%s refused in %s", several(i.loss(), "packet"), nsName(i.Name, i.NS, i.Host)),
		Brief: say("%s, %s, %s", c.moment(i.Started), i.verdictWords(), i.state()), Folds: true, Unfolded: unfolded,
	}
	if i.loss() == 0 {
		s.Title = say("Table %s full in %s", percent(i.PeakFill), nsName(i.Name, i.NS, i.Host))
	}
	s.Blocks = []block{{Lead: r.summary(i, c)}, {Figures: i.figures()}}
	if p := i.chart(r, c); p != nil {
		s.Blocks = append(s.Blocks, block{Chart: p})
	}
	s.Sections = r.chapters(i, c, x)
	return s
}
