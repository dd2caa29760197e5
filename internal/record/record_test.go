package record

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// TestForm holds the records to their form, which other programs rely on: fields may be added, none renamed.
func TestForm(t *testing.T) {
	count, limit, fill := uint64(3), uint64(4), 0.75
	var drops conntrack.Drops
	drops[conntrack.Clash] = 2
	at := time.Date(2026, 11, 23, 3, 4, 5, 6, time.UTC)
	const none = `{"table_full":0,"clash":0,"chain_too_long":0,"insert_race":0,"alloc_failed":0,"other":0}`
	for _, c := range []struct {
		record Record
		want   string
	}{
		{&Start{Version: "v", Kernel: "k", Hostname: "h", Probe: "p", Hooks: []string{"x"}, Skipped: []Skip{{"fexit", "no"}}, Buckets: 1, Max: 2},
			`"kind":"start","version":"v","kernel":"k","hostname":"h","probe":"p","hooks":["x"],"skipped":[{"probe":"fexit","why":"no"}],"buckets":1,"max":2}`},
		{&Sample{Interval: 1, Buckets: 2, Lost: 3, Unattributed: 4, NetNS: []NetNS{{NS: 5, Cookie: 6, Name: "n", Count: &count, Max: &limit, Fill: &fill, Drops: drops, Evicted: 7}}},
			`"kind":"sample","interval_ns":1,"buckets":2,"lost":3,"unattributed":4,"netns":[{"ns":5,"cookie":6,"name":"n","count":3,"max":4,"fill":0.75,` +
				`"drops":{"table_full":0,"clash":2,"chain_too_long":0,"insert_race":0,"alloc_failed":0,"other":0},"evicted":7}]}`},
		{&Sample{NetNS: []NetNS{{NS: 5, Unattributed: 1, Gone: true}}},
			`"kind":"sample","interval_ns":0,"buckets":0,"lost":0,"unattributed":0,"netns":[{"ns":5,"cookie":0,"name":"","count":null,"max":null,"fill":null,` +
				`"drops":` + none + `,"evicted":0,"unattributed":1,"gone":true}]}`},
		{&Drop{NS: 1, Cookie: 2, Name: "n", Cause: conntrack.ChainTooLong, Inferred: true, Proto: "udp", Src: "a", Dst: "b", Sport: 3, Dport: 4, Ifname: "i", Hook: "input"},
			`"kind":"drop","ns":1,"cookie":2,"name":"n","cause":"chain_too_long","inferred":true,"proto":"udp","src":"a","dst":"b","sport":3,"dport":4,"ifname":"i","hook":"input"}`},
		{&Gap{Why: "suspend", From: at, To: at},
			`"kind":"gap","why":"suspend","from":"2026-11-23T03:04:05.000000006Z","to":"2026-11-23T03:04:05.000000006Z"}`},
		{&Stop{Totals: drops, Evicted: 1, Lost: 2, Unattributed: 3, Uptime: 4},
			`"kind":"stop","totals":{"table_full":0,"clash":2,"chain_too_long":0,"insert_race":0,"alloc_failed":0,"other":0},"evicted":1,"lost":2,"unattributed":3,"uptime_ns":4}`},
	} {
		Stamp(c.record, 9, at.In(time.FixedZone("east", 3600)), 8)
		got, err := json.Marshal(c.record)
		if err != nil {
			t.Fatal(err)
		}
		want := `{"v":1,"seq":9,"time":"2026-11-23T03:04:05.000000006Z","boottime_ns":8,` + c.want
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
