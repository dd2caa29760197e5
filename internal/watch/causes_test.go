package watch_test

import (
	"testing"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/watch"
	"github.com/ctwatch/ctwatch/test/lab"
)

// TestCauses provokes causes in other ways than TestProbes does: refused = counted under that cause.
func TestCauses(t *testing.T) {
	for _, c := range []struct {
		name    string
		cause   conntrack.Cause
		provoke func(*testing.T, *bench) lab.Sent
		hook    string
	}{
		{"clash of twins", conntrack.Clash, func(t *testing.T, b *bench) lab.Sent {
			sent, err := b.B.Twins(t.Context(), lab.SYN4, 2000)
			must(t, err)
			return sent
		}, "postrouting"},
		{"chain_too_long, local", conntrack.ChainTooLong, func(t *testing.T, b *bench) lab.Sent {
			must(t, b.LongChains(t.Context(), b.server))
			sent, err := b.B.Send(t.Context(), lab.Traffic{Packets: 10_000, CPUs: allCPUs(t)})
			must(t, err)
			return sent
		}, "postrouting"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onProbes(t, func(t *testing.T, probe string) {
				b := newBench(t)
				s := watching(t, watch.Options{Probe: probe, Samples: 1000})
				sent := c.provoke(t, b)
				stop := s.stop()
				if sent.Refused == 0 {
					t.Fatal("nothing was refused")
				}
				if want := only(c.cause, sent.Refused); stop.Totals != want || stop.Unattributed != 0 {
					t.Errorf("totals %v, unattributed %d; want %v, 0", stop.Totals, stop.Unattributed, want)
				}
				drops := s.drops()
				if (len(drops) > 0) != (probe != loader.Counters) {
					t.Fatalf("told of %d refused packets", len(drops))
				}
				for _, d := range drops {
					if d.Cause != c.cause || d.Hook != c.hook || d.Name != b.server.Name || d.Inferred {
						t.Fatalf("told of %+v; want cause %v, hook %s, name %s", *d, c.cause, c.hook, b.server.Name)
					}
				}
			})
		})
	}
}

// TestEvictionsAreNoDrops: a full table of entries that can be evicted refuses nobody.
func TestEvictionsAreNoDrops(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		b := newBench(t)
		must(t, b.SetLimit(lab.Max, 1000))
		must(t, b.server.FillUpEvictable(t.Context()))
		before := kernel(t, b.server)
		s := watching(t, watch.Options{Probe: probe, Samples: 100})
		sent, err := b.A.Inject(t.Context(), lab.Traffic{Packets: 5000})
		must(t, err)
		stop := s.stop()
		moved := kernel(t, b.server).Sub(before)
		if moved.EarlyDrop == 0 {
			t.Fatal("nothing was evicted")
		}
		if stop.Evicted != uint64(moved.EarlyDrop) {
			t.Errorf("evicted %d; the kernel says %d", stop.Evicted, moved.EarlyDrop)
		}
		if stop.Totals.Total() != sent.Refused || stop.Unattributed != 0 {
			t.Errorf("totals %v, unattributed %d; %d were refused", stop.Totals, stop.Unattributed, sent.Refused)
		}
	})
}
