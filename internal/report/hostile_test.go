package report

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// hostile are texts that somebody else chose.
var hostile = []string{
	"\x1b[2J\x1b]0;owned\x07", "<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "'; $(reboot) `reboot`",
	"a\nb\r\nc\td", "bad\xff\xfeutf8\xc3", "abc\u202etxt.exe\u2066", "\u009b31mred", "zero\u200bwidth\ufeff", "``` \n# heading",
	"| a | b |\\|", "[x](https://evil.example/)", "see http://evil.example and HTTPS://EVIL.example", "@everyone #1 !2 GH-3",
	"![i](javascript:alert(1))", "**bold** _it_ ~~s~~", "--- \n===", "&lt;b&gt; &#60;", "{{.Title}}", "</title></style><style>*{}", "x`y``z```",
	strings.Repeat("long", 70), strings.Repeat("漢字", 60), "\u0301\u0301combining", " ", "", "1. list", "- item", "> quote", "%s %d %!", "\x00nul",
}

// hostileReport has a hostile text in each field that others' text can come to.
func hostileReport(t *testing.T, text string) *Report {
	t.Helper()
	s := newScene(day.Add(time.Hour))
	s.add(&record.Start{Version: text, Kernel: text, Hostname: text, Probe: text})
	n := netns(text, 7, 10, 0)
	s.sample(n).pass(time.Second)
	n = netns(text, 7, 1000, 5)
	s.sample(n)
	i := s.full(n, "20261124-010001-abcd", record.PhaseOpen, s.wall, 5)
	i.Owner, i.FillersWhy, i.Limits.Why, i.Verdict = text, text, text, text
	i.Reasons, i.Helps, i.HelpsNot = []string{text, "and " + text}, []string{text}, []string{text}
	shares := []record.Share{{Key: text, Entries: 3, Share: 0.6}, {Key: "10.0.0.1", Entries: 2, Share: 0.4}}
	i.Fillers = &record.Fillers{Time: s.wall, Entries: 5, Walked: 5, Src: shares, SrcNet: shares, Dst: shares, Dport: shares, Proto: shares, State: shares}
	i.Sufferers = &record.Sufferers{Packets: 5, Src: shares, Dst: shares, Dport: shares, Ifname: shares}
	i.Changes = []record.Change{{Time: s.wall, Key: text, From: 1, To: 2, Writer: record.Writer{PID: 1, Comm: text, Unit: text}}}
	i.VerdictKind = record.VerdictFloodFew
	s.add(i)
	third := *i
	third.ID, third.Cookie, third.VerdictKind = "20261124-010003-abcd", 9, record.VerdictLimitLowered
	third.Changes = []record.Change{{Time: s.wall, Key: conntrack.KeyMax, From: 2, To: 1, Writer: record.Writer{PID: 1, Comm: text, Unit: text}}}
	s.add(&third)
	second := *i
	second.ID, second.Cause, second.Cookie = "20261124-010002-abcd", conntrack.Clash, 8
	second.VerdictKind, second.Closed, second.Trigger, second.Fillers = text, text, text, nil
	s.add(&second)
	s.add(&record.Limit{Key: text, From: 1, To: 2, Writer: record.Writer{PID: 1, Comm: text, Unit: text}})
	s.add(&record.Action{What: text, Why: text, Result: text})
	s.add(&record.Limit{Key: conntrack.KeyMax, From: 2, To: 1, Writer: record.Writer{PID: 1, Comm: text, Unit: text}})
	for _, result := range record.Results() {
		for _, what := range record.Actions() {
			s.add(&record.Action{What: what, Result: result, From: 2, To: 1, Why: text, Name: text, NS: n.NS, Cookie: n.Cookie})
			s.add(&record.Action{What: what, Result: result, From: 1, To: 2, Why: text, Name: text, NS: 9, Cookie: 9})
		}
	}
	s.add(&record.Gap{Why: text, From: s.wall, To: s.wall.Add(time.Second)})
	s.pass(2 * time.Second).add(&record.Stop{})
	return build(t, s.source())
}

// codeSpans are what Markdown shows as code: fenced blocks, and spans by the length of their fence.
func codeSpans(md string) string {
	md = regexp.MustCompile("(?ms)^ *(```+)[a-z]*\n.*?^ *```+$").ReplaceAllString(md, "")
	var out strings.Builder
	for md != "" {
		open := strings.IndexByte(md, '`')
		if open < 0 || open > 0 && md[open-1] == '\\' {
			if open < 0 {
				out.WriteString(md)
				break
			}
			out.WriteString(md[:open+1])
			md = md[open+1:]
			continue
		}
		fence := len(md[open:]) - len(strings.TrimLeft(md[open:], "`"))
		out.WriteString(md[:open])
		rest := md[open+fence:]
		closed := false
		for at := 0; at < len(rest); {
			i := strings.IndexByte(rest[at:], '`')
			if i < 0 {
				break
			}
			n := len(rest[at+i:]) - len(strings.TrimLeft(rest[at+i:], "`"))
			if n == fence {
				out.WriteString("CODE")
				md, closed = rest[at+i+n:], true
				break
			}
			at += i + n
		}
		if !closed {
			out.WriteString("OPEN FENCE")
			md = rest
		}
	}
	return out.String()
}

func TestHostile(t *testing.T) {
	for _, text := range hostile {
		for format, got := range all(t, hostileReport(t, text)) {
			if !utf8.ValidString(got) {
				t.Errorf("%q: %s is not valid UTF-8", text, format)
			}
			for _, r := range got {
				if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)) {
					t.Errorf("%q: %s holds %U", text, format, r)
				}
			}
			switch format {
			case "txt":
				checkWidth(t, text, got)
			case "md":
				checkMarkdown(t, text, got)
			case "html":
				checkHTML(t, text, got)
			case "json":
				var r Report
				if err := json.Unmarshal([]byte(got), &r); err != nil {
					t.Errorf("%q: JSON: %v", text, err)
				} else if want := strings.ToValidUTF8(text, "\ufffd"); utf8.ValidString(text) && r.Incidents[0].Name != want {
					t.Errorf("%q: the name came back as %q", text, r.Incidents[0].Name)
				}
			}
		}
	}
}

func checkWidth(t *testing.T, name, text string) {
	t.Helper()
	for n, l := range strings.Split(text, "\n") {
		if w := width(l); w > textWidth {
			t.Errorf("%q: line %d is %d columns wide: %q", name, n+1, w, l)
		}
	}
}

func checkMarkdown(t *testing.T, name, md string) {
	t.Helper()
	words := codeSpans(md)
	for _, bad := range []string{"OPEN FENCE", "://", "@", "<script", "<img", "</", "javascript:", "![", "]("} {
		// What is escaped is no markup.
		if plain := regexp.MustCompile(`\\.`).ReplaceAllString(words, ""); strings.Contains(plain, bad) {
			i := strings.Index(plain, bad)
			t.Errorf("%q: Markdown holds %q outside of code: %q", name, bad, plain[max(0, i-60):min(len(plain), i+60)])
		}
	}
	// Each row of a table has as many cells as its head.
	bar := regexp.MustCompile(`(^|[^\\])\|`)
	cells := 0
	for _, l := range strings.Split(md, "\n") {
		if !strings.HasPrefix(l, "|") {
			cells = 0
			continue
		}
		// An escaped bar is none; an escaped backslash before a bar does not occur, for the bar is then escaped, too.
		n := len(bar.FindAllString(strings.ReplaceAll(l, `\|`, "x"), -1))
		if cells == 0 {
			cells = n
		}
		if n != cells {
			t.Errorf("%q: a row has %d bars and its head %d: %s", name, n, cells, l)
		}
	}
}

// checkHTML holds a page to what it promises: it stands alone, has no script, and can be read by those who cannot see.
func checkHTML(t *testing.T, name, page string) {
	t.Helper()
	lower := strings.ToLower(page)
	for _, bad := range []string{"http:", "https:", "<script", "javascript:alert(1))\"", "@import", "zgotmplz"} {
		if strings.Contains(lower, bad) {
			t.Errorf("%q: the page holds %q", name, bad)
		}
	}
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	allowed := strings.Fields("html head meta title style body header main footer section details summary h1 h2 h3 p span strong code pre " +
		"dl dt dd div ul ol li time table caption thead tbody tr th td figure figcaption b svg defs pattern rect path circle text desc")
	ids := map[string]bool{}
	depth := 0
	counts := map[string]int{}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		counts[n.Data]++
		if !slices.Contains(allowed, n.Data) {
			t.Errorf("%q: the page has an element %s", name, n.Data)
		}
		attributes := map[string]string{}
		for _, a := range n.Attr {
			attributes[a.Key] = a.Val
			if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "href" {
				t.Errorf("%q: %s has an attribute %s", name, n.Data, a.Key)
			}
		}
		if id := attributes["id"]; id != "" {
			if ids[id] {
				t.Errorf("%q: two elements have the id %s", name, id)
			}
			ids[id] = true
		}
		switch n.Data {
		case "h1", "h2", "h3":
			level := int(n.Data[1] - '0')
			if level > depth+1 {
				t.Errorf("%q: %s comes after h%d", name, n.Data, depth)
			}
			depth = level
		case "th":
			if attributes["scope"] == "" {
				t.Errorf("%q: a th without scope", name)
			}
		case "html":
			if attributes["lang"] == "" {
				t.Errorf("%q: no language", name)
			}
		case "svg":
			if attributes["role"] == "img" {
				counts["img"]++
				for _, id := range strings.Fields(attributes["aria-labelledby"]) {
					if !strings.Contains(page, `id="`+id+`"`) {
						t.Errorf("%q: a chart is labelled by %s, which is not there", name, id)
					}
				}
			} else if attributes["aria-hidden"] != "true" {
				t.Errorf("%q: an svg that is neither an image nor hidden", name)
			}
		case "meta":
			if attributes["http-equiv"] == "Content-Security-Policy" && attributes["content"] == "default-src 'none'; style-src 'unsafe-inline'" {
				counts["csp"]++
			}
		}
	}
	if counts["h1"] != 1 || counts["style"] != 1 || counts["csp"] != 1 || counts["table"] != counts["caption"] || counts["img"] == 0 {
		t.Errorf("%q: %d h1, %d style, %d policies, %d tables with %d captions, %d charts", name, counts["h1"], counts["style"], counts["csp"], counts["table"], counts["caption"], counts["img"])
	}
}

// TestMany: a window of many incidents, which text and Markdown tell of in part, and HTML in full.
func TestMany(t *testing.T) {
	s := newScene(day.Add(time.Hour)).start()
	for i := range uint64(60) {
		n := netns("a", 7, 10, i*10)
		s.sample(n).pass(time.Minute)
		begun := s.wall
		n = netns("a", 7, 1000, (i+1)*10)
		s.sample(n)
		s.add(s.full(n, "id-"+begun.Format("150405"), record.PhaseOpen, begun, 10)).pass(time.Minute)
		s.add(s.full(n, "id-"+begun.Format("150405"), record.PhaseClose, begun, 10)).pass(time.Minute)
	}
	s.add(&record.Stop{})
	r := build(t, s.source())
	if r.Totals.Total() != 600 || len(r.Incidents) != 60 {
		t.Fatalf("%d refused in %d incidents, want 600 in 60", r.Totals.Total(), len(r.Incidents))
	}
	out := all(t, r)
	checkWidth(t, "many", out["txt"])
	checkMarkdown(t, "many", out["md"])
	checkHTML(t, "many", out["html"])
	if got := strings.Count(out["html"], "<details"); got != 60 {
		t.Errorf("the page details %d incidents, want 60", got)
	}
	if got := strings.Count(out["txt"], "WHAT TO DO NEXT"); got != 3 {
		t.Errorf("the text details %d incidents, want 3", got)
	}
	if !strings.Contains(out["txt"], "30 smaller incidents left out here") {
		t.Error("the text does not say what it leaves out")
	}
}
