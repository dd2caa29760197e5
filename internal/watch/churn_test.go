package watch_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/remediate"
	"github.com/ctwatch/ctwatch/internal/watch"
	"github.com/ctwatch/ctwatch/test/lab"
)

// TestDeletedNamespaceKeepsItsNumbers: what was refused in a namespace counts also when it is gone.
func TestDeletedNamespaceKeepsItsNumbers(t *testing.T) {
	b := newBench(t)
	must(t, b.SetLimit(lab.Max, 1000))
	s := watching(t, watch.Options{Probe: loader.Tracepoint, Samples: 100})
	var refused uint64
	for i := range 5 {
		client, server, link := b.pair(t, fmt.Sprintf("c%d", i), fmt.Sprintf("s%d", i))
		must(t, server.FillUp(t.Context()))
		sent, err := link.A.Inject(t.Context(), lab.Traffic{Packets: 1000 + i})
		must(t, err)
		refused += sent.Refused
		must(t, server.Delete())
		must(t, client.Delete())
	}
	stop := s.stop()
	if want := only(conntrack.TableFull, refused); stop.Totals != want {
		t.Errorf("totals %v; want %v", stop.Totals, want)
	}
}

// dryRun has every table's count held open.
func dryRun() remediate.Options {
	return remediate.Options{Mode: remediate.DryRun, Policy: remediate.DefaultPolicy()}
}

// TestWatchingHoldsNoNamespace: a namespace that is deleted while watched is freed, and its inode serves the next one,
// which begins at zero.
func TestWatchingHoldsNoNamespace(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		b := newBench(t)
		b.full(t)
		s := watching(t, watch.Options{Probe: probe, Samples: 100, Remediate: dryRun()})
		seen := map[uint64]uint64{} // cookie by inode
		for i := range 200 {
			ns, err := b.Namespace(fmt.Sprintf("n%d", i))
			must(t, err)
			if _, again := seen[ns.Inode]; again {
				must(t, ns.Track())
				must(t, ns.FillUp(t.Context()))
				client, err := b.Namespace("again")
				must(t, err)
				link, err := b.Lab.Link(client, ns)
				must(t, err)
				sent, err := link.A.Inject(t.Context(), lab.Traffic{Packets: 10})
				must(t, err)
				s.stop()
				if got, want := s.of(ns).Drops, only(conntrack.TableFull, sent.Refused); got != want {
					t.Errorf("the namespace that got a used inode has %v; want %v", got, want)
				}
				return
			}
			seen[ns.Inode] = ns.Cookie
			s.await("the namespace", func(r record.Record) bool {
				sample, ok := r.(*record.Sample)
				if !ok {
					return false
				}
				for _, n := range sample.NetNS {
					if n.Cookie == ns.Cookie {
						return true
					}
				}
				return false
			})
			must(t, ns.Delete())
		}
		t.Error("no inode was used again: something holds the namespaces")
	})
}

// TestChurn creates and deletes 500 namespaces during a flood: the flood's number stays right, and neither files nor
// memory pile up.
func TestChurn(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		namespaces := 500
		if testing.Short() {
			namespaces = 50
		}
		b := newBench(t)
		b.full(t)
		s := watching(t, watch.Options{Probe: probe, Samples: 100, Remediate: dryRun()})
		files := openFiles(t)
		ctx, cancel := context.WithCancel(t.Context())
		refused := make(chan uint64, 1)
		go func() {
			var n uint64
			for ctx.Err() == nil {
				sent, err := b.B.Send(t.Context(), lab.Traffic{Packets: 5000, CPUs: allCPUs(t)})
				if err != nil {
					t.Error(err)
					break
				}
				n += sent.Refused
			}
			refused <- n
		}()
		for i := range namespaces {
			ns, err := b.Namespace(fmt.Sprintf("n%d", i))
			must(t, err)
			must(t, ns.Track())
			must(t, ns.Delete())
		}
		cancel()
		n := <-refused
		stop := s.stop()
		if want := only(conntrack.TableFull, n); stop.Totals != want || stop.Unattributed != 0 {
			t.Errorf("totals %v, unattributed %d; want %v, 0", stop.Totals, stop.Unattributed, want)
		}
		if now := openFiles(t); now > files {
			t.Errorf("%d files open, %d before", now, files)
		}
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(files)
}

// TestProcessesComeAndGo: a namespace that only processes keep alive goes on being the same when the one by which it was
// entered ends.
func TestProcessesComeAndGo(t *testing.T) {
	onProbes(t, func(t *testing.T, probe string) {
		b := newBench(t)
		b.full(t)
		first := b.holder(t)
		second := b.holder(t)
		// Without its file, the namespace has its processes alone; the lab enters it by a descriptor.
		file, err := os.Open(b.server.Path)
		must(t, err)
		defer file.Close()
		must(t, unix.Unmount(b.server.Path, unix.MNT_DETACH))
		b.server.Path = fmt.Sprintf("/proc/self/fd/%d", file.Fd())
		_, err = b.A.Inject(t.Context(), lab.Traffic{Packets: 500}) // history
		must(t, err)
		s := watching(t, watch.Options{Probe: probe, Samples: 100, Interval: 20 * time.Millisecond})
		for _, end := range []func(){first, func() {}} {
			end()
			_, err := b.A.Inject(t.Context(), lab.Traffic{Packets: 100})
			must(t, err)
			seen := 0
			s.await("a few samples", func(r record.Record) bool {
				if _, ok := r.(*record.Sample); ok {
					seen++
				}
				return seen == 20
			})
		}
		stop := s.stop()
		second()
		if want := only(conntrack.TableFull, 200); stop.Totals != want {
			t.Errorf("totals %v; want %v", stop.Totals, want)
		}
	})
}

// holder starts a process in the server's namespace, and returns what ends it.
func (b *bench) holder(t *testing.T) (end func()) {
	t.Helper()
	cmd := exec.Command("sleep", "300")
	must(t, b.server.Do(cmd.Start))
	end = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(end)
	return end
}
