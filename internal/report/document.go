package report

import (
	"fmt"
	"strings"
)

// document is a report as people read it, the same for text, Markdown and HTML.
type document struct {
	Title    string
	Kind     string // above the Headline: what this is
	Headline line
	Under    []line // below it: where and when
	Lead     line   // one paragraph that says it all
	Figures  []figure
	Chart    *chart
	Sections []section
	Foot     []line
	Few      bool // little enough to print what is folded, too
}

// section is a part with a heading. What is folded can be read where the format can fold, and where all is shown.
type section struct {
	ID       string
	Title    line
	Brief    line // beside the title of a folded section
	Folds    bool
	Unfolded bool
	Blocks   []block
	Sections []section
}

// block is one of its fields.
type block struct {
	Lead     line // a paragraph that stands out
	Text     line
	List     []line
	Facts    []fact
	Grid     *grid
	Grids    []grid // side by side, where there is room
	Steps    []step
	Figures  []figure
	Chart    *chart
	Timeline []event
}

// figure is a number that is seen first.
type figure struct {
	Label string
	Value line
	Note  line
	Alarm bool
}

// fact is a name and what it stands for.
type fact struct {
	Name  string
	Value line
}

// step is something to do, and how.
type step struct {
	Text     line
	Commands []string
}

// event is a line of a timeline.
type event struct {
	Time  string
	Text  line
	Alarm bool
}

// grid is a table.
type grid struct {
	Caption string
	Columns []gridColumn
	Rows    [][]cell
	More    string // what was left out
}

type gridColumn struct {
	Title string
	Right bool
	Whole bool // is not shortened where the table is too wide
}

type cell struct {
	Line line
	Bar  float64 // a share to draw, 0 to 1; 0 is none
}

// line is a piece of running text.
type line []span

type span struct {
	Text string
	Kind spanKind
}

type spanKind uint8

const (
	plain  spanKind = iota // words: may hold others' text, which every format makes harmless
	strong                 // words that stand out
	name                   // what others named: shown apart from the words around it
	code                   // what can be typed
)

func (l line) String() string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.Text)
	}
	return b.String()
}

// say makes a line of a format that knows %s alone, and of spans, lines, text and counts.
func say(format string, args ...any) line {
	var l line
	for i, part := range strings.Split(format, "%s") {
		if i > 0 {
			switch a := args[i-1].(type) {
			case span:
				l = append(l, a)
			case line:
				l = append(l, a...)
			case uint64:
				l = append(l, span{Text: number(a)})
			default:
				l = append(l, span{Text: fmt.Sprint(a)})
			}
		}
		if part != "" {
			l = append(l, span{Text: part})
		}
	}
	return l
}

// sentences joins lines with a space.
func sentences(lines ...line) line {
	var all line
	for _, l := range lines {
		if len(l) == 0 {
			continue
		}
		if len(all) > 0 {
			all = append(all, span{Text: " "})
		}
		all = append(all, l...)
	}
	return all
}

func named(s string) span    { return span{s, name} }
func typed(s string) span    { return span{s, code} }
func stressed(s string) span { return span{s, strong} }

// sentence makes others' words a sentence: it begins with a capital and ends with a full stop. What stands in backquotes
// is something to type.
func sentence(s string) line {
	s = strings.TrimSpace(s)
	if s == "" {
		return nil
	}
	if c := s[0]; c >= 'a' && c <= 'z' {
		if word, _, _ := strings.Cut(s, " "); !strings.ContainsAny(word, "_/.:=") { // nf_conntrack_max stays as it is
			s = string(c-'a'+'A') + s[1:]
		}
	}
	return tail(s)
}

// tail is the end of a sentence, in others' words.
func tail(s string) line {
	s = strings.TrimSpace(s)
	if s == "" || !strings.ContainsAny(s[len(s)-1:], ".!?") {
		s += "."
	}
	var l line
	for i, part := range strings.Split(s, "`") {
		if part != "" {
			l = append(l, span{part, [...]spanKind{plain, code}[i%2]})
		}
	}
	return l
}
