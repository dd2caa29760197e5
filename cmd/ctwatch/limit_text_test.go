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

func TestTables(t *testing.T) {
	for _, c := range []struct {
		counts []uint64
		want   string
	}{
		{[]uint64{0}, "0 in net:[1]"},
		{[]uint64{0, 0}, "0 in net:[1]; none in 1 other"},
		{[]uint64{9, 0, 0}, "9 in net:[1]; none in 2 others"},
		{[]uint64{9, 8, 7, 7}, "9 in net:[1]; 8 in net:[2]; 7 in net:[3]; 7 in net:[4]"},
		{[]uint64{9, 8, 7, 7, 7}, "9 in net:[1]; 8 in net:[2]; 7 in net:[3]; 7 in net:[4]; no more in any of 1 other"},
	} {
		s := &limitShow{}
		for i, n := range c.counts {
			s.NetNS = append(s.NetNS, tableFill{table: table{NS: uint64(i + 1), Count: n}})
		}
		if diff := cmp.Diff(c.want, strings.Join(s.textTables(), "; ")); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.counts, diff)
		}
	}
}

func TestConclusion(t *testing.T) {
	for _, c := range []struct{ why, want string }{
		{"", ""},
		{"kube-proxy lowered it", "kube-proxy lowered it"},
		{"61,000 of 65,536; memory allows it; so: raise to 524,288", "so: raise to 524,288"},
		{"61,000 of 65,536; so: raise to 524,288; but: read-only file system", "so: raise to 524,288; but: read-only file system"},
		{"61,000 of 65,536; a flood from 203.0.113.0/24; so: leave the limit", "a flood from 203.0.113.0/24"},
		{"a file sets it; of the buckets, no file does", "a file sets it; of the buckets, no file does"},
	} {
		if got := conclusion(c.why); got != c.want {
			t.Errorf("%q comes down to %q, want %q", c.why, got, c.want)
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
