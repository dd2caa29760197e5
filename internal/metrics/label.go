package metrics

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ctwatch/ctwatch/internal/record"
)

const (
	hostLabel  = "host"
	otherLabel = "other"

	maxLabel = 100 // runes; a unit's name may have 255
)

// labelOf is what a namespace is called: its name, or its inode number where it has none.
func labelOf(n *record.NetNS) string {
	switch {
	case n.Host:
		return hostLabel
	case n.Name == "":
		return strconv.FormatUint(n.NS, 10)
	}
	return printable(n.Name)
}

// printable makes untrusted text fit for a label: valid UTF-8 without anything that moves a cursor or the text around it.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
	if utf8.RuneCountInString(s) > maxLabel {
		s = string([]rune(s)[:maxLabel-1]) + "…"
	}
	return s
}

// distinct returns the label, with the inode number after it where it is taken: by another namespace of that name, or
// because it is the host's. Names are chosen by others, so the longer label may be taken, too.
func distinct(label string, inode uint64, taken func(string) bool) string {
	for taken(label) {
		label = fmt.Sprintf("%s (%d)", label, inode)
	}
	return label
}
