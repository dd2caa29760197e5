package watch_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/boot"
	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/kmsg"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/watch"
	"github.com/ctwatch/ctwatch/test/lab"
	"github.com/ctwatch/ctwatch/test/need"
)

func (s *session) Kernel(watch.Kernel) {}
func (s *session) Boot(boot.Outlook)   {}
func (s *session) Alive()              {}

// incidents are the records of incidents so far.
func (s *session) incidents() []*record.Incident {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*record.Incident
	for _, r := range s.records {
		if in, ok := r.(*record.Incident); ok {
			out = append(out, in)
		}
	}
	return out
}

// closed is the one incident of the run, after stop.
func (s *session) closed(ns *lab.Namespace, cause conntrack.Cause) *record.Incident {
	s.t.Helper()
	var out *record.Incident
	for _, in := range s.incidents() {
		if in.Phase != record.PhaseClose {
			continue
		}
		if out != nil {
			s.t.Fatalf("two incidents: %s in %s, and %s in %s", out.Cause, out.Name, in.Cause, in.Name)
		}
		out = in
	}
	if out == nil || out.Cause != cause || out.Name != ns.Name || out.Closed != "stop" {
		s.t.Fatalf("want an incident of %s in %s that the stop closed, got %+v", cause, ns.Name, out)
	}
	return out
}

// awaitFillers waits until somebody looked into the table.
func (s *session) awaitFillers() {
	s.t.Helper()
	s.await("a look into the table", func(r record.Record) bool {
		in, ok := r.(*record.Incident)
		return ok && (in.Fillers != nil || in.FillersWhy != "")
	})
}

// assure makes connections that are in use: packets go both ways until none of them may be evicted.
func assure(t *testing.T, b *bench, connections int) {
	t.Helper()
	echo, err := b.server.Respond(7)
	must(t, err)
	defer echo.Close()
	traffic := lab.Traffic{Packets: connections, Port: 7}
	for assured := 0; assured < connections; {
		sent, err := b.A.Exchange(t.Context(), traffic)
		must(t, err)
		if sent.Refused > 0 {
			t.Fatalf("%d refused while there was room", sent.Refused)
		}
		traffic.Flow = sent.Flow
		entries, err := b.server.Entries()
		must(t, err)
		assured = int(entries.Assured)
	}
}

const busyMax = 20_000

// TestVerdicts has the kernel come to each kind of trouble, and asks what it was.
func TestVerdicts(t *testing.T) {
	inject := func(t *testing.T, b *bench, tr lab.Traffic) lab.Sent {
		sent, err := b.A.Inject(t.Context(), tr)
		must(t, err)
		return sent
	}
	// Where buckets are few, what may be evicted is, and nobody is refused: that takes a moment to be an incident.
	overrun := func(t *testing.T, b *bench, s *session, tr lab.Traffic) (all lab.Sent) {
		for len(s.incidents()) == 0 {
			sent := inject(t, b, tr)
			all.Packets += sent.Packets
			all.Refused += sent.Refused
		}
		return all
	}
	for _, c := range []struct {
		name    string
		cause   conntrack.Cause
		verdict string
		reason  string // one of the reasons holds it
		scene   func(*testing.T, *bench, *session) lab.Sent
	}{
		{"busy and legitimate", conntrack.TableFull, record.VerdictLimitTooSmall, "never saw an answer", func(t *testing.T, b *bench, s *session) lab.Sent {
			must(t, b.SetLimit(lab.Max, busyMax))
			assure(t, b, busyMax/5)
			must(t, b.server.FillUp(t.Context()))
			return overrun(t, b, s, lab.Traffic{Packets: 2000, Kinds: []lab.Kind{lab.SYN4}, Port: 443})
		}},
		{"flood from one source", conntrack.TableFull, record.VerdictFloodFew, ".0.0/24 holds", func(t *testing.T, b *bench, s *session) lab.Sent {
			must(t, b.SetLimit(lab.Max, busyMax))
			return overrun(t, b, s, lab.Traffic{Packets: 2 * busyMax, Kinds: []lab.Kind{lab.SYN4}, Port: 443})
		}},
		{"flood from many sources", conntrack.TableFull, record.VerdictFloodMany, "no source stands out", func(t *testing.T, b *bench, s *session) lab.Sent {
			must(t, b.SetLimit(lab.Max, busyMax))
			return overrun(t, b, s, lab.Traffic{Packets: 2 * busyMax, Kinds: []lab.Kind{lab.SYN4}, Port: 443, Spread: true})
		}},
		{"idle entries", conntrack.TableFull, record.VerdictIdleEntries, "established TCP without a packet", func(t *testing.T, b *bench, _ *session) lab.Sent {
			must(t, b.SetLimit(lab.Max, busyMax))
			must(t, b.server.FillIdle(t.Context(), busyMax*3/4, 10*time.Hour))
			must(t, b.server.FillUp(t.Context()))
			return inject(t, b, lab.Traffic{Packets: 1000})
		}},
		{"few buckets", conntrack.ChainTooLong, record.VerdictFewBuckets, "512 buckets for", func(t *testing.T, b *bench, _ *session) lab.Sent {
			if ok, err := lab.HasChainLimit(); err != nil || !ok {
				need.Guest(t)
				t.Skipf("this kernel has no limit to a chain (%v)", err)
			}
			must(t, b.LongChains(t.Context(), b.server))
			return inject(t, b, lab.Traffic{Packets: 1000})
		}},
		{"clash", conntrack.Clash, record.VerdictPortCollision, "were for udp/9", func(t *testing.T, b *bench, _ *session) lab.Sent {
			sent, err := b.B.Clash(t.Context(), lab.UDP4, 500)
			must(t, err)
			return sent
		}},
		{"limit lowered", conntrack.TableFull, record.VerdictLimitLowered, "lowered it at", func(t *testing.T, b *bench, s *session) lab.Sent {
			must(t, b.SetLimit(lab.Max, busyMax))
			must(t, b.server.Fill(t.Context(), busyMax/2))
			s.await("a calm sample of the table", func(r record.Record) bool {
				sample, ok := r.(*record.Sample)
				return ok && slices.ContainsFunc(sample.NetNS, func(n record.NetNS) bool {
					return is(n, b.server) && n.Count != nil && *n.Count >= busyMax/2 && *n.Max == busyMax
				})
			})
			must(t, b.SetLimit(lab.Max, busyMax/4))
			return inject(t, b, lab.Traffic{Packets: 1000})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			s := watching(t, watch.Options{Samples: 1000})
			sent := c.scene(t, b, s)
			s.awaitFillers()
			stop := s.stop()
			in := s.closed(b.server, c.cause)
			if in.Drops[c.cause] != sent.Refused || in.Drops != stop.Totals || in.Evicted != stop.Evicted || sent.Refused+in.Evicted == 0 {
				t.Errorf("the incident has %v and %d evicted, the run %v and %d, and %d were refused", in.Drops, in.Evicted, stop.Totals, stop.Evicted, sent.Refused)
			}
			if in.VerdictKind != c.verdict || !slices.ContainsFunc(in.Reasons, func(r string) bool { return strings.Contains(r, c.reason) }) {
				t.Errorf("verdict %s, %q because %q; want %s because %q", in.VerdictKind, in.Verdict, in.Reasons, c.verdict, c.reason)
			}
			if c.cause == conntrack.Clash && in.Fillers.Nat < 0.9 {
				t.Errorf("%.2f of the entries are translated by NAT, where all are masqueraded", in.Fillers.Nat)
			}
			if in.Verdict == "" || len(in.Helps) == 0 || len(in.HelpsNot) == 0 {
				t.Errorf("verdict %q; helps %q, helps not %q", in.Verdict, in.Helps, in.HelpsNot)
			}
			if in.Fillers == nil || sent.Refused > 0 && (in.Sufferers == nil || in.Sufferers.Packets == 0) {
				t.Errorf("fillers %v, sufferers %v", in.Fillers, in.Sufferers)
			}
		})
	}
}

// TestWriterOfALimit: an incident says who changed a limit meanwhile.
func TestWriterOfALimit(t *testing.T) {
	b := newBench(t)
	b.full(t)
	s := watching(t, watch.Options{Samples: 100})
	_, err := b.A.Inject(t.Context(), lab.Traffic{Packets: 10})
	must(t, err)
	must(t, b.SetLimit(lab.Max, 3000))
	s.await("the limit's change", func(r record.Record) bool {
		l, ok := r.(*record.Limit)
		return ok && l.Key == lab.Max && l.From == 1000 && l.To == 3000
	})
	s.stop()
	in := s.closed(b.server, conntrack.TableFull)
	if len(in.Changes) == 0 {
		t.Fatalf("no change is told: %+v", in)
	}
	last := in.Changes[len(in.Changes)-1]
	if in.Limits.Before != 1000 || in.Limits.After != 3000 || last.To != 3000 {
		t.Errorf("limits %+v, changes %+v; want from 1000 to 3000", in.Limits, in.Changes)
	}
	if seen := !slices.ContainsFunc(s.notices, func(n string) bool { return strings.Contains(n, "who changes a limit") }); seen && last.PID != os.Getpid() {
		t.Errorf("changed by %+v, want pid %d", last.Writer, os.Getpid())
	}
}

// TestLoggedLines: beside the true number stands how many lines the kernel logged.
func TestLoggedLines(t *testing.T) {
	b := newBench(t)
	b.full(t)
	log, err := kmsg.Open("")
	s := watching(t, watch.Options{})
	if err != nil {
		_, err := b.A.Inject(t.Context(), lab.Traffic{Packets: 1})
		must(t, err)
		s.stop()
		if in := s.closed(b.server, conntrack.TableFull); in.LoggedLines != nil {
			t.Errorf("%d lines of a log that cannot be read", *in.LoggedLines)
		}
		return
	}
	defer log.Close()
	// Ten in five seconds at most, which other tests may have used up.
	var refused uint64
	for log.Lines(b.server.Inode, false) == 0 {
		sent, err := b.A.Inject(t.Context(), lab.Traffic{Packets: 1000})
		must(t, errors.Join(err, log.Read()))
		refused += sent.Refused
	}
	s.stop()
	must(t, log.Read())
	in := s.closed(b.server, conntrack.TableFull)
	if want := log.Lines(b.server.Inode, false); in.LoggedLines == nil || *in.LoggedLines != want || in.Drops.Total() != refused {
		t.Errorf("%v lines beside %d packets; want %d and %d", in.LoggedLines, in.Drops.Total(), want, refused)
	}
}

// TestOpensAtOnce: an incident is told of when its first packet is refused, whatever the interval, and also where nobody
// wants to see packets.
func TestOpensAtOnce(t *testing.T) {
	for _, samples := range []int{0, 100} {
		t.Run(fmt.Sprintf("samples %d", samples), func(t *testing.T) {
			b := newBench(t)
			b.full(t)
			s := watching(t, watch.Options{Interval: time.Hour, Samples: samples})
			_, err := b.A.Inject(t.Context(), lab.Traffic{Packets: 1})
			must(t, err)
			s.await("an incident", func(r record.Record) bool {
				in, ok := r.(*record.Incident)
				return ok && in.Phase == record.PhaseOpen && in.Name == b.server.Name && in.Drops.Total() == 1
			})
			s.stop()
			if told := len(s.drops()); told != min(samples, 1) {
				t.Errorf("told of %d packets", told)
			}
		})
	}
}
