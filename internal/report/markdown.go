package report

import (
	"io"
	"strconv"
	"strings"
	"time"
)

// WriteMarkdown writes the report so that it can be pasted into a ticket.
func (r *Report) WriteMarkdown(w io.Writer, zone *time.Location) error {
	m := markdownWriter{}
	m.document(r.document(clock{zone}, extent{incidents: 10, overview: 100, rows: 5, events: 20}))
	_, err := io.WriteString(w, m.b.String())
	return err
}

type markdownWriter struct{ b strings.Builder }

// put writes a block of its own.
func (m *markdownWriter) put(s string) {
	m.b.WriteString(s)
	m.b.WriteString("\n\n")
}

func (m *markdownWriter) document(d *document) {
	m.put("# " + markdown(d.Headline))
	for i, l := range d.Under {
		if i > 0 {
			m.b.WriteString("\\\n")
		}
		m.b.WriteString(markdown(l))
	}
	m.put("")
	if len(d.Lead) > 0 {
		m.put(markdown(d.Lead))
	}
	m.figures(d.Figures)
	m.chart(d.Chart)
	for i := range d.Sections {
		m.section(&d.Sections[i], 2)
	}
	m.put("---")
	for _, l := range d.Foot {
		m.put(markdown(l))
	}
}

func (m *markdownWriter) section(s *section, depth int) {
	m.put(strings.Repeat("#", depth) + " " + markdown(s.Title))
	if len(s.Brief) > 0 {
		m.put(markdown(s.Brief))
	}
	for i := range s.Blocks {
		m.block(&s.Blocks[i])
	}
	for i := range s.Sections {
		m.section(&s.Sections[i], depth+1)
	}
}

func (m *markdownWriter) block(b *block) {
	for _, l := range []line{b.Lead, b.Text} {
		if len(l) > 0 {
			m.put(markdown(l))
		}
	}
	m.list(b.List)
	if len(b.Facts) > 0 {
		g := grid{Columns: []gridColumn{{}, {}}}
		for _, f := range b.Facts {
			g.Rows = append(g.Rows, cells(say("%s", f.Name), f.Value))
		}
		m.grid(&g)
	}
	if len(b.Timeline) > 0 {
		g := grid{Columns: []gridColumn{{Title: "time"}, {Title: "what happened"}}}
		for _, e := range b.Timeline {
			g.Rows = append(g.Rows, cells(say("%s", e.Time), e.Text))
		}
		m.grid(&g)
	}
	if b.Grid != nil {
		m.grid(b.Grid)
	}
	for i := range b.Grids {
		m.grid(&b.Grids[i])
	}
	for i, s := range b.Steps {
		n := strconv.Itoa(i+1) + ". "
		m.put(n + markdown(s.Text))
		if len(s.Commands) > 0 {
			m.fence(strings.Repeat(" ", len(n)), "sh", s.Commands)
		}
	}
	m.figures(b.Figures)
	m.chart(b.Chart)
}

func (m *markdownWriter) list(list []line) {
	for _, l := range list {
		m.b.WriteString("* " + markdown(l) + "\n")
	}
	if len(list) > 0 {
		m.b.WriteString("\n")
	}
}

func (m *markdownWriter) figures(figures []figure) {
	if len(figures) == 0 {
		return
	}
	g := grid{Rows: make([][]cell, 1)}
	for _, f := range figures {
		g.Columns = append(g.Columns, gridColumn{Title: f.Label, Right: true})
		g.Rows[0] = append(g.Rows[0], cells(line{stressed(f.Value.String())})...)
	}
	m.grid(&g)
}

func (m *markdownWriter) grid(g *grid) {
	if g.Caption != "" {
		m.put("**" + markdown(say("%s", g.Caption)) + "**")
	}
	row := func(cell func(int) string) {
		m.b.WriteString("|")
		for i := range g.Columns {
			m.b.WriteString(" " + cell(i) + " |")
		}
		m.b.WriteString("\n")
	}
	row(func(i int) string { return markdown(say("%s", g.Columns[i].Title)) })
	row(func(i int) string {
		if g.Columns[i].Right {
			return "---:"
		}
		return "---"
	})
	for _, r := range g.Rows {
		row(func(i int) string { return markdownCell(r[i].Line) })
	}
	m.b.WriteString("\n")
	if g.More != "" {
		m.put("… " + markdown(say("%s", g.More)))
	}
}

// chart is the one of the text, in a block of code.
func (m *markdownWriter) chart(ch *chart) {
	if ch == nil {
		return
	}
	t := textWriter{}
	t.chart(ch)
	m.put(markdown(say("%s (%s):", ch.Title, ch.clock.zone(ch.plot.wall))))
	m.fence("", "text", strings.Split(strings.TrimRight(t.b.String(), "\n"), "\n"))
}

// fence writes a block of code whose fence is longer than any in it.
func (m *markdownWriter) fence(indent, language string, lines []string) {
	longest := 2
	for _, l := range lines {
		longest = max(longest, backquotes(l))
	}
	fence := strings.Repeat("`", longest+1)
	m.b.WriteString(indent + fence + language + "\n")
	for _, l := range lines {
		m.b.WriteString(strings.TrimRight(indent+visible(l), " ") + "\n")
	}
	m.put(indent + fence)
}

// backquotes is how many there are in a row at most.
func backquotes(s string) int {
	longest, run := 0, 0
	for _, r := range s {
		if r != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return longest
}

func markdown(l line) string { return markdownLine(l, false) }

// markdownCell is for a table, where a bar ends a cell even within code.
func markdownCell(l line) string { return markdownLine(l, true) }

func markdownLine(l line, inTable bool) string {
	var b strings.Builder
	for _, s := range l {
		if s.Text == "" {
			continue
		}
		text := prose(s.Text, inTable)
		switch s.Kind {
		case name, code:
			text = codeSpan(visible(s.Text), inTable)
		case strong:
			text = "**" + text + "**"
		}
		if strings.HasSuffix(b.String(), "`") && strings.HasPrefix(text, "`") {
			b.WriteByte(' ') // two fences would be one
		}
		b.WriteString(text)
	}
	return b.String()
}

// codeSpan writes text so that nothing in it is markup, a link, a mention or a reference.
func codeSpan(s string, inTable bool) string {
	if strings.Trim(s, " ") == "" {
		s = `"` + s + `"` // a span of spaces alone would not be one
	}
	fence := strings.Repeat("`", backquotes(s)+1)
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") || strings.HasPrefix(s, " ") || strings.HasSuffix(s, " ") {
		s = " " + s + " "
	}
	if inTable {
		s = strings.ReplaceAll(s, "|", `\|`)
	}
	return fence + s + fence
}

// special are the characters that may begin markup.
const special = "\\`*_{}[]<>#|~&!$^+-="

// prose writes words. A word in which a site would see a link, a mention or a reference to another ticket is written as
// code, where it sees none; in others, what may be markup is escaped.
func prose(text string, inTable bool) string {
	words := strings.Split(visible(text), " ")
	for i, w := range words {
		lower := strings.ToLower(w)
		switch {
		case strings.ContainsAny(w, "@#") || strings.Contains(lower, "://") || strings.Contains(lower, "www.") ||
			strings.Contains(lower, "mailto:") || strings.Contains(w, "!") && len(w) > 1 && strings.ContainsAny(w, "0123456789"):
			words[i] = codeSpan(w, inTable)
		case strings.ContainsAny(w, special):
			words[i] = escapeWord(w)
		}
	}
	return strings.Join(words, " ")
}

func escapeWord(w string) string {
	var b strings.Builder
	for i, r := range w {
		if strings.ContainsRune(special, r) {
			// A hyphen, plus or equals sign is markup only where a line begins with it.
			if !strings.ContainsRune("-+=", r) || i == 0 {
				b.WriteByte('\\')
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}
