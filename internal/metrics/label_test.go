package metrics

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/ctwatch/ctwatch/internal/record"
)

func TestLabelOf(t *testing.T) {
	for _, c := range []struct {
		netns record.NetNS
		want  string
	}{
		{record.NetNS{NS: 4026531833, Name: "host", Host: true}, "host"},
		{record.NetNS{NS: 4026531833, Name: "init", Host: true}, "host"},
		{record.NetNS{NS: 4026532999}, "4026532999"},
		{record.NetNS{NS: 1, Name: "blue"}, "blue"},
		{record.NetNS{NS: 1, Name: "docker:3f4e5d6c7b8a"}, "docker:3f4e5d6c7b8a"},
		{record.NetNS{NS: 1, Name: "grün"}, "grün"},
		{record.NetNS{NS: 1, Name: "a\x1b[31mb\nc\x00"}, "a�[31mb�c�"},
		{record.NetNS{NS: 1, Name: "a\xff\xfeb"}, "a�b"},
		{record.NetNS{NS: 1, Name: `<script>"\`}, `<script>"\`},
		{record.NetNS{NS: 1, Name: "x\u202etxt"}, "x�txt"},
		{record.NetNS{NS: 1, Name: strings.Repeat("ä", 300)}, strings.Repeat("ä", 99) + "…"},
	} {
		if got := labelOf(&c.netns); got != c.want {
			t.Errorf("%q: %q, want %q", c.netns.Name, got, c.want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"", "blue", "a\x1b[31m\n\xff", "\u202e\u2028<script>\"", strings.Repeat("€", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is not printable", got)
		}
		if utf8.RuneCountInString(got) > maxLabel {
			t.Errorf("%q is long", got)
		}
		if again := printable(got); again != got {
			t.Errorf("%q becomes %q", got, again)
		}
	})
}
