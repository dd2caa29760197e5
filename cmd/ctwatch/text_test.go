package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// TestText prints one story from start to stop.
func TestText(t *testing.T) {
	var out strings.Builder
	p := &textPrinter{w: &out}
	n := 0
	print := func(r record.Record) {
		t.Helper()
		n++
		record.Stamp(r, uint64(n), time.Date(2026, 11, 23, 3, 0, n, 0, time.Local), 0)
		if err := p.Record(r); err != nil {
			t.Fatal(err)
		}
	}
	table := func(ns, cookie uint64, name string, count, limit, full, clash, evicted uint64) record.NetNS {
		fill := float64(count) / float64(limit)
		r := record.NetNS{NS: ns, Cookie: cookie, Name: name, Count: &count, Max: &limit, Fill: &fill, Evicted: evicted}
		r.Drops[conntrack.TableFull], r.Drops[conntrack.Clash] = full, clash
		return r
	}
	sample := func(lost, unattributed uint64, netns ...record.NetNS) *record.Sample {
		return &record.Sample{Buckets: 512, Lost: lost, Unattributed: unattributed, NetNS: netns}
	}
	drop := func(ns, cookie uint64, proto, src, dst string, sport, dport uint16) *record.Drop {
		return &record.Drop{NS: ns, Cookie: cookie, Proto: proto, Src: src, Dst: dst, Sport: sport, Dport: dport, Ifname: "eth0", Hook: "prerouting"}
	}
	gone := table(7, 1, "pod a", 0, 1000, 9, 1, 40)
	gone.Gone = true
	unread := record.NetNS{NS: 8, Cookie: 5}
	unread.Drops[conntrack.Other] = 3

	print(&record.Start{Probe: "tracepoint", Hooks: []string{"tp_btf/kfree_skb"}, Skipped: []record.Skip{{Probe: "fexit", Why: "refused"}}, Buckets: 512, Max: 1000})
	print(sample(0, 0, table(1, 3, "host", 10, 1000, 0, 0, 0), table(7, 1, "pod a", 900, 1000, 0, 0, 0)))
	print(drop(7, 1, "udp", "10.0.0.1", "10.0.0.2", 1024, 53))
	print(sample(0, 0, table(7, 1, "pod a", 1000, 1000, 5, 0, 0)))
	print(sample(2, 0, table(7, 1, "pod a", 1000, 1000, 7, 1, 40)))
	lines, id := uint64(2), "20261123-030005-1a2b"
	print(&record.Incident{Phase: record.PhaseOpen, ID: id, NS: 7, Name: "pod a", Cause: conntrack.TableFull})
	print(&record.Incident{Phase: record.PhaseUpdate, ID: id, NS: 7, Name: "pod a", Cause: conntrack.TableFull, VerdictKind: "limit_too_small", Verdict: "Too small."})
	print(&record.Incident{Phase: record.PhaseUpdate, ID: id, NS: 7, Name: "pod a", Cause: conntrack.TableFull, VerdictKind: "limit_too_small", Verdict: "Too small."})
	print(&record.Limit{Key: "nf_conntrack_max", From: 1000, To: 2000, Writer: record.Writer{PID: 12, Comm: "kube proxy", Unit: "kubelet.service"}})
	print(sample(2, 0, table(1, 3, "host", 10, 2000, 0, 0, 0)))
	print(&record.Incident{Phase: record.PhaseClose, ID: id, NS: 7, Name: "pod a", Cause: conntrack.TableFull, LoggedLines: &lines, Evicted: 40,
		Duration: 1.5e9, Drops: conntrack.Drops{conntrack.TableFull: 7}})
	print(&record.Limit{Key: "nf_conntrack_buckets", From: 512, To: 1024})
	print(sample(2, 4, gone))
	print(drop(7, 2, "icmpv6", "fd00::1", "fd00::2", 9, 128<<8))
	print(sample(2, 4, table(7, 2, "\x1b[31mpod", 1, 2000, 1, 0, 0))) // the same inode again
	print(drop(8, 5, "tcp", "fd00::1", "fd00::2", 1, 443))
	print(&record.Sample{Buckets: 1024, Lost: 2, Unattributed: 4, NetNS: []record.NetNS{unread}})
	print(&record.Gap{Why: "suspend", From: time.Date(2026, 11, 23, 2, 0, 0, 0, time.Local), To: time.Date(2026, 11, 23, 3, 0, 0, 0, time.Local)})
	stop := &record.Stop{Evicted: 40, Unattributed: 4}
	stop.Totals[conntrack.TableFull] = 10
	print(stop)

	want := `03:00:01 counting with probe tracepoint on tp_btf/kfree_skb; max 1000, buckets 512
03:00:01 passed over probe fexit: refused
03:00:04 "pod a" 1000/1000 100.0%  +5 refused (table_full 5)  e.g. udp 10.0.0.1:1024 > 10.0.0.2:53 on eth0 (prerouting)
03:00:05 "pod a" 1000/1000 100.0%  +3 refused (table_full 2, clash 1), +40 evicted
03:00:05 2 samples of refused packets lost; the counts are complete
03:00:06 incident 20261123-030005-1a2b opened: table_full in "pod a"
03:00:07 incident 20261123-030005-1a2b: Too small.
03:00:09 nf_conntrack_max 1000 -> 2000 by "kube proxy" (pid 12, kubelet.service)
03:00:11 incident 20261123-030005-1a2b closed: table_full in "pod a", 7 refused and 40 evicted over 1.5s; lines in the kernel log: 2
03:00:12 nf_conntrack_buckets 512 -> 1024 by somebody who was not seen
03:00:13 "pod a" 0/1000 0.0%  +2 refused (table_full 2), namespace is gone
03:00:13 unattributed: the kernel refused 4 packets that the program did not see
03:00:15 "\x1b[31mpod" 1/2000 0.1%  +1 refused (table_full 1)  e.g. icmpv6 type 128 fd00::1 > fd00::2 on eth0 (prerouting)
03:00:17 net:[8]  +3 refused (other 3)  e.g. tcp [fd00::1]:1 > [fd00::2]:443 on eth0 (prerouting)
03:00:18 gap: suspend, from 02:00:00 to 03:00:00
03:00:19 stopped: 10 refused (table_full 10), 40 evicted, 4 more unattributed
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTextAction: one line says what was done or not, from what to what, how soon and why, whatever others' words hold.
func TestTextAction(t *testing.T) {
	for _, c := range []struct {
		action record.Action
		want   string
	}{
		{record.Action{What: record.ActionRaiseMax, Result: record.ResultApplied, From: 2000, To: 524288, Latency: 1234567, Took: 40000, NS: 7, Name: "pod a",
			Why: "peak 1,990 of 2,000, growing 4,100/s; so: raise to 524,288"},
			`applied: raise nf_conntrack_max 2000 -> 524288 for "pod a", after 1.235ms: peak 1,990 of 2,000, growing 4,100/s; so: raise to 524,288`},
		{record.Action{What: record.ActionRaiseMax, Result: record.ResultRefused, From: 524288, Latency: 5, NS: 9, Why: "a flood from \x1b[31m203.0.113.0/24\n"},
			`refused: raise nf_conntrack_max (524288) for net:[9]: a flood from \x1b[31m203.0.113.0/24\n`},
		{record.Action{What: record.ActionRaiseMax, Result: record.ResultYielded, From: 524288, To: 131072, Why: `"kube-proxy" (pid 12) made it 131,072`},
			`yielded: nf_conntrack_max 524288 -> 131072: "kube-proxy" (pid 12) made it 131,072`},
		{record.Action{What: record.ActionRaiseMax, Result: record.ResultDryRun, From: 2000, To: 524288, Latency: 1000, Why: "peak 1,990"},
			`dry run: raise nf_conntrack_max 2000 -> 524288: peak 1,990`},
		{record.Action{What: record.ActionRaiseBuckets, Result: record.ResultFailed, From: 1024, To: 131072, Latency: 31_000_000, Why: "but: read-only file system"},
			`failed: raise nf_conntrack_buckets 1024 -> 131072, after 31ms: but: read-only file system`},
		{record.Action{What: record.ActionPersist, Result: record.ResultApplied, To: 524288, Latency: 2_000_000_000},
			`applied: write the limit for the next boots (524288), after 2s`},
		{record.Action{What: record.ActionUndo, Result: record.ResultApplied, From: 524288, To: 2000, Why: "\"root\" ran `ctwatch limit undo`"},
			"applied: take the last change back 524288 -> 2000: \"root\" ran `ctwatch limit undo`"},
		{record.Action{What: record.ActionHook, Result: record.ResultFailed, Latency: 10_000_000_000, Why: "it took longer than 10s"},
			`failed: run the hook, after 10s: it took longer than 10s`},
		{record.Action{What: "a\nb", Result: "dry\x1b", From: 1, To: 1, Why: "bad\xff\u202e"}, `"dry\x1b": "a\nb" (1): bad` + "\ufffd" + `\u202e`},
	} {
		var out strings.Builder
		p := &textPrinter{w: &out}
		record.Stamp(&c.action, 1, time.Date(2026, 11, 23, 3, 0, 18, 0, time.Local), 0)
		if err := p.Record(&c.action); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff("03:00:18 "+c.want+"\n", out.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
