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
			o := w.options()
			// What it holds open to see tables fill holds neither the module nor anything of it.
			o.Remediate = dryRun()
			s := watching(t, o)
			if w.probe == loader.Fexit {
				if _, err := lab.Unload(t.Context()); !errors.Is(err, unix.EWOULDBLOCK) {
					t.Errorf("unload: %v", err)
				}
				s.awaitNotice("cannot be unloaded")
				s.stop()
				t.Attr("counted", "pinned")
				return
			}
			refused := refuse(t, s)
			load := unload(t)
			firewallDrops(t)
			at := time.Now()
			load()
			s.awaitStart(at)
			// So quickly that hardly anybody sees it gone.
			at = time.Now()
			unload(t)()
			refused += refuse(t, s)
			s.awaitStart(at)
			s.stopWith(only(conntrack.TableFull, refused))
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
	s.stopWith(only(conntrack.TableFull, refuse(t, s)))
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
	l := openLab(t)
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

// refuse has packets refused in a namespace of its own, and checks that the session counts them there.
func refuse(t *testing.T, s *session) (refused uint64) {
	t.Helper()
	b := &bench{Lab: openLab(t)}
	defer func() { must(t, b.Close()) }()
	s.refusals++ // no two namespaces of a name
	b.client, b.server, b.Link = b.pair(t, fmt.Sprintf("client%d", s.refusals), fmt.Sprintf("server%d", s.refusals))
	b.full(t)
	sent, err := b.A.Inject(t.Context(), lab.Traffic{Packets: packetsPerCause, CPUs: allCPUs(t)})
	must(t, err)
	last := s.awaitNetNS(b.server, func(n record.NetNS) bool { return n.Drops.Total() >= sent.Refused })
	if want := only(conntrack.TableFull, sent.Refused); last.Drops != want {
		t.Errorf("drops %v; want %v", last.Drops, want)
	}
	return sent.Refused
}

// stopWith ends the session and checks what it counted in all.
func (s *session) stopWith(want conntrack.Drops) {
	s.t.Helper()
	if stop := s.stop(); stop.Totals != want || stop.Unattributed != 0 {
		s.t.Errorf("totals %v, unattributed %d; want %v, 0", stop.Totals, stop.Unattributed, want)
	}
}

// awaitStart waits until counting has begun anew after that moment, and checks that it took 5 s at most.
func (s *session) awaitStart(at time.Time) {
	s.t.Helper()
	s.await("a start after the module was loaded", func(r record.Record) bool {
		start, ok := r.(*record.Start)
		if !ok || start.Time.Before(at) {
			return false
		}
		if took := start.Time.Sub(at); took > 5*time.Second {
			s.t.Errorf("counting again after %v", took)
		} else {
			s.t.Logf("counting again after %v", took)
		}
		return true
	})
}
