package watch_test

import (
	"context"
	"slices"
	"strings"
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

// session is a watch.Run in the background, and what it wrote.
type session struct {
	t        *testing.T
	cancel   context.CancelFunc
	done     chan error
	refusals int // namespaces that were made to refuse something

	stall chan struct{} // not nil: drop records are not taken before it is closed

	mu      sync.Mutex
	changed *sync.Cond
	records []record.Record
	notices []string
}

func (s *session) Record(r record.Record) error {
	if _, drop := r.(*record.Drop); drop && s.stall != nil {
		<-s.stall
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, r)
	s.changed.Broadcast()
	return nil
}

func (s *session) Notice(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notices = append(s.notices, text)
	s.changed.Broadcast()
}

// awaitNotice waits for a notice with this word in it.
func (s *session) awaitNotice(word string) {
	s.t.Helper()
	s.wait("a notice of "+word, func() bool {
		return slices.ContainsFunc(s.notices, func(n string) bool { return strings.Contains(n, word) })
	})
}

// watching starts a run and returns when it counts.
func watching(t *testing.T, o watch.Options) *session {
	t.Helper()
	return new(session).watch(t, o)
}

func (s *session) watch(t *testing.T, o watch.Options) *session {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s.t, s.cancel, s.done = t, cancel, make(chan error, 1)
	s.changed = sync.NewCond(&s.mu)
	if o.Interval == 0 {
		o.Interval = 100 * time.Millisecond
	}
	go func() {
		s.done <- watch.Run(ctx, o, s)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	}()
	t.Cleanup(cancel)
	s.await("the start record", func(r record.Record) bool { _, ok := r.(*record.Start); return ok })
	return s
}

// await waits for a record, from the first on.
func (s *session) await(what string, want func(record.Record) bool) {
	s.t.Helper()
	at := 0
	s.wait(what, func() bool {
		for ; at < len(s.records); at++ {
			if want(s.records[at]) {
				return true
			}
		}
		return false
	})
}

// wait waits until done, which it asks after each record and notice.
func (s *session) wait(what string, done func() bool) {
	s.t.Helper()
	const patience = 30 * time.Second
	deadline := time.Now().Add(patience)
	alarm := time.AfterFunc(patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer alarm.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !done() {
		select {
		case err := <-s.done:
			s.t.Fatalf("the run ended before %s came: %v", what, err)
		default:
		}
		if !time.Now().Before(deadline) {
			s.t.Fatalf("%s did not come within %v", what, patience)
		}
		s.changed.Wait()
	}
}

// stop ends the run and returns its last word.
func (s *session) stop() *record.Stop {
	s.t.Helper()
	s.cancel()
	if err := <-s.done; err != nil {
		s.t.Fatalf("run: %v", err)
	}
	last, ok := s.records[len(s.records)-1].(*record.Stop)
	if !ok {
		s.t.Fatalf("the last record is a %T", s.records[len(s.records)-1])
	}
	return last
}

// of returns the last that was told of a namespace; after stop only.
func (s *session) of(ns *lab.Namespace) record.NetNS {
	s.t.Helper()
	var last record.NetNS
	for _, r := range s.records {
		if sample, ok := r.(*record.Sample); ok {
			for _, n := range sample.NetNS {
				if is(n, ns) {
					last = n
				}
			}
		}
	}
	if last.NS == 0 {
		s.t.Fatalf("nothing was told of %s", ns.Name)
	}
	return last
}

// dropsSoFar is drops while the run goes on.
func (s *session) dropsSoFar() []*record.Drop {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drops()
}

func (s *session) drops() []*record.Drop {
	var drops []*record.Drop
	for _, r := range s.records {
		if d, ok := r.(*record.Drop); ok {
			drops = append(drops, d)
		}
	}
	return drops
}

// bench is a lab with a link from a client to a server that tracks.
type bench struct {
	*lab.Lab
	*lab.Link
	client, server *lab.Namespace
}

func openLab(t *testing.T) *lab.Lab {
	t.Helper()
	need.Root(t)
	l, err := lab.Open(t.Context())
	must(t, err)
	return l
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{Lab: openLab(t)}
	t.Cleanup(func() { must(t, b.Close()) })
	b.client, b.server, b.Link = b.pair(t, "client", "server")
	return b
}

func (b *bench) pair(t *testing.T, client, server string) (*lab.Namespace, *lab.Namespace, *lab.Link) {
	t.Helper()
	c, err := b.Namespace(client)
	must(t, err)
	s, err := b.Namespace(server)
	must(t, err)
	must(t, s.Track())
	must(t, s.Mute())
	k, err := b.Lab.Link(c, s)
	must(t, err)
	return c, s, k
}

// full makes the server's table full of entries that cannot be evicted.
func (b *bench) full(t *testing.T) {
	t.Helper()
	must(t, b.SetLimit(lab.Max, 1000))
	must(t, b.server.FillUp(t.Context()))
}

func kernel(t *testing.T, ns *lab.Namespace) lab.Counters {
	t.Helper()
	k, err := ns.Kernel()
	must(t, err)
	return k.Total
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func allCPUs(t *testing.T) []int {
	t.Helper()
	cpus, err := lab.CPUs()
	must(t, err)
	return cpus
}

// probes are those that must be exact on any kernel the tests run on natively.
var probes = []string{loader.Tracepoint, loader.Counters}

func onProbes(t *testing.T, f func(t *testing.T, probe string)) {
	for _, probe := range probes {
		t.Run(probe, func(t *testing.T) { f(t, probe) })
	}
}

func only(c conntrack.Cause, n uint64) conntrack.Drops {
	var d conntrack.Drops
	d[c] = n
	return d
}
