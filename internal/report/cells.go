package report

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// width is how many cells of a terminal a text takes, at most.
func width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// wide are the runes that take two cells: those of East Asia, and pictures.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{{0x1100, 0x115f, 1}, {0x231a, 0x231b, 1}, {0x23e9, 0x23f3, 1}, {0x25fd, 0x25fe, 1}, {0x2614, 0x27bf, 1},
		{0x2b1b, 0x2b55, 1}, {0x2e80, 0xa4cf, 1}, {0xa960, 0xa97c, 1}, {0xac00, 0xd7a3, 1}, {0xf900, 0xfaff, 1}, {0xfe10, 0xfe6f, 1}, {0xff00, 0xff60, 1}, {0xffe0, 0xffe6, 1}},
	R32: []unicode.Range32{{0x16fe0, 0x18cff, 1}, {0x1b000, 0x1b2ff, 1}, {0x1f000, 0x1faff, 1}, {0x20000, 0x3fffd, 1}},
}

func runeWidth(r rune) int {
	if unicode.Is(wide, r) {
		return 2
	}
	return 1
}

// fit shortens a text to n cells.
func fit(s string, n int) string {
	if width(s) <= n {
		return s
	}
	head, _ := cut(s, n-1)
	return head + "…"
}

// cut divides a text where n cells are full.
func cut(s string, n int) (head, tail string) {
	used := 0
	for i, r := range s {
		if used += runeWidth(r); used > n {
			if i == 0 { // not even one fits
				_, size := utf8.DecodeRuneInString(s)
				return s[:size], s[size:]
			}
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// pad fills a text up to n cells.
func pad(s string, n int, right bool) string {
	space := strings.Repeat(" ", max(0, n-width(s)))
	if right {
		return space + s
	}
	return s + space
}
