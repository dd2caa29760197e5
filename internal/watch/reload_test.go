package watch_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/watch"
	"github.com/ctwatch/ctwatch/test/lab"
)

// TestReload unloads conntrack under each probe, has the firewall drop packets meanwhile, loads it again, and has packets
// refused at once: these are all counted, also those from before anybody noticed, and nothing else. Under fexit the module
// cannot be unloaded, and run says so.
func TestReload(t *testing.T) {
	onWays(t, func(t *testing.T, w way) {
		t.Run("reload", func(t *testing.T) {
			needModule(t)
			s := watching(t, w.options())
			if w.probe == loader.Fexit {
				if _, err := lab.Unload(t.Context()); !errors.Is(err, unix.EWOULDBLOCK) {
					t.Errorf("unload: %v", err)
				}
				s.awaitNotice("cannot be unloaded")
				s.stop()
				t.Attr("counted", "pinned")
				return
			}
			load := unload(t)
			firewallDrops(t)
			load()
			loaded := time.Now()
			refused := refuse(t, s)
			if counting := s.startAfter(loaded); counting > 5*time.Second {
				t.Errorf("counting again after %v", counting)
			} else {
				t.Logf("counting again after %v", counting)
			}
			t.Attr("counted", fmt.Sprint(refused))
		})
	})
}

// TestAbsent starts while conntrack is not loaded, and counts from its first packet on.
func TestAbsent(t *testing.T) {
	needModule(t)
	load := unload(t)
	s := watching(t, watch.Options{Probe: loader.Auto})
	s.awaitNotice("not loaded")
	if lab.IsModule() {
		t.Error("conntrack was loaded by watching")
	}
	load()
	refuse(t, s)
}

func needModule(t *testing.T) {
	if !lab.IsModule() {
		t.Skip("conntrack is part of this kernel")
	}
}

// unload removes conntrack until load is called, or the test ends.
func unload(t *testing.T) (load func()) {
	t.Helper()
	removed, err := lab.Unload(t.Context())
	load = func() {
		t.Helper()
		must(t, lab.Load(removed))
		removed = nil
	}
	t.Cleanup(load)
	must(t, err)
	return load
}

// firewallDrops has a firewall that does not track drop packets.
func firewallDrops(t *testing.T) {
	t.Helper()
	const ruled = 4444
	l, err := lab.Open(t.Context())
	must(t, err)
	defer func() { must(t, l.Close()) }()
	client, err := l.Namespace("client")
	must(t, err)
	server, err := l.Namespace("server")
	must(t, err)
	must(t, server.Drop(ruled, lab.BeforeTracking))
	link, err := l.Link(client, server)
	must(t, err)
	sent, err := link.A.Inject(t.Context(), lab.Traffic{Packets: packetsPerCause, Port: ruled, CPUs: allCPUs(t)})
	must(t, err)
	if sent.Refused != sent.Packets || lab.IsModule() {
		t.Fatalf("of %d packets %d were dropped; conntrack loaded: %v", sent.Packets, sent.Refused, lab.IsModule())
	}
}

// refuse has packets refused, and checks that the session, which it ends, counts them and no others.
func refuse(t *testing.T, s *session) (refused uint64) {
	t.Helper()
	b := newBench(t)
	b.full(t)
	for range 4 {
		sent, err := b.A.Inject(t.Context(), lab.Traffic{Packets: packetsPerCause / 4, CPUs: allCPUs(t)})
		must(t, err)
		refused += sent.Refused
	}
	last := s.awaitNetNS(b.server, func(n record.NetNS) bool { return n.Drops.Total() >= refused })
	stop := s.stop()
	if want := only(conntrack.TableFull, refused); last.Drops != want || stop.Totals != want || stop.Unattributed != 0 {
		t.Errorf("drops %v, totals %v, unattributed %d; want %v, 0", last.Drops, stop.Totals, stop.Unattributed, want)
	}
	return refused
}

// startAfter is how long after a moment the first start record came; after stop only.
func (s *session) startAfter(at time.Time) time.Duration {
	for _, r := range s.records {
		if start, ok := r.(*record.Start); ok && start.Time.After(at) {
			return start.Time.Sub(at)
		}
	}
	return 0
}
