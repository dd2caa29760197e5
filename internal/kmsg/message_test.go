package kmsg

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		record string
		want   message
		bad    bool
	}{
		"6.18": {
			record: "4,2011,10601435712,-;nf_conntrack: nf_conntrack: table full in netns 4026532246, dropping packet\n",
			want:   message{2011, true, "nf_conntrack: nf_conntrack: table full in netns 4026532246, dropping packet"},
		},
		"properties follow": {
			record: "6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n DEVICE=n4\n",
			want:   message{339, true, "NET: Registered protocol family 10"},
		},
		"3.10, the rest of a line": {
			record: "4,812,88001,+;, dropping packet\n",
			want:   message{812, true, ", dropping packet"},
		},
		"CONFIG_PRINTK_CALLER": {
			record: "4,7,9,-,caller=T4711;hello\n",
			want:   message{7, true, "hello"},
		},
		"a program wrote it": {
			record: "12,8,9,-;nf_conntrack: table full, dropping packet\n",
			want:   message{8, false, "nf_conntrack: table full, dropping packet"},
		},
		"two lines and a backslash": {
			record: `4,7,9,-;a\x0ab\x5cx41 \x1b \xe9;z` + "\n",
			want:   message{7, true, "a\nb\\x41 \x1b \xe9;z"},
		},
		"no escapes":     {record: `4,7,9,-;\x \xg0 \x4`, want: message{7, true, `\x \xg0 \x4`}},
		"no text":        {record: "4,7,9,-;", want: message{7, true, ""}},
		"no semicolon":   {record: "4,7,9,-", bad: true},
		"two fields":     {record: "4,7;x", bad: true},
		"no priority":    {record: ",7,9,-;x", bad: true},
		"no sequence":    {record: "4,-7,9,-;x", bad: true},
		"nothing":        {record: "", bad: true},
		"plain old text": {record: "<4>nf_conntrack: table full, dropping packet.\n", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := parse([]byte(c.record))
			if ok == c.bad {
				t.Errorf("parsed: %v", ok)
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(message{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTableFull(t *testing.T) {
	for line, want := range map[string]struct {
		inode uint64
		ok    bool
	}{
		"ip_conntrack: table full, dropping packet.":                                  {0, true},
		"nf_conntrack: table full, dropping packet.":                                  {0, true},
		"nf_conntrack: table full, dropping packet":                                   {0, true},
		"nf_conntrack: nf_conntrack: table full, dropping packet":                     {0, true},
		"nf_conntrack: table full in netns 4026532246, dropping packet":               {4026532246, true},
		"nf_conntrack: nf_conntrack: table full in netns 4026532246, dropping packet": {4026532246, true},
		"nf_conntrack: table full in netns 4026532246, dropping packet.":              {4026532246, true},

		"nf_conntrack: expectation table full":                           {},
		"nf_conntrack: table full":                                       {},
		"nf_conntrack: table full in netns , dropping packet":            {},
		"nf_conntrack: table full in netns 0, dropping packet":           {},
		"nf_conntrack: table full in netns 99999999999, dropping packet": {},
		"nf_conntrack: table full in netns 12":                           {},
		"nf_conntrack: table full in netns 12 dropping packet":           {},
		"table full, dropping packet":                                    {},
		"foo: nf_conntrack: table full, dropping packet":                 {},
		"nf_conntrack: table full, dropping packet of mine":              {},
		"nf_conntrack: falling back to vmalloc.":                         {},
		"":                                                               {},
	} {
		if inode, ok := tableFull(line); inode != want.inode || ok != want.ok {
			t.Errorf("%q: %d %v, want %v", line, inode, ok, want)
		}
	}
}

func TestNamesNetNS(t *testing.T) {
	for release, want := range map[string]bool{
		"6.18.44-fc-v657": true, "6.18.0": true, "6.18": true, "7.0.0-43-generic": true, "10.1": true, "6.100-rc1": true,
		"6.17.9": false, "6.12.107+deb13-amd64": false, "5.14.0-570.el9": false, "3.10.0-1062.el7": false, "5.20": false,
		"6": false, "": false, "x.y": false, "6.x": false,
	} {
		if got := namesNetNS(release); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}

// FuzzParse: what the kernel's way of escaping made of a text comes back as it was, whatever surrounds it.
func FuzzParse(f *testing.F) {
	f.Add([]byte("4,2011,10601435712,-;nf_conntrack: table full, dropping packet\n"))
	f.Add([]byte("6,339,5140900,c,caller=C0;a\\x0ab\n SUBSYSTEM=net\n"))
	f.Add([]byte{0xff, '\\', 'x', '\n', ';'})
	f.Fuzz(func(t *testing.T, data []byte) {
		var free tally
		free.take(data)
		if n := free.Lines(0, true); n > uint64(strings.Count(string(data), "table full")) {
			t.Errorf("%q: %d lines", data, n)
		}
		record := fmt.Appendf(nil, "4,18446744073709551615,1,-;%s\n KEY=%s\n", escape(data), escape(data))
		m, ok := parse(record)
		if want := (message{1<<64 - 1, true, string(data)}); !ok || m != want {
			t.Errorf("%q: got %+v, want %+v", record, m, want)
		}
	})
}

// escape is msg_add_ext_text (kernel/printk/printk.c).
func escape(text []byte) string {
	var b strings.Builder
	for _, c := range text {
		if c < ' ' || c >= 127 || c == '\\' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
