package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// number writes a count for people: 1,004,724.
func number(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// several is a number and its noun: "1 packet", "2 packets".
func several(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if s, ok := strings.CutSuffix(noun, "y"); ok {
		noun = s + "ie"
	}
	return number(n) + " " + noun + "s"
}

// duration writes a time as people say it, with two figures at most: 350 ms, 4.2 s, 3 min 5 s, 2 h 10 min, 3 d 4 h.
func duration(d time.Duration) string {
	two := func(a time.Duration, big string, b time.Duration, small string) string {
		d := d.Round(b)
		s := fmt.Sprintf("%d %s", d/a, big)
		if rest := d % a / b; rest > 0 {
			s += fmt.Sprintf(" %d %s", rest, small)
		}
		return s
	}
	switch day := 24 * time.Hour; {
	case d < 0:
		return "-" + duration(-d)
	case d == 0:
		return "0 s"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Round(time.Microsecond)/time.Microsecond)
	case d < time.Second-time.Millisecond/2:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond)/time.Millisecond)
	case d < 10*time.Second-50*time.Millisecond:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Seconds()), ".0") + " s"
	case d < time.Minute-500*time.Millisecond:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour-500*time.Millisecond:
		return two(time.Minute, "min", time.Second, "s")
	case d < day-30*time.Second:
		return two(time.Hour, "h", time.Minute, "min")
	default:
		return two(day, "d", time.Hour, "h")
	}
}

// percent writes a share for people. It says 100 % and 0 % only of all and nothing.
func percent(share float64) string {
	switch p := 100 * share; {
	case share <= 0:
		return "0 %"
	case p < 0.1:
		return "<0.1 %"
	case share < 1 && p >= 99.95:
		return ">99.9 %"
	default:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", p), ".0") + " %"
	}
}

// rate writes packets a second.
func rate(perSecond float64) string {
	if perSecond < 10 && perSecond > 0 {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", perSecond), ".0") + "/s"
	}
	return number(uint64(perSecond+0.5)) + "/s"
}

// size writes bytes as people say them.
func size(bytes uint64) string {
	switch {
	case bytes >= 10<<30:
		return fmt.Sprintf("%d GiB", (bytes+1<<29)>>30)
	case bytes >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	case bytes >= 1<<20:
		return fmt.Sprintf("%d MiB", (bytes+1<<19)>>20)
	}
	return fmt.Sprintf("%d KiB", (bytes+1<<10-1)>>10)
}

// visible makes others' text harmless wherever it is shown: what cannot be seen, or changes how the rest is seen
// (control characters, escape sequences, line ends, the overrides of the direction of writing, broken UTF-8), is written
// as Go writes it in a string.
func visible(s string) string {
	clean := true
	for i, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError && isBroken(s[i:]) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && isBroken(s[i:]):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

func isBroken(s string) bool {
	_, n := utf8.DecodeRuneInString(s)
	return n <= 1
}

// grouped writes the counts in a sentence as number does: whole words of four digits or more, but for process ids.
func grouped(s string) string {
	words := strings.Split(s, " ")
	for i, w := range words {
		core := strings.TrimRight(strings.TrimLeft(w, "("), ",.;:)")
		if len(core) < 4 || len(core) > 19 || strings.Trim(core, "0123456789") != "" || i > 0 && strings.HasSuffix(words[i-1], "pid") {
			continue
		}
		if n, err := strconv.ParseUint(core, 10, 64); err == nil {
			words[i] = strings.Replace(w, core, number(n), 1)
		}
	}
	return strings.Join(words, " ")
}

// quote is visible, in quotes.
func quote(s string) string { return `"` + strings.ReplaceAll(visible(s), `"`, `\"`) + `"` }

// clock tells times in one zone.
type clock struct{ *time.Location }

// day is the date in words: Tuesday 24 November 2026.
func (c clock) day(t time.Time) string { return t.In(c.Location).Format("Monday 2 January 2006") }

// moment is date and time.
func (c clock) moment(t time.Time) string { return t.In(c.Location).Format("2006-01-02 15:04:05") }

// minute is date and time as far as a table needs it.
func (c clock) minute(t time.Time) string { return t.In(c.Location).Format("2006-01-02 15:04") }

// time is the time of day, with milliseconds where seconds would not tell times of one incident apart.
func (c clock) time(t time.Time, fine bool) string {
	if fine {
		return t.In(c.Location).Format("15:04:05.000")
	}
	return t.In(c.Location).Format("15:04:05")
}

// sameDay reports whether two instants have one date.
func (c clock) sameDay(a, b time.Time) bool {
	return a.In(c.Location).Format(time.DateOnly) == b.In(c.Location).Format(time.DateOnly)
}

// zone is the name of the zone at a time, and how far it is from UTC.
func (c clock) zone(t time.Time) string {
	name, offset := t.In(c.Location).Zone()
	if offset == 0 {
		return "UTC"
	}
	utc := t.In(c.Location).Format("UTC-07:00")
	if name == "" || strings.ContainsAny(name[:1], "+-") {
		return utc
	}
	return name + " (" + utc + ")"
}

// stretch is a stretch of time, with the date once where both are of one day.
func (c clock) stretch(from, to time.Time) string {
	if c.sameDay(from, to) {
		return c.moment(from) + " to " + c.time(to, false)
	}
	return c.moment(from) + " to " + c.moment(to)
}
