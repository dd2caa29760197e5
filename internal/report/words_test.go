package report

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

func TestWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{number(0), "0"}, {number(999), "999"}, {number(1000), "1,000"}, {number(1004724), "1,004,724"},
		{several(1, "entry"), "1 entry"}, {several(2, "entry"), "2 entries"}, {several(0, "packet"), "0 packets"},
		{duration(0), "0 s"}, {duration(350 * time.Millisecond), "350 ms"}, {duration(999700 * time.Microsecond), "1 s"},
		{duration(4240 * time.Millisecond), "4.2 s"}, {duration(9999 * time.Millisecond), "10 s"}, {duration(59900 * time.Millisecond), "1 min"},
		{duration(61 * time.Second), "1 min 1 s"}, {duration(time.Hour - time.Millisecond), "1 h"}, {duration(26 * time.Hour), "1 d 2 h"},
		{duration(24*time.Hour - time.Second), "1 d"}, {duration(-time.Second), "-1 s"}, {duration(1500), "2 µs"},
		{percent(0), "0 %"}, {percent(0.00001), "<0.1 %"}, {percent(0.137), "13.7 %"}, {percent(0.9999), ">99.9 %"}, {percent(1), "100 %"}, {percent(2), "200 %"},
		{rate(0), "0/s"}, {rate(2.25), "2.2/s"}, {rate(48211), "48,211/s"},
		{size(4 << 20), "4 MiB"}, {size(788529152), "752 MiB"}, {size(1), "1 KiB"}, {size(3 << 29), "1.5 GiB"},
		{visible("a\x1b[0m\xff\u202e\n"), `a\x1b[0m\xff\u202e\n`}, {visible("größe 漢 \ufffd"), "größe 漢 \ufffd"},
		{grouped("4406374 packets, at most 48211 a second (pid 12345, 10.0.0.1) 83.0 % of 262144."), "4,406,374 packets, at most 48,211 a second (pid 12345, 10.0.0.1) 83.0 % of 262,144."},
		{short(1048576), "1.05M"}, {short(950), "950"}, {short(46480), "46.5k"}, {short(500000), "500k"}, {short(0.25), "0.25"},
		{sentence("nf_conntrack_max was lowered").String(), "nf_conntrack_max was lowered."}, {sentence("raising it: no").String(), "Raising it: no."}, {sentence("").String(), ""},
		{clock{cet}.zone(day), "CET (UTC+01:00)"}, {clock{time.UTC}.zone(day), "UTC"}, {clock{time.FixedZone("+0530", 19800)}.zone(day), "UTC+05:30"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name          string
		peak, buckets uint64
		limit, more   uint64
	}{
		{name: "the least", peak: 1000, buckets: 262144, limit: 524288},
		{name: "a fifth", peak: 262144, buckets: 65536, limit: 2097152, more: 524288},
		{name: "exactly a fifth", peak: 209715, buckets: 1 << 20, limit: 1 << 20},
		{name: "no peak", limit: 524288},
		{name: "more than there is", peak: 1 << 40, buckets: 1 << 28, limit: 1 << 30},
	} {
		got := planFor(&Incident{Incident: record.Incident{PeakCount: c.peak, Buckets: c.buckets}})
		if got.limit != c.limit || got.buckets != c.more {
			t.Errorf("%s: limit %d, buckets %d; want %d, %d", c.name, got.limit, got.buckets, c.limit, c.more)
		}
	}
}

// TestPlot: whatever is joined, cut and spread, no refused packet is lost on the way.
func TestPlot(t *testing.T) {
	p := &plot{wall: day, width: int64(100 * time.Millisecond)}
	for i := range int64(1000) {
		at := i * int64(time.Second)
		p.level(at, uint64(i), 1000)
		p.refused(at, at+int64(time.Second), conntrack.Drops{10, uint64(i % 3)})
	}
	want := 10*1000.0 + 999
	sum := func(p *plot) (n float64) {
		for i := range p.columns {
			n += p.columns[i].total()
		}
		return n
	}
	for name, q := range map[string]*plot{"whole": p, "shrunk": p.shrink(60), "spread": p.spread(71), "wide": p.spread(999), "cropped": p.crop(0, int64(time.Hour))} {
		if got := sum(q); got < want-0.01 || got > want+0.01 {
			t.Errorf("%s: %v refused, want %v", name, got, want)
		}
		last := q.columns[len(q.columns)-1]
		if len(q.columns) > plotColumns && name != "wide" || last.seen && last.high != 999 {
			t.Errorf("%s: %d columns, the last at %d", name, len(q.columns), last.high)
		}
	}
	part := p.crop(int64(500*time.Second), int64(600*time.Second))
	if got := sum(part); got < 1000 || got > 1300 {
		t.Errorf("cropped to a tenth: %v refused", got)
	}
	if at := part.wall.Sub(day); at > 500*time.Second || at < 490*time.Second {
		t.Errorf("cropped: begins after %v", at)
	}
}

// TestDark: where nobody was counting nothing is shown, in however many columns.
func TestDark(t *testing.T) {
	p := &plot{width: int64(time.Second), fixed: true, columns: make([]column, 480)}
	p.level(0, 100, 1000)
	p.darken(int64(100*time.Second), int64(300*time.Second))
	p.level(int64(400*time.Second), 100, 1000)
	for _, q := range []*plot{p, p.shrink(60), p.spread(71), p.spread(700)} {
		cols := q.filled()
		n := len(cols)
		if !cols[n/10].seen || cols[n*4/10].seen || cols[n/2].seen || !cols[n*9/10].seen {
			t.Errorf("in %d columns: seen %v, then %v and %v where nobody counted, then %v", n, cols[n/10].seen, cols[n*4/10].seen, cols[n/2].seen, cols[n*9/10].seen)
		}
	}
}

// TestSteps: each verdict has something to do, and never a raised limit where that would do harm.
func TestSteps(t *testing.T) {
	share := func(key string, share float64) []record.Share { return []record.Share{{Key: key, Share: share}} }
	for kind := range verdictWords {
		i := &Incident{Incident: record.Incident{VerdictKind: kind, PeakCount: 262144, Buckets: 65536, NS: 4026532000, Limits: record.Limits{Before: 262144, After: 262144},
			Fillers: &record.Fillers{Src: share("10.0.0.1", 0.9), Dst: share("10.96.0.10", 0.9), SrcNet: share("10.0.0.0/24", 0.9), Dport: share("udp/53", 0.9)}}}
		var commands []string
		for _, s := range new(Report).stepsFor(i) {
			commands = append(commands, s.Commands...)
		}
		raises := false
		for _, c := range commands {
			var to uint64
			if n, _ := fmt.Sscanf(c, "ctwatch limit set %d", &to); n == 1 {
				raises = raises || to > 262144
			}
			if strings.Contains(c, "nf_conntrack_max=") || strings.Contains(c, "nf_conntrack_max =") {
				t.Errorf("%s: the limit is not left to ctwatch: %s", kind, c)
			}
		}
		may := map[string]bool{record.VerdictLimitTooSmall: true, record.VerdictLimitLowered: true, record.VerdictFull: true}[kind]
		if raises != may || len(commands) < 2 {
			t.Errorf("%s: raises the limit %v, want %v; %d commands", kind, raises, may, len(commands))
		}
	}
	// A limit that is not known is not written down.
	for kind := range verdictWords {
		i := &Incident{Incident: record.Incident{VerdictKind: kind, PeakCount: 5000, Buckets: 1024}}
		for _, s := range new(Report).stepsFor(i) {
			for _, c := range s.Commands {
				if strings.Contains(c, "limit set 0") || strings.Contains(c, "limit set 1 ") {
					t.Errorf("%s, with no limit known: %s", kind, c)
				}
			}
		}
	}
	// Others' text comes into no command.
	for kind := range verdictWords {
		i := &Incident{Incident: record.Incident{VerdictKind: kind, Fillers: &record.Fillers{Src: share("$(reboot)", 0.9), SrcNet: share("1; reboot", 0.9),
			Dst: share("::1%reboot", 0.9), Dport: share("udp/5;reboot", 0.9)}}}
		for _, s := range new(Report).stepsFor(i) {
			for _, c := range s.Commands {
				if strings.Contains(c, "reboot") {
					t.Errorf("a command holds others' text: %s", c)
				}
			}
		}
	}
}
