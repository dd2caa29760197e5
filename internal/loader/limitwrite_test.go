package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

func TestParseLimit(t *testing.T) {
	for _, c := range []struct {
		text string
		want uint64
		ok   bool
	}{
		{"262144", 262144, true},
		{" \t\r\n262144\n", 262144, true},
		{"262144 17", 262144, true},
		{"0x40000\n", 262144, true},
		{"01000000", 262144, true},
		{"0", 0, true},
		{"-1", 4294967295, true}, // before 6.12
		{"-0", 0, true},
		{"-2147483648", 2147483648, true},
		{"-2147483649", 0, false},
		{"18446744073709551615", 18446744073709551615, true},
		{"18446744073709551616", 0, false},
		{"00000000000000000007", 7, true},
		{"000000000000000000007", 0, false},
		{"", 0, false},
		{" \n", 0, false},
		{"many", 0, false},
		{"-", 0, false},
		{"+1", 0, false},
		{"5\x00", 0, false},
		{"08", 0, false},
		{"0x", 0, false},
		{"1_000", 0, false},
	} {
		if got, ok := parseLimit([]byte(c.text)); got != c.want || ok != c.ok {
			t.Errorf("%q: %d, %t, want %d, %t", c.text, got, ok, c.want, c.ok)
		}
	}
}

// FuzzParseLimit: a number is itself, however written; blanks before it, and what comes after a blank, do not matter.
func FuzzParseLimit(f *testing.F) {
	f.Add("262144", uint64(262144))
	f.Add("\xa0-1 x", uint64(0))
	f.Add("0000000000000000000000000", uint64(1)<<63)
	f.Fuzz(func(t *testing.T, text string, n uint64) {
		want, ok := parseLimit([]byte(text))
		if got, also := parseLimit([]byte(" \xa0" + text)); got != want || also != ok {
			t.Errorf("%q: %d, %t, behind blanks %d, %t", text, want, ok, got, also)
		}
		for _, format := range []string{"%d\n", "0x%x\t", "0X%X "} {
			if got, ok := parseLimit([]byte(fmt.Sprintf(format, n) + text)); got != n || !ok {
				t.Errorf("%s of %d: %d, %t", format, n, got, ok)
			}
		}
	})
}

func TestDecodeLimit(t *testing.T) {
	if got := unsafe.Sizeof(programLimitWrite{}); got != limitWriteSize {
		t.Errorf("struct limit_write has %d bytes, in C %d", got, limitWriteSize)
	}
	for _, c := range []struct {
		name     string
		from, to string
		toLen    int32
		want     uint64
		err      error
	}{
		{"line", "262144\n", "131072\n", 7, 131072, nil},
		{"not to its end", "262144\n", "131072", 4, 1310, nil},
		{"cut off behind the number", "262144\n", "131072" + strings.Repeat(" ", 57), -7, 131072, nil},
		{"cut off in blanks", "262144\n", strings.Repeat(" ", 63), -7, 0, errBeyond},
		{"cut off in the number", "262144\n", strings.Repeat(" ", 60) + "131", -7, 0, errBeyond},
		{"cut off in no number", "262144\n", strings.Repeat("1", 63), -7, 0, errNoNumber},
		{"no number", "262144\n", "x", 1, 0, errNoNumber},
		{"nothing written", "262144\n", "", -22, 0, errNoNumber},
		{"longer than there is room", "262144\n", "5 ", 1 << 20, 5, nil},
	} {
		raw := programLimitWrite{TimeNs: 5, Cgroup: 7, Pid: 9, ToLen: c.toLen, Limit: uint8(programLimitLIMIT_BUCKETS)}
		copy(raw.Comm[:], "sysctl")
		copy(raw.From[:], c.from)
		copy(raw.To[:], c.to)
		var b bytes.Buffer
		if err := binary.Write(&b, binary.NativeEndian, raw); err != nil {
			t.Fatal(err)
		}
		var got LimitWrite
		err := decodeLimit(b.Bytes(), &got)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		want := LimitWrite{Boot: 5, Key: "nf_conntrack_buckets", From: 262144, To: c.want, PID: 9, Comm: "sysctl", Cgroup: 7}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if err := decodeLimit(b.Bytes()[:limitWriteSize-1], &got); err == nil {
			t.Error("a short one was decoded")
		}
	}
}
