package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/persist"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

const gib = 1 << 30

// small is a machine of 8 GiB whose host has 61,000 of 65,536 entries, and as many buckets.
func small() *machine {
	return &machine{
		loaded: true, release: "6.12.107+deb13-amd64",
		state:  limits.State{Max: 65536, Buckets: 65536, Count: 61000},
		tables: []table{{1, "host", 61000}, {2, "web", 6000}, {3, "", 10}},
		memory: remediate.Memory{Total: 8 * gib, Available: 4 * gib, PerEntry: 384, Measured: true},
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name    string
		request request
		change  func(*machine)
		want    []string // how the objections begin, and what they can be overruled by
		notes   []string
	}{
		{name: "more", request: request{max: 262144}},
		{name: "the same", request: request{max: 65536}},
		{name: "less, but enough", request: request{max: 61000}},
		{name: "less than is in use", request: request{max: 60999},
			want: []string{"force: 60,999 is below what is in use: 61,000 entries in host. Nothing is evicted, but every new"}},
		{name: "less than is in use in two", request: request{max: 5999},
			want: []string{"force: 5,999 is below what is in use: 61,000 entries in host, 6,000 entries in web."}},
		{name: "less than is in use in many", request: request{max: 5}, change: func(m *machine) { m.tables = append(m.tables, table{4, "b\x1b", 6}, table{5, "c", 6}) },
			want: []string{"force: 5 is below what is in use: 61,000 entries in host, 6,000 entries in web, 10 entries in net:[3], more in 2 others."}},
		{name: "a name that could trouble a terminal", request: request{max: 65536}, change: func(m *machine) { m.tables[0].Name, m.tables[0].Count = "b\x1b[2J", 70000 },
			want: []string{`force: 65,536 is below what is in use: 70,000 entries in "b\x1b[2J". `}},
		// 8 % of 8 GiB hold 1,789,569 entries more.
		{name: "all that memory allows", request: request{max: 61000 + 1789569, buckets: 1 << 20}},
		{name: "more than memory allows", request: request{max: 61000 + 1789570, buckets: 1 << 20},
			want: []string{"force: 1,850,570 entries could cost 686 MiB of this machine's 8 GiB (4 GiB available)"}},
		{name: "two busy namespaces share memory", request: request{max: 1000000, buckets: 1 << 20},
			change: func(m *machine) { m.tables[2].Count = 8000 },
			want:   []string{"force: 1,000,000 entries could cost 740 MiB of this machine's 8 GiB"}},
		{name: "less than now, but more than memory allows", request: request{max: 2 << 20, buckets: 1 << 20},
			change: func(m *machine) { m.state.Max = 4 << 20 }},
		{name: "memory that is not known", request: request{max: 262144}, change: func(m *machine) { m.noMem = errors.New("no meminfo") },
			want: []string{"force: what it may cost is not known (no meminfo)"}},
		{name: "no limit", request: request{max: 0},
			want: []string{"force: 0 is no limit at all: whoever opens connections can then have the kernel use up all memory, 8 GiB here"}},
		{name: "no limit, as it is", request: request{max: 0}, change: func(m *machine) { m.state.Max = 0 }},
		{name: "no limit on a kernel that has none", request: request{max: 0}, change: func(m *machine) { m.release = "7.1.0-rc3" },
			want: []string{"impossible: 0 is not possible: kernel 7.1.0-rc3 takes 1 at least"}},
		{name: "no limit, on the last kernel that has it", request: request{max: 0}, change: func(m *machine) { m.release = "6.19.0" },
			want: []string{"force: 0 is no limit at all"}},
		{name: "no limit at boot", request: request{max: 0, persist: true},
			want: []string{"senseless: 0 is no limit at all, and that is not made to last"}},
		{name: "buckets in plenty", request: request{max: 524288, buckets: 524288}},
		{name: "buckets as of old", request: request{max: 524288, buckets: 131072}},
		{name: "few buckets", request: request{max: 524288, buckets: 65536},
			notes: []string{"with 65,536 buckets the chains of a full table have 16 entries on average: `--buckets 262144` would keep them short"}},
		{name: "few buckets as there are", request: request{max: 524288},
			notes: []string{"with 65,536 buckets the chains of a full table have 16 entries on average: `--buckets 262144`"}},
		{name: "buckets that are not known", request: request{max: 524288}, change: func(m *machine) { m.state.Buckets = 0 }},
		{name: "too few buckets for what is there", request: request{max: 65536, buckets: 1024},
			want:  []string{"force: with 1,024 buckets the chains would have 130 entries on average now, and the kernel refuses packets"},
			notes: []string{"with 1,024 buckets the chains of a full table have 128 entries on average: `--buckets 32768`"}},
		{name: "buckets for all memory", request: request{max: 65536, buckets: 268435455},
			want: []string{"force: 268,435,455 buckets take 2.0 GiB of the 4 GiB that are available"}},
		{name: "several things at once", request: request{max: 1, buckets: 1},
			want: []string{"force: 1 is below what is in use", "force: with 1 buckets the chains would have 134,020 entries"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := small()
			if c.change != nil {
				c.change(m)
			}
			objections, notes := m.judge(c.request)
			var got []string
			for _, o := range objections {
				got = append(got, map[objectionKind]string{needsForce: "force", impossible: "impossible", senseless: "senseless"}[o.kind]+": "+o.why)
			}
			begins(t, c.want, got)
			begins(t, c.notes, notes)
		})
	}
}

// begins checks that texts begin as they should.
func begins(t *testing.T, want, got []string) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%d texts, want %d: %q", len(got), len(want), got)
		return
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%q, want %q...", got[i], want[i])
		}
	}
}

func TestBack(t *testing.T) {
	n := func(v uint64) *uint64 { return &v }
	raised := persist.Set{Max: persist.Step{From: 65536, To: 524288}, Buckets: persist.Step{From: 16384, To: 131072}}
	for _, c := range []struct {
		name   string
		set    persist.Set
		change func(*machine)
		want   backwards
		object []string
	}{
		{name: "as the set left it", set: raised, want: backwards{n(65536), n(16384)}},
		{name: "as it was before the set", set: raised, change: func(m *machine) { m.state.Max, m.state.Buckets = 65536, 16384 }},
		{name: "only max was set", set: persist.Set{Max: raised.Max}, want: backwards{max: n(65536)}},
		{name: "only files were written", set: persist.Set{}},
		{name: "set by somebody else since", set: raised, change: func(m *machine) { m.state.Max = 131072 }, want: backwards{n(65536), n(16384)},
			object: []string{"max is 131,072 now, and not the 524,288 that the last set made it"}},
		{name: "buckets set by somebody else since", set: raised, change: func(m *machine) { m.state.Buckets = 512 }, want: backwards{n(65536), n(16384)},
			object: []string{"the number of buckets is 512 now, and not the 131,072"}},
		{name: "more in use than there was room", set: raised, change: func(m *machine) { m.tables[0].Count = 70000 }, want: backwards{n(65536), n(16384)},
			object: []string{"65,536, as it was before, is below what is in use: 70,000 entries in host. Every new connection"}},
		{name: "it was no limit", set: persist.Set{Max: persist.Step{From: 0, To: 524288}}, want: backwards{max: n(0)}},
		{name: "it was made no limit", set: persist.Set{Max: persist.Step{From: 65536, To: 0}}, change: func(m *machine) { m.state.Max = 0 }, want: backwards{max: n(65536)}},
		{name: "conntrack is not loaded", set: raised, change: func(m *machine) { *m = machine{} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := small()
			m.state.Max, m.state.Buckets = 524288, 131072
			if c.change != nil {
				c.change(m)
			}
			got, objections := m.back(&c.set)
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(backwards{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			begins(t, c.object, objections)
		})
	}
}
