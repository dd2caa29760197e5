package watch_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/watch"
	"github.com/ctwatch/ctwatch/test/lab"
)

// TestHistoryIsNotCounted: what was refused before the start is history, every packet after it counts.
func TestHistoryIsNotCounted(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		b := newBench(t)
		b.full(t)
		for _, packets := range []int{1, 777, 3} {
			_, err := b.A.Inject(t.Context(), lab.Traffic{Packets: 555, CPUs: allCPUs(t)})
			must(t, err)
			s := watching(t, watch.Options{Probe: probe, Samples: 100})
			sent, err := b.A.Inject(t.Context(), lab.Traffic{Packets: packets, CPUs: allCPUs(t)[:1]})
			must(t, err)
			stop := s.stop()
			if want := only(conntrack.TableFull, sent.Refused); stop.Totals != want || stop.Unattributed != 0 {
				t.Errorf("totals %v, unattributed %d; want %v, 0", stop.Totals, stop.Unattributed, want)
			}
		}
	})
}

// TestStraddle starts and stops in the middle of a flood: what is counted is what the kernel's counters moved by in
// between, nothing is left over, and what came after the start record is in it.
func TestStraddle(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		b := newBench(t)
		b.full(t)
		ctx, cancel := context.WithCancel(t.Context())
		flood := make(chan error, 1)
		before := kernel(t, b.server)
		go func() {
			for ctx.Err() == nil {
				if _, err := b.A.Inject(t.Context(), lab.Traffic{Packets: 20_000, CPUs: allCPUs(t)}); err != nil {
					flood <- err
					return
				}
			}
			flood <- nil
		}()
		for range 5 {
			s := watching(t, watch.Options{Probe: probe, Samples: 100})
			started := kernel(t, b.server)
			s.await("a sample of the flood", func(r record.Record) bool {
				sample, ok := r.(*record.Sample)
				return ok && len(sample.NetNS) > 0 && sample.NetNS[len(sample.NetNS)-1].Drops.Total() > 10_000
			})
			ending := kernel(t, b.server)
			stop := s.stop()
			ended := kernel(t, b.server)
			atLeast, atMost := uint64(ending.Sub(started).Drop), uint64(ended.Sub(before).Drop)
			if n := stop.Totals[conntrack.TableFull]; n < atLeast || n > atMost || n != stop.Totals.Total() || stop.Unattributed > 2 {
				t.Errorf("totals %v, unattributed %d; want from %d to %d, all table_full", stop.Totals, stop.Unattributed, atLeast, atMost)
			}
		}
		cancel()
		must(t, <-flood)
	})
}

// TestFirstDropInNewNamespace: a namespace born after the start has no history, so its first drop on each CPU counts.
func TestFirstDropInNewNamespace(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		b := newBench(t)
		must(t, b.SetLimit(lab.Max, 1000))
		s := watching(t, watch.Options{Probe: probe, Samples: 100})
		for i := range 3 {
			_, server, link := b.pair(t, fmt.Sprintf("c%d", i), fmt.Sprintf("s%d", i))
			must(t, server.FillUp(t.Context()))
			for _, cpu := range allCPUs(t) {
				sent, err := link.A.Inject(t.Context(), lab.Traffic{Packets: 1, CPUs: []int{cpu}})
				must(t, err)
				if sent.Refused != 1 {
					t.Fatalf("%d packets were refused", sent.Refused)
				}
			}
		}
		stop := s.stop()
		if want := only(conntrack.TableFull, uint64(3*len(allCPUs(t)))); stop.Totals != want || stop.Unattributed != 0 {
			t.Errorf("totals %v, unattributed %d; want %v, 0", stop.Totals, stop.Unattributed, want)
		}
	})
}
