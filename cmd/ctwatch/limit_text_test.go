package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", []string{""}},
		{"one two three", []string{"one two", "three"}},
		{"exactly 10", []string{"exactly 10"}},
		{"a word-that-is-longer-than-a-line b", []string{"a", "word-that-is-longer-than-a-line", "b"}},
		{"say `ctwatch limit show` now", []string{"say", "`ctwatch limit show`", "now"}},
		{"(`a b` or `c d`)", []string{"(`a b` or", "`c d`)"}},
		{"an `unclosed quote of many words", []string{"an", "`unclosed quote of many words"}},
		{"żółć żółć żółć", []string{"żółć żółć", "żółć"}},
	} {
		if diff := cmp.Diff(c.want, wrap(c.text, 10)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.text, diff)
		}
	}
}

func FuzzWrap(f *testing.F) {
	f.Add("limit `ctwatch limit show` 524,288", 10)
	f.Fuzz(func(t *testing.T, text string, width int) {
		lines := wrap(text, width)
		if got, want := strings.Fields(strings.Join(lines, " ")), strings.Fields(text); !cmp.Equal(got, want) && len(want) > 0 {
			t.Errorf("%q came out as %q", text, lines)
		}
		for _, line := range lines {
			if utf8.RuneCountInString(line) > width && len(words(line)) > 1 {
				t.Errorf("%q is longer than %d and could be broken", line, width)
			}
		}
	})
}
