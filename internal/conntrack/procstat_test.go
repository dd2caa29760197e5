package conntrack

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Sets of counters by kernel. The fixtures are in the form that ct_cpu_seq_show of each kernel prints.
const (
	knownEL6  = knownEL7 &^ (1 << CounterSearchRestart)
	knownEL7  = known510 &^ (1 << CounterClashResolve)
	known510  = knownAll &^ (1 << CounterChainTooLong)
	knownAll  = CounterSet(1<<NumCounters - 1)
	knownNone = CounterSet(0)
)

func TestParseProcStat(t *testing.T) {
	// found, invalid, insert, insert_failed, drop, early_drop, error, search_restart, clash_resolve, chaintoolong
	tests := map[string]Snapshot{
		"el6": {Count: 0x4f12, Known: knownEL6, CPU: []Counters{
			{0x77e0b1c2, 0x1c2e0, 0xa8e2b0, 0, 0x11, 3, 0x1f0, 0, 0, 0},
			{0x51c3aa87, 0xe419, 0x619f44, 1, 7, 0, 0x12c, 0, 0, 0},
		}},
		"el7": {Count: 0x3ffff, Known: knownEL7, CPU: []Counters{
			{0x8e21b7f4, 0x3d2b1, 0x1b38a55, 0xd21, 0x1e240, 0x94, 0x4d1, 0x2a, 0, 0},
			{0xfffffffe, 0x2b8ac, 0x13ad7c4, 0x911, 0x12fd1, 0x5b, 0x37c, 0x1d, 0, 0},
		}},
		"5.10": {Count: 0x10000, Known: known510, CPU: []Counters{
			{1000, 3000, 0, 9, 20000, 100, 2, 7, 21, 0},
			{500, 2000, 0, 4, 10000, 50, 1, 3, 6, 0},
		}},
		"6.18": {Count: 4096, Known: knownAll, CPU: []Counters{
			{16, 44, 1000, 14, 1000000, 3000, 1, 0, 3, 5},
			{8, 22, 500, 7, 500000, 1500, 0, 1, 1, 2},
		}},
	}
	for kernel, want := range tests {
		t.Run(kernel, func(t *testing.T) {
			var got Snapshot
			if err := parseProcStat(fixture(t, kernel), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseProcStatStrange(t *testing.T) {
	tests := map[string]struct {
		text string
		want Snapshot
		err  string
	}{
		"unknown columns": {
			text: "future entries  drop thing\nzz 0000000a  00000001 zz\n",
			want: Snapshot{Count: 10, Known: 1 << CounterDrop, CPU: []Counters{{CounterDrop: 1}}},
		},
		"more columns than the header": {
			text: "entries drop\n00000000 00000002 00000003\n",
			want: Snapshot{Known: 1 << CounterDrop, CPU: []Counters{{CounterDrop: 2}}},
		},
		"no last newline": {
			text: "entries drop\n00000000 ffffffff",
			want: Snapshot{Known: 1 << CounterDrop, CPU: []Counters{{CounterDrop: 0xffffffff}}},
		},
		"empty":            {err: "line 1: no column of a known counter"},
		"header alone":     {text: "entries drop\n", err: "line 2: missing"},
		"no entries":       {text: "drop\n00000000\n", err: "line 1: no column of a known counter"},
		"short line":       {text: "entries drop found\n0 0 0\n00000000 00000001\n", err: "line 3: 2 of 3 columns"},
		"empty line":       {text: "entries drop\n\n", err: "line 2: 0 of 2 columns"},
		"no number":        {text: "entries drop\n00000000 0000000g\n", err: "line 2: column 2: "},
		"more than a word": {text: "entries drop\n00000000 100000000\n", err: "line 2: column 2: "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got Snapshot
			err := parseProcStat([]byte(tt.text), &got)
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// FuzzParseProcStat checks that what was read, printed as today's kernel prints it, reads the same.
func FuzzParseProcStat(f *testing.F) {
	for _, kernel := range []string{"el6", "el7", "5.10", "6.18"} {
		f.Add(fixture(f, kernel))
	}
	f.Add([]byte("entries drop drop\n1 2 3\n4 5 6\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s, again Snapshot
		if parseProcStat(text, &s) != nil {
			return
		}
		if s.Known == knownNone || len(s.CPU) == 0 || len(s.CPU) > bytes.Count(text, []byte("\n")) {
			t.Fatalf("%d CPUs, counters %q", len(s.CPU), s.Known)
		}
		if err := parseProcStat(formatProcStat(s), &again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, again); diff != "" {
			t.Errorf("-first +again:\n%s", diff)
		}
	})
}

func formatProcStat(s Snapshot) []byte {
	columns := []string{"found", "invalid", "insert", "insert_failed", "drop", "early_drop", "icmp_error",
		"search_restart", "clashres", "chainlength"}
	b := []byte("entries ")
	for c, name := range columns {
		if s.Known.Has(Counter(c)) {
			b = fmt.Appendf(b, " %s", name)
		}
	}
	for _, cpu := range s.CPU {
		b = fmt.Appendf(b, "\n%08x ", s.Count)
		for c := range columns {
			if s.Known.Has(Counter(c)) {
				b = fmt.Appendf(b, " %08x", cpu[c])
			}
		}
	}
	return append(b, '\n')
}

func fixture(t testing.TB, kernel string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", kernel, "nf_conntrack"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
