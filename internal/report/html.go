package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

//go:embed page.html.tmpl
var pageTemplate string

// WriteHTML writes the report as one page that needs nothing but itself: no network, no script.
func (r *Report) WriteHTML(w io.Writer, zone *time.Location) error {
	d := r.document(clock{zone}, extent{incidents: 1000, overview: 1000, rows: 10, events: 50})
	page, err := template.New("page").Funcs(template.FuncMap{
		"spans": htmlSpans, "plain": func(l line) string { return visible(l.String()) }, "text": htmlText,
		"draw": func(id string, ch *chart) []*drawing {
			return []*drawing{ch.draw(id, wideChart), ch.draw(id, narrowChart)}
		},
		"anchor": anchor, "share": rowShare,
		"deeper":  func(depth int, s section) nested { return nested{s, depth + 1} },
		"nest":    func(s section) nested { return nested{s, 2} },
		"blockOf": func(id string, b block) blockIn { return blockIn{id, b} },
		"sub":     func(a, b float64) string { return fmt.Sprintf("%.1f", a-b) },
		"num":     func(a float64) string { return fmt.Sprintf("%.1f", a) },
	}).Parse(pageTemplate)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := page.Execute(&b, d); err != nil {
		return err
	}
	_, err = w.Write(breakURLs(b.Bytes()))
	return err
}

// nested is a section and the depth of its heading.
type nested struct {
	Section section
	Depth   int
}

// blockIn is a block and the id of its section.
type blockIn struct {
	ID    string
	Block block
}

// breakURLs writes the colon of what others' text has of URLs as a reference, so that the page has none.
func breakURLs(page []byte) []byte {
	var out []byte
	for {
		colon := bytes.IndexByte(page, ':')
		if colon < 0 {
			return append(out, page...)
		}
		out = append(out, page[:colon]...)
		if word := bytes.ToLower(page[max(0, colon-len("https")):colon]); bytes.HasSuffix(word, []byte("http")) || bytes.HasSuffix(word, []byte("https")) {
			out = append(out, "&#58;"...)
		} else {
			out = append(out, ':')
		}
		page = page[colon+1:]
	}
}

// htmlText keeps a number and its percent sign together.
func htmlText(s string) string { return strings.ReplaceAll(visible(s), " %", "\u00a0%") }

// anchor makes an id for links within the page.
func anchor(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, s)
}

// htmlSpan is a span as the page's template takes it.
type htmlSpan struct{ Tag, Text string }

func htmlSpans(l line) []htmlSpan {
	var out []htmlSpan
	for _, s := range l {
		tag := [...]string{plain: "", strong: "strong", name: "name", code: "code"}[s.Kind]
		out = append(out, htmlSpan{tag, htmlText(s.Text)})
	}
	return out
}

// rowShare is how much of a row is filled, in percent; "" where it has no share.
func rowShare(row []cell) string {
	for _, c := range row {
		if c.Bar > 0 {
			return fmt.Sprintf("%.1f", 100*c.Bar)
		}
	}
	return ""
}
