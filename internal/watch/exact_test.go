package watch_test

import (
	"testing"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/watch"
	"github.com/ctwatch/ctwatch/test/lab"
)

// TestTableFullExact: refused = counted = the kernel's drop, for all kinds of packets, on all CPUs at once.
func TestTableFullExact(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		packets := uint64(1_000_000)
		if testing.Short() {
			packets = 50_000
		}
		b := newBench(t)
		b.full(t)
		before := kernel(t, b.server)
		s := watching(t, watch.Options{Probe: probe, Samples: 100})
		sent, err := b.A.Inject(t.Context(), lab.Traffic{Packets: int(packets), Kinds: lab.Kinds(), CPUs: allCPUs(t)})
		must(t, err)
		stop := s.stop()
		moved := kernel(t, b.server).Sub(before)

		if sent.Refused != packets || uint64(moved.Drop) != packets {
			t.Fatalf("of %d packets %d were refused, the kernel's drop moved by %d", packets, sent.Refused, moved.Drop)
		}
		if want := only(conntrack.TableFull, packets); stop.Totals != want || stop.Unattributed != 0 {
			t.Errorf("totals %v, unattributed %d; want %v, 0", stop.Totals, stop.Unattributed, want)
		}
		if got := s.of(b.server); got.Drops != stop.Totals || got.Name != b.server.Name {
			t.Errorf("told of %s: %v; want %s: %v", got.Name, got.Drops, b.server.Name, stop.Totals)
		}
	})
}

// TestLocalExact: a local sender is told of each refusal, so it is an oracle of its own.
func TestLocalExact(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		b := newBench(t)
		b.full(t)
		s := watching(t, watch.Options{Probe: probe, Samples: 100})
		sent, err := b.B.Send(t.Context(), lab.Traffic{Packets: 100_000, Kinds: lab.Kinds(), CPUs: allCPUs(t)})
		must(t, err)
		if sent.Refused != sent.Packets {
			t.Fatalf("of %d packets %d were refused", sent.Packets, sent.Refused)
		}
		stop := s.stop()
		if want := only(conntrack.TableFull, sent.Refused); stop.Totals != want || stop.Unattributed != 0 {
			t.Errorf("totals %v, unattributed %d; want %v, 0", stop.Totals, stop.Unattributed, want)
		}
	})
}
