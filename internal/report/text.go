package report

import (
	"io"
	"strconv"
	"strings"
	"time"
)

// textWidth is how wide the text is at most, in cells of a terminal.
const textWidth = 80

// textWriter writes a document for a terminal, without colour.
type textWriter struct{ b strings.Builder }

// WriteText writes the report for a terminal of 80 columns. Times are in the zone.
func (r *Report) WriteText(w io.Writer, zone *time.Location) error {
	t := textWriter{}
	t.document(r.document(clock{zone}, extent{incidents: 3, overview: 30, rows: 5, events: 12}))
	_, err := io.WriteString(w, t.b.String())
	return err
}

func (t *textWriter) line(s string) {
	t.b.WriteString(strings.TrimRight(s, " "))
	t.b.WriteByte('\n')
}

func (t *textWriter) document(d *document) {
	t.para("", "", say("%s", strings.ToUpper(d.Kind)))
	t.para("", "", d.Headline)
	t.line(strings.Repeat("═", min(textWidth, width(textLine(d.Headline)))))
	for _, l := range d.Under {
		t.para("", "", l)
	}
	if len(d.Lead) > 0 {
		t.line("")
		t.para("", "", d.Lead)
	}
	if len(d.Figures) > 0 {
		t.line("")
		t.figures(d.Figures)
	}
	if d.Chart != nil {
		t.line("")
		t.chart(d.Chart)
	}
	for i := range d.Sections {
		t.section(&d.Sections[i], 0)
	}
	t.line("")
	t.line(strings.Repeat("─", textWidth))
	for _, l := range d.Foot {
		t.para("", "", l)
	}
}

func (t *textWriter) section(s *section, depth int) {
	t.line("")
	if depth == 0 {
		title := strings.ToUpper(textLine(s.Title))
		if s.Folds {
			t.line(strings.Repeat("═", textWidth))
			title = textLine(s.Title)
		}
		t.para("", "", line{{Text: title}})
	} else {
		t.para("", "", s.Title)
	}
	if len(s.Brief) > 0 {
		t.para("", "", s.Brief)
	}
	for i := range s.Blocks {
		if i > 0 || s.Folds {
			t.line("")
		}
		t.block(&s.Blocks[i])
	}
	for i := range s.Sections {
		t.section(&s.Sections[i], depth)
	}
}

func (t *textWriter) block(b *block) {
	const in = "  "
	t.para(in, in, b.Lead)
	t.para(in, in, b.Text)
	for _, l := range b.List {
		t.para(in+"• ", in+"  ", l)
	}
	longest := 0
	for _, f := range b.Facts {
		longest = max(longest, width(f.Name))
	}
	for _, f := range b.Facts {
		t.para(in+pad(f.Name, longest, false)+"  ", in+strings.Repeat(" ", longest+2), f.Value)
	}
	for _, e := range b.Timeline {
		t.para(in+e.Time+"  ", in+strings.Repeat(" ", width(e.Time)+2), e.Text)
	}
	if b.Grid != nil {
		t.grid(b.Grid)
	}
	for i := range b.Grids {
		if i > 0 {
			t.line("")
		}
		t.grid(&b.Grids[i])
	}
	for i, s := range b.Steps {
		if i > 0 {
			t.line("")
		}
		n := strconv.Itoa(i+1) + ". "
		t.para(in+n, in+strings.Repeat(" ", len(n)), s.Text)
		for _, c := range s.Commands {
			t.command(in+strings.Repeat(" ", len(n)+2), c)
		}
	}
	if len(b.Figures) > 0 {
		t.figures(b.Figures)
	}
	if b.Chart != nil {
		t.chart(b.Chart)
	}
}

// command writes something to paste. What is too long goes on after a backslash or, in quotes, after a brace or a
// semicolon, where nft takes a new line as well.
func (t *textWriter) command(indent, c string) {
	for room := textWidth - len(indent) - 2; width(c) > room; {
		at, quotes := 0, 0
		for i := range min(len(c), room) {
			switch {
			case c[i] == '\'':
				quotes++
			case c[i] == ' ' && i > 2 && (quotes%2 == 0 || c[i-1] == '{' || c[i-1] == ';'):
				at = i
			}
		}
		if at == 0 {
			break
		}
		end := ""
		if strings.Count(c[:at], "'")%2 == 0 {
			end = " \\"
		}
		t.line(indent + c[:at] + end)
		c = "  " + c[at+1:]
	}
	t.line(indent + c)
}

// textSpan is a span as a terminal may show it.
func textSpan(s span) string {
	text := visible(s.Text)
	switch {
	case s.Kind == name && (text != s.Text || strings.ContainsAny(text, ` "'`)):
		return quote(s.Text)
	case s.Kind == code && strings.Contains(text, " "):
		return "`" + text + "`"
	}
	return text
}

func textLine(l line) string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(textSpan(s))
	}
	return b.String()
}

// para writes a paragraph between the margins.
func (t *textWriter) para(first, rest string, l line) {
	if len(l) == 0 {
		return
	}
	out, room := first, textWidth-width(first)
	empty := true
	next := func() {
		t.line(out)
		out, room, empty = rest, textWidth-width(rest), true
	}
	words := strings.Split(strings.ReplaceAll(textLine(l), " %", "\u00a0%"), " ")
	for _, w := range words {
		w = strings.ReplaceAll(w, "\u00a0", " ")
		n := width(w)
		if !empty && n+1 > room {
			next()
		}
		if !empty {
			out += " "
			room--
		}
		for n > room { // a word that is longer than the line
			head, tail := cut(w, room)
			out += head
			next()
			w, n = tail, width(tail)
		}
		out += w
		room -= n
		empty = false
	}
	t.line(out)
}

func (t *textWriter) figures(figures []figure) {
	each := textWidth / len(figures)
	for _, part := range []func(figure) string{
		func(f figure) string { return textLine(f.Value) },
		func(f figure) string { return f.Label },
	} {
		out := ""
		for _, f := range figures {
			out += pad(fit(part(f), each-2), each, false)
		}
		t.line(out)
	}
}

// grid writes a table. Where it is too wide, the widest column of words gives way.
func (t *textWriter) grid(g *grid) {
	const in, between = "  ", 2
	rows := make([][]string, len(g.Rows))
	widths := make([]int, len(g.Columns))
	for i, c := range g.Columns {
		widths[i] = width(c.Title)
	}
	for n, row := range g.Rows {
		for i, c := range row {
			s := textLine(c.Line)
			rows[n] = append(rows[n], s)
			widths[i] = max(widths[i], width(s))
		}
	}
	total := func() int {
		sum := len(in) - between
		for _, w := range widths {
			sum += w + between
		}
		return sum
	}
	for total() > textWidth {
		widest := -1
		for i, c := range g.Columns {
			if !c.Whole && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 || widths[widest] <= 4 {
			break
		}
		widths[widest]--
	}
	put := func(cell func(int) string) {
		out := in
		for i, c := range g.Columns {
			out += pad(fit(cell(i), widths[i]), widths[i], c.Right) + strings.Repeat(" ", between)
		}
		t.line(strings.TrimRight(out, " "))
	}
	t.para(in, in, say("%s", g.Caption))
	put(func(i int) string { return g.Columns[i].Title })
	t.line(in + strings.Repeat("─", min(total(), textWidth)-len(in)))
	for n := range rows {
		put(func(i int) string { return rows[n][i] })
	}
	if g.More != "" {
		t.para(in, in, say("… %s", g.More))
	}
}

func formatFloat(f float64, digits int) string { return strconv.FormatFloat(f, 'f', digits, 64) }
