package hook

import (
	"io"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"golang.org/x/sys/unix"
)

// output is what a hook prints, as much of it as is kept. It takes everything, lest a hook that prints more waits for us.
type output struct {
	kept      []byte
	limit     int
	discarded uint64
}

func (o *output) Write(p []byte) (int, error) {
	n := min(len(p), o.limit-len(o.kept))
	o.kept = append(o.kept, p[:n]...)
	o.discarded += uint64(len(p) - n)
	return len(p), nil
}

// take reads until the end of r, or until r is closed.
func (o *output) take(r io.Reader) {
	_, _ = io.CopyBuffer(struct{ io.Writer }{o}, struct{ io.Reader }{r}, make([]byte, 64<<10))
}

// text is what was kept, of which nothing but line feeds and tabs controls a terminal. Escapes make it no longer than
// the limit.
func (o *output) text() string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(string(o.kept), "\uFFFD") {
		if b.Len() >= o.limit {
			break
		}
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// tailBytes is about how much of the output the journal's reason has room for.
const tailBytes = 300

// tail is the end of a hook's output as one quoted line, and empty where it printed nothing.
func tail(text string) string {
	text = strings.TrimSpace(text)
	if text == "" {
		return ""
	}
	if len(text) > tailBytes {
		text = "…" + strings.ToValidUTF8(text[len(text)-tailBytes:], "")
	}
	return strconv.Quote(text)
}

// signalName is a signal as kill(1) calls it.
func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return "signal " + strconv.Itoa(int(s))
}
