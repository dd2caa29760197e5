package watch_test

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/watch"
	"github.com/ctwatch/ctwatch/test/lab"
	"github.com/ctwatch/ctwatch/test/need"
)

// TestOnlyRefusedPacketsCount: the firewall's own drops, before and after tracking, and entries that ctnetlink fails to
// insert happen at the same time as real drops, on all CPUs.
func TestOnlyRefusedPacketsCount(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		const ruled = 4444
		b := newBench(t)
		must(t, b.server.Drop(ruled, lab.BeforeTracking))
		b.full(t)
		before := kernel(t, b.server)
		s := watching(t, watch.Options{Probe: probe, Samples: 1000})

		var refused lab.Sent
		var all sync.WaitGroup
		failed := make(chan error, 3)
		all.Go(func() {
			var err error
			refused, err = b.B.Send(t.Context(), lab.Traffic{Packets: 100_000, Kinds: lab.Kinds(), CPUs: allCPUs(t)})
			failed <- err
		})
		all.Go(func() {
			sent, err := b.B.Send(t.Context(), lab.Traffic{Packets: 100_000, Port: ruled, CPUs: allCPUs(t)})
			if err == nil && sent.Refused != sent.Packets {
				err = errors.New("the firewall let packets pass")
			}
			failed <- err
		})
		all.Go(func() {
			if err := b.server.Fill(t.Context(), 5000); err == nil {
				failed <- errors.New("entries were inserted into a full table")
				return
			}
			failed <- nil
		})
		all.Wait()
		for range 3 {
			must(t, <-failed)
		}
		stop := s.stop()
		if moved := kernel(t, b.server).Sub(before); uint64(moved.Drop) != refused.Refused {
			t.Fatalf("refused %d, the kernel's drop moved by %d", refused.Refused, moved.Drop)
		}
		if want := only(conntrack.TableFull, refused.Refused); stop.Totals != want || stop.Unattributed != 0 {
			t.Errorf("totals %v, unattributed %d; want %v, 0", stop.Totals, stop.Unattributed, want)
		}
		for _, d := range s.drops() {
			if d.Dport == ruled {
				t.Errorf("a packet that the firewall's rule dropped is told of as refused: %+v", *d)
			}
		}
	})
}

// TestSeveralNamespaces floods several full tables at once and keeps them apart.
func TestSeveralNamespaces(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		b := newBench(t)
		b.full(t)
		s := watching(t, watch.Options{Probe: probe, Samples: 100})
		servers := []*lab.Namespace{b.server}
		links := []*lab.Link{b.Link}
		for _, n := range []string{"2", "3", "4"} {
			_, server, link := b.pair(t, "c"+n, "s"+n)
			must(t, server.FillUp(t.Context()))
			servers, links = append(servers, server), append(links, link)
		}
		sent := make([]lab.Sent, len(links))
		errs := make([]error, len(links))
		var all sync.WaitGroup
		for i, link := range links {
			all.Go(func() {
				sent[i], errs[i] = link.B.Send(t.Context(), lab.Traffic{Packets: 20_000 + i, CPUs: allCPUs(t)})
			})
		}
		all.Wait()
		must(t, errors.Join(errs...))
		stop := s.stop()
		for i, server := range servers {
			if got, want := s.of(server).Drops, only(conntrack.TableFull, sent[i].Refused); got != want {
				t.Errorf("%s: %v; want %v", server.Name, got, want)
			}
		}
		if stop.Unattributed != 0 {
			t.Errorf("unattributed %d", stop.Unattributed)
		}
	})
}

// TestLimitRaisedAtOnce: the cause is judged by the max of the moment of the drop, not by that of the next look.
func TestLimitRaisedAtOnce(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		b := newBench(t)
		b.full(t)
		s := watching(t, watch.Options{Probe: probe, Samples: 100})
		s.awaitCount(b.server, 1000)
		sent, err := b.B.Send(t.Context(), lab.Traffic{Packets: 1000})
		must(t, err)
		must(t, b.SetLimit(lab.Max, 100_000))
		stop := s.stop()
		if want := only(conntrack.TableFull, sent.Refused); stop.Totals != want {
			t.Errorf("totals %v; want %v", stop.Totals, want)
		}
	})
}

// TestSamplesAreBounded: at most as many drop records as were asked for, none when none were.
func TestSamplesAreBounded(t *testing.T) {
	b := newBench(t)
	b.full(t)
	for _, limit := range []int{0, 1, 50} {
		s := watching(t, watch.Options{Probe: loader.Tracepoint, Samples: limit})
		_, err := b.A.Inject(t.Context(), lab.Traffic{Packets: 200_000, CPUs: allCPUs(t)})
		must(t, err)
		stop := s.stop()
		if stop.Totals.Total() != 200_000 {
			t.Errorf("counted %d", stop.Totals.Total())
		}
		n, seconds := len(s.drops()), 1+int(stop.Uptime/1e9)
		if n > limit*(seconds+1) || (n == 0) != (limit == 0) {
			t.Errorf("%d drop records in %d s at %d a second", n, seconds, limit)
		}
	}
}

// TestStalledReader: who does not take the records loses samples, and is told how many, but no count.
func TestStalledReader(t *testing.T) {
	b := newBench(t)
	b.full(t)
	s := (&session{stall: make(chan struct{})}).watch(t, watch.Options{Probe: loader.Tracepoint, Samples: 1_000_000})
	sent, err := b.A.Inject(t.Context(), lab.Traffic{Packets: 1_000_000, CPUs: allCPUs(t)})
	must(t, err)
	close(s.stall)
	stop := s.stop()
	if want := only(conntrack.TableFull, sent.Refused); stop.Totals != want || stop.Unattributed != 0 {
		t.Errorf("totals %v, unattributed %d; want %v, 0", stop.Totals, stop.Unattributed, want)
	}
	if stop.Lost == 0 {
		t.Errorf("no sample was lost, %d drop records were written", len(s.drops()))
	}
}

func (s *session) awaitCount(ns *lab.Namespace, count uint64) {
	s.t.Helper()
	s.await("the count of "+ns.Name, func(r record.Record) bool {
		sample, ok := r.(*record.Sample)
		if !ok {
			return false
		}
		for _, n := range sample.NetNS {
			if n.Cookie == ns.Cookie && n.Count != nil && *n.Count == count {
				return true
			}
		}
		return false
	})
}

// TestTableFullWithoutSamples: a table that fills and refuses within one interval is table_full also where no sample had
// anybody look at it in time.
func TestTableFullWithoutSamples(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		b := newBench(t)
		must(t, b.SetLimit(lab.Max, 1000))
		s := watching(t, watch.Options{Probe: probe, Interval: 300 * time.Millisecond})
		s.awaitCount(b.server, 0)
		must(t, b.server.FillUp(t.Context()))
		sent, err := b.B.Send(t.Context(), lab.Traffic{Packets: 1000})
		must(t, err)
		s.awaitDrops(b.server, sent.Refused)
		stop := s.stop()
		if want := only(conntrack.TableFull, sent.Refused); stop.Totals != want {
			t.Errorf("totals %v; want %v", stop.Totals, want)
		}
	})
}

// TestBothWaysAtOnce refuses local senders while packets come in on the same CPUs and are refused in interrupts: the
// program is kept from looking at some, and misses none.
func TestBothWaysAtOnce(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		packets := 1_000_000
		if testing.Short() {
			packets = 50_000
		}
		b := newBench(t)
		b.full(t)
		before := kernel(t, b.server)
		s := watching(t, watch.Options{Probe: probe, Samples: 100})
		var in, out lab.Sent
		var errIn, errOut error
		var all sync.WaitGroup
		all.Go(func() { in, errIn = b.A.Inject(t.Context(), lab.Traffic{Packets: packets, CPUs: allCPUs(t)}) })
		all.Go(func() { out, errOut = b.B.Send(t.Context(), lab.Traffic{Packets: packets, CPUs: allCPUs(t)}) })
		all.Wait()
		must(t, errors.Join(errIn, errOut))
		stop := s.stop()
		refused := uint64(kernel(t, b.server).Sub(before).Drop)
		if out.Refused != uint64(packets) || refused < in.Packets+out.Packets {
			t.Fatalf("refused %d on the way out, %d by the kernel's counter", out.Refused, refused)
		}
		if want := only(conntrack.TableFull, refused); stop.Totals != want || stop.Unattributed != 0 {
			t.Errorf("totals %v, unattributed %d; want %v, 0", stop.Totals, stop.Unattributed, want)
		}
	})
}

// awaitDrops waits until so many drops of a namespace were told.
func (s *session) awaitDrops(ns *lab.Namespace, drops uint64) {
	s.t.Helper()
	s.await("the drops of "+ns.Name, func(r record.Record) bool {
		sample, ok := r.(*record.Sample)
		if !ok {
			return false
		}
		for _, n := range sample.NetNS {
			if n.Cookie == ns.Cookie && n.Drops.Total() >= drops {
				return true
			}
		}
		return false
	})
}

// TestUnreadDatagrams: where other packets have their device, one that waits in a UDP socket has something else. What it
// looks like as a pointer may be none, and is not followed to the kernel's death when the socket is closed.
func TestUnreadDatagrams(t *testing.T) {
	need.Root(t)
	s := watching(t, watch.Options{})
	for range 200 {
		in, err := net.ListenPacket("udp4", "127.0.0.1:0")
		must(t, err)
		out, err := net.Dial("udp4", in.LocalAddr().String())
		must(t, err)
		for n := range 20 {
			_, err := out.Write(make([]byte, 1+37*n))
			must(t, err)
		}
		must(t, out.Close())
		must(t, in.Close())
	}
	if stop := s.stop(); stop.Totals.Total() != 0 {
		t.Errorf("counted %v", stop.Totals)
	}
}
