package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	screenWidth = 80 // columns of the narrowest terminal that people have
	labelWidth  = 11
)

// paragraphs writes labels and what there is to say of each, which is wrapped beside its label. Its first error stays.
type paragraphs struct {
	w   io.Writer
	err error
}

func (p *paragraphs) add(label, format string, args ...any) {
	if p.err != nil {
		return
	}
	for i, line := range wrap(fmt.Sprintf(format, args...), screenWidth-labelWidth) {
		if i > 0 {
			label = ""
		}
		if _, p.err = fmt.Fprintf(p.w, "%-*s%s\n", labelWidth, label, line); p.err != nil {
			return
		}
	}
}

// line writes one as it is, which people may copy.
func (p *paragraphs) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// wrap breaks a text at spaces. What stands in backquotes, and a word that is longer than a line, stays whole.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range words(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

func words(text string) (words []string) {
	quoted := false
	for _, word := range strings.Fields(text) {
		if quoted {
			words[len(words)-1] += " " + word
		} else {
			words = append(words, word)
		}
		if strings.Count(word, "`")%2 == 1 {
			quoted = !quoted
		}
	}
	return words
}
