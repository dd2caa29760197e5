package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// formatTable writes rows as Markdown, and the notes of their cells numbered below.
func formatTable(rows []row) string {
	var b strings.Builder
	header := slices.Concat([]string{"kernel", "probe", "auto"}, properties, []string{"date"})
	writeRow(&b, header)
	writeRow(&b, slices.Repeat([]string{"---"}, len(header)))
	var notes []string
	for _, r := range rows {
		fields := []string{r.release, r.probe, r.auto}
		for _, c := range r.cells {
			text := c.text
			if c.note != "" {
				at := slices.Index(notes, c.note)
				if at < 0 {
					at, notes = len(notes), append(notes, c.note)
				}
				text = fmt.Sprintf("%s (%d)", text, at+1)
			}
			fields = append(fields, text)
		}
		writeRow(&b, append(fields, r.date))
	}
	if len(notes) > 0 {
		b.WriteString("\n")
	}
	for i, n := range notes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, n)
	}
	return b.String()
}

func writeRow(b *strings.Builder, fields []string) {
	for _, f := range fields {
		b.WriteString("| ")
		b.WriteString(strings.ReplaceAll(f, "|", "/"))
		b.WriteString(strings.Repeat(" ", min(1, len(f))))
	}
	b.WriteString("|\n")
}

var (
	noteLine = regexp.MustCompile(`^([0-9]+)\. (.*)$`)
	noteMark = regexp.MustCompile(`^(.*) \(([0-9]+)\)$`)
)

// parseTable reads what formatTable wrote, in the document. Columns are found by their names: there may be others now.
func parseTable(document string) ([]row, error) {
	_, rest, ok := strings.Cut(document, tableBegin)
	if !ok {
		return nil, nil
	}
	table, _, ok := strings.Cut(rest, tableEnd)
	if !ok {
		return nil, fmt.Errorf("%q without %q", tableBegin, tableEnd)
	}
	notes := map[string]string{}
	var lines [][]string
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		if m := noteLine.FindStringSubmatch(line); m != nil {
			notes[m[1]] = m[2]
		}
		if strings.HasPrefix(line, "|") {
			lines = append(lines, strings.Split(strings.Trim(line, "|"), "|"))
		}
	}
	if len(lines) < 2 {
		return nil, nil
	}
	var rows []row
	for _, fields := range lines[2:] {
		found := map[string]string{}
		for i, name := range lines[0] {
			if i < len(fields) {
				found[strings.TrimSpace(name)] = strings.TrimSpace(fields[i])
			}
		}
		r := row{release: found["kernel"], probe: found["probe"], auto: found["auto"], date: found["date"]}
		for _, p := range properties {
			c := cell{text: found[p]}
			if m := noteMark.FindStringSubmatch(c.text); m != nil {
				c = cell{m[1], notes[m[2]]}
			}
			if c.text == "" {
				c.text = notRun
			}
			r.cells = append(r.cells, c)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// replaceTable puts a table into the document, between the marks or, where there are none, at the end.
func replaceTable(document, table string) string {
	before, rest, ok := strings.Cut(document, tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !ok || !ended {
		if before = document; before == "" {
			before = "# Kernels\n\nWhat the tests found in each.\n\n"
		}
		after = "\n"
	}
	return before + tableBegin + "\n\n" + table + "\n" + tableEnd + after
}
