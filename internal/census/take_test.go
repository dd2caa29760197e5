package census

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

func TestJudge(t *testing.T) {
	tests := map[string]struct {
		walked        Walked
		before, after table
		exact         bool
		interrupted   bool
		entries       uint64
		certain       bool // the sample's error is 0
	}{
		"all, and nothing changed":        {Walked{Entries: 10, Complete: true}, table{10, 8}, table{10, 8}, true, false, 10, true},
		"expired entries were removed":    {Walked{Entries: 10, Complete: true}, table{15, 8}, table{10, 8}, true, false, 10, true},
		"an empty table":                  {Walked{Complete: true}, table{0, 8}, table{0, 8}, true, false, 0, true},
		"some came behind the walk":       {Walked{Entries: 10, Complete: true}, table{10, 8}, table{12, 8}, false, false, 12, false},
		"some came before the walk":       {Walked{Entries: 12, Complete: true}, table{10, 8}, table{12, 8}, false, false, 12, true},
		"some went behind the walk":       {Walked{Entries: 10, Complete: true}, table{10, 8}, table{9, 8}, false, false, 9, true},
		"as many as the limit":            {Walked{Entries: 10}, table{10, 8}, table{10, 8}, true, false, 10, true},
		"a sample":                        {Walked{Entries: 5}, table{10, 8}, table{10, 8}, false, false, 10, false},
		"interrupted, as the kernel said": {Walked{Entries: 10, Complete: true, Interrupted: true}, table{10, 8}, table{10, 8}, false, true, 10, false},
		"resized":                         {Walked{Entries: 10, Complete: true}, table{10, 8}, table{10, 16}, false, true, 10, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := &record.Fillers{Entries: tt.entries, Walked: tt.walked.Entries, Exact: tt.exact, Interrupted: tt.interrupted}
			f, s := judge(tt.walked, tt.before, tt.after)
			if diff := cmp.Diff(want, f); diff != "" || (s.widest() == 0) != tt.certain {
				t.Errorf("error %v; -want +got\n%s", s.widest(), diff)
			}
		})
	}
}

func TestSparse(t *testing.T) {
	for in, want := range map[table]bool{
		{count: 1_000_000, buckets: 1 << 20}: false,
		{count: 0, buckets: 1 << 18}:         false, // the usual machine
		{count: 3, buckets: 1<<18 + 512}:     true,
		{count: 159, buckets: 1 << 20}:       true,
		{count: 160, buckets: 1 << 20}:       false,
		{count: 0, buckets: 1 << 31}:         true,
	} {
		if got := in.sparse(); got != want {
			t.Errorf("%+v: %v, want %v", in, got, want)
		}
	}
}

func TestIdle(t *testing.T) {
	tcp := func(state uint8, left uint32) Entry {
		return Entry{Proto: unix.IPPROTO_TCP, State: state, Timeout: left}
	}
	usual := timeouts{established: 432_000, unanswered: 300}
	tests := map[string]struct {
		timeouts timeouts
		entry    Entry
		want     bool
	}{
		"a packet just now":            {usual, tcp(3, 432_000), false},
		"almost 10 minutes ago":        {usual, tcp(3, 431_401), false},
		"10 minutes ago":               {usual, tcp(3, 431_400), true},
		"almost expired":               {usual, tcp(3, 301), true},
		"waits for an acknowledgement": {usual, tcp(3, 300), false},
		"longer than the setting":      {timeouts{3600, 300}, tcp(3, 400_000), false},
		"shorter setting":              {timeouts{3600, 300}, tcp(3, 3000), true},
		"setting shorter than idle":    {timeouts{500, 300}, tcp(3, 400), false},
		"setting of nothing":           {timeouts{0, 0}, tcp(3, 1), false},
		"largest setting":              {timeouts{1<<32 - 1, 300}, tcp(3, 1<<32-1), false},
		"closed":                       {usual, tcp(7, 1000), false},
		"SCTP":                         {usual, Entry{Proto: unix.IPPROTO_SCTP, State: 3, Timeout: 1000}, false},
		"offloaded: nobody tells":      {usual, Entry{Proto: unix.IPPROTO_TCP, Status: ipsOffload}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.timeouts.idle(&tt.entry); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// TestRowsWithoutRoom: where there are more keys than room, what a row says of its key holds within its error.
func TestRowsWithoutRoom(t *testing.T) {
	tally, exact := newTally(timeouts{}, 0), map[string]uint64{}
	const entries = 100_000
	for i := range entries {
		e := plain
		e.Src = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if i%20 == 0 {
			e.Src = netip.MustParseAddr("192.0.2.1")
		}
		exact[e.Src.String()]++
		tally.add(&e)
	}
	rows := tally.src.rows(5, sample{entries, entries})
	if len(rows) != 5 || rows[0].Key != "192.0.2.1" {
		t.Fatalf("%+v", rows)
	}
	for _, row := range rows {
		truth := float64(exact[row.Key]) / entries
		if truth < row.Share-row.Error || truth > row.Share+row.Error || row.Error > 1.1/keys {
			t.Errorf("%+v, want %v", row, truth)
		}
	}
}

func TestEmpty(t *testing.T) {
	var f record.Fillers
	newTally(timeouts{}, 0).fill(&f, 10, sample{})
	want := record.Fillers{IdleFor: 600e9, Src: []record.Share{}, SrcNet: []record.Share{}, Dst: []record.Share{},
		Dport: []record.Share{}, Proto: []record.Share{}, State: []record.Share{}} // [] in JSON, not null
	if diff := cmp.Diff(want, f); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestLoadsNothing: where asking would load a module there is an error, and no socket is opened.
func TestLoadsNothing(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want error) {
		t.Helper()
		_, errWalk := Walk(t.Context(), root, 0, func(*Entry) { t.Error("an entry") })
		_, errTake := Take(t.Context(), Options{Root: root})
		if !errors.Is(errWalk, want) || !errors.Is(errTake, want) {
			t.Errorf("%v, %v; want %v", errWalk, errTake, want)
		}
	}
	check(conntrack.ErrNotLoaded)
	write("sys/module/nf_conntrack/initstate", "live\n")
	check(conntrack.ErrNotLoaded)
	write("proc/sys/net/netfilter/nf_conntrack_count", "0\n")
	check(ErrWouldLoad)
	write("sys/module/nf_conntrack/initstate", "going\n")
	check(conntrack.ErrNotLoaded)
}
