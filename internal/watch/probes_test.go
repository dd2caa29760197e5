package watch_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/watch"
	"github.com/ctwatch/ctwatch/test/lab"
	"github.com/ctwatch/ctwatch/test/need"
)

// packetsPerCause is how many packets of each cause every probe must count exactly.
const packetsPerCause = 10_000

// way is a probe, or a probe's hooks alone as where the core cannot run.
type way struct {
	name, probe string
	alone       bool
}

func ways() []way {
	return []way{
		{"fexit", loader.Fexit, false}, {"kprobe", loader.Kprobe, false}, {"tracepoint", loader.Tracepoint, false},
		{"fexit-alone", loader.Fexit, true}, {"kprobe-alone", loader.Kprobe, true}, {"counters", loader.Counters, false},
	}
}

func (w way) options() watch.Options {
	return watch.Options{Probe: w.probe, Alone: w.alone, Samples: 1000}
}

// onWays runs f for each way that works here. CTWATCH_TEST_PROBE leaves one probe, CTWATCH_TEST_ALONE adds hooks alone.
func onWays(t *testing.T, f func(t *testing.T, w way)) {
	for _, w := range ways() {
		if only := os.Getenv("CTWATCH_TEST_PROBE"); only != "" && only != w.probe || w.alone && os.Getenv("CTWATCH_TEST_ALONE") == "" {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			p, err := loader.Open(loader.Options{Probe: w.probe, Alone: w.alone, Module: lab.IsModule()})
			if err != nil {
				need.Probe(t, w.probe, err)
			}
			w.alone = !p.Counts()
			must(t, p.Close())
			f(t, w)
		})
	}
}

// hooked reports whether the way has hooks, which make table_full certain.
func (w way) hooked() bool { return w.probe == loader.Fexit || w.probe == loader.Kprobe }

// looks reports whether the way looks at packets.
func (w way) looks() bool { return !w.alone }

// TestAuto tells what auto takes on this kernel, and why nothing better.
func TestAuto(t *testing.T) {
	b := newBench(t)
	b.full(t) // loads conntrack
	p, err := loader.Open(loader.Options{Module: lab.IsModule()})
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	t.Attr("auto", p.Name)
	want := []string{loader.Fexit, loader.Tracepoint, loader.Kprobe, loader.Counters}
	if lab.IsModule() {
		want = []string{loader.Kprobe, loader.Tracepoint, loader.Fexit, loader.Counters}
	}
	for _, s := range p.Skipped {
		t.Logf("passed over %s: %s", s.Probe, s.Why)
	}
	at := slices.Index(want, p.Name)
	for _, better := range want[:at] {
		if !slices.ContainsFunc(p.Skipped, func(s loader.Skip) bool { return s.Probe == better && s.Why != "" }) {
			t.Errorf("took %s, and did not say why not %s", p.Name, better)
		}
	}
	if best := slices.IndexFunc(want, need.MustProbe); at > best {
		t.Errorf("took %s, and %s must work here", p.Name, want[best])
	}
}

// TestProbes takes each probe through all that it promises: docs/compatibility.md has a row for each.
func TestProbes(t *testing.T) {
	onWays(t, func(t *testing.T, w way) {
		b := newBench(t)
		r := &run{bench: b, way: w, s: watching(t, w.options())}
		wire := func(kinds ...lab.Kind) func(*testing.T, *lab.Link) uint64 {
			return func(t *testing.T, link *lab.Link) uint64 {
				r.fill(t, link.B.Namespace)
				sent, err := link.A.Inject(t.Context(), lab.Traffic{Packets: packetsPerCause, Kinds: kinds, CPUs: allCPUs(t)})
				must(t, err)
				return sent.Refused
			}
		}
		r.exact(t, "table_full", conntrack.TableFull, "prerouting", wire(lab.UDP4, lab.SYN4, lab.Echo4))
		r.exact(t, "table_full_v6", conntrack.TableFull, "prerouting", wire(lab.UDP6, lab.SYN6, lab.Echo6))
		r.exact(t, "local", conntrack.TableFull, "output", func(t *testing.T, link *lab.Link) uint64 {
			r.fill(t, link.B.Namespace)
			sent, err := link.B.Send(t.Context(), lab.Traffic{Packets: packetsPerCause, Kinds: lab.Kinds(), CPUs: allCPUs(t)})
			must(t, err)
			return sent.Refused
		})
		t.Run("namespaces", r.namespaces)
		t.Run("cpus", r.cpus)
		t.Run("evictions", r.evictions)
		r.exact(t, "clash", conntrack.Clash, "postrouting", func(t *testing.T, link *lab.Link) uint64 {
			must(t, r.SetLimit(lab.Max, 10*packetsPerCause))
			sent, err := link.B.Clash(t.Context(), lab.SYN4, packetsPerCause)
			must(t, err)
			return sent.Refused
		})
		r.exact(t, "other", conntrack.Other, "postrouting", func(t *testing.T, link *lab.Link) uint64 {
			if !w.looks() {
				t.Skip("the kernel's counters cannot tell other from table_full and alloc_failed")
			}
			sent, err := link.B.SeqAdjust(t.Context(), packetsPerCause)
			must(t, err)
			return sent.Refused
		})
		// Last, for it leaves the machine with few buckets.
		r.exact(t, "chain_too_long", conntrack.ChainTooLong, "input", func(t *testing.T, link *lab.Link) uint64 {
			limited, err := lab.HasChainLimit()
			must(t, err)
			if !limited {
				t.Skip("this kernel takes chains of any length (before 5.15)")
			}
			buckets, err := r.Limit(lab.Buckets)
			must(t, err)
			must(t, r.LongChains(t.Context(), link.B.Namespace))
			sent, err := link.A.Inject(t.Context(), lab.Traffic{Packets: packetsPerCause, CPUs: allCPUs(t)})
			must(t, err)
			must(t, r.SetLimit(lab.Buckets, buckets))
			return sent.Refused
		})
		stop := r.s.stop()
		if stop.Totals != r.expected || stop.Unattributed != 0 {
			t.Errorf("totals %v, unattributed %d; want %v, 0", stop.Totals, stop.Unattributed, r.expected)
		}
		t.Logf("missed %d, lost %d", stop.Missed, stop.Lost)
	})
}

// run is one way's session, and what was refused in it.
type run struct {
	*bench
	way
	s        *session
	links    int
	expected conntrack.Drops
}

// link makes a client and a server for one subtest. They stay to the end: where the kernel tells no cookie, counters alone
// cannot tell a namespace from the next that gets its inode.
func (r *run) link(t *testing.T) *lab.Link {
	t.Helper()
	r.links++
	_, _, link := r.pair(t, fmt.Sprintf("c%d", r.links), fmt.Sprintf("s%d", r.links))
	return link
}

func (r *run) fill(t *testing.T, n *lab.Namespace) {
	t.Helper()
	must(t, r.SetLimit(lab.Max, 1000))
	must(t, n.FillUp(t.Context()))
}

// exact: as many refused packets as provoke says, each counted under the cause, and told of with the hook it was refused
// at.
func (r *run) exact(t *testing.T, name string, cause conntrack.Cause, hook string, provoke func(*testing.T, *lab.Link) uint64) {
	t.Run(name, func(t *testing.T) {
		link := r.link(t)
		refused := provoke(t, link)
		if refused < packetsPerCause {
			t.Fatalf("%d packets were refused", refused)
		}
		r.count(t, link.B.Namespace, cause, refused)
		r.told(t, link.B.Namespace, cause, hook)
		t.Attr("counted", fmt.Sprint(refused))
	})
}

// count waits until as many are counted in the namespace, under no other cause.
func (r *run) count(t *testing.T, ns *lab.Namespace, cause conntrack.Cause, refused uint64) {
	t.Helper()
	r.s.t = t
	r.expected[cause] += refused
	want := only(cause, refused)
	last := r.s.awaitNetNS(ns, func(n record.NetNS) bool { return n.Drops.Total() >= refused })
	if last.Drops != want || last.Unattributed != 0 {
		t.Errorf("drops %v, unattributed %d; want %v, 0", last.Drops, last.Unattributed, want)
	}
}

// told checks the records of single packets, of which the first may come after the count of all.
func (r *run) told(t *testing.T, ns *lab.Namespace, cause conntrack.Cause, hook string) {
	t.Helper()
	of := func(d *record.Drop) bool { return d.NS == ns.Inode && (ns.Cookie == 0 || d.Cookie == ns.Cookie) }
	if r.looks() {
		r.s.await("a drop record", func(record record.Record) bool { return isDrop(record, of) })
	}
	var all, concluded int
	for _, d := range r.s.dropsSoFar() {
		// Of two packets that are freed on a CPU in one moment, the other may be shown: a multicast report here.
		if dst, _ := netip.ParseAddr(d.Dst); !of(d) || dst.IsMulticast() {
			continue
		}
		all++
		if d.Inferred {
			concluded++
		}
		if !r.looks() || d.Cause != cause || d.Hook != hook || d.Src == "" || d.Dst == "" ||
			d.Name != ns.Name && d.Name != "" { // the namespace is new, and may have refused packets before it was found
			t.Errorf("told of %+v; want cause %v, hook %s", *d, cause, hook)
			return
		}
	}
	switch {
	case cause == conntrack.TableFull && !r.hooked():
		if concluded < all {
			t.Errorf("the cause of %d packets is told for certain", all-concluded)
		}
	case concluded > all/10+1: // a hook may have missed some
		t.Errorf("the cause of %d packets is a conclusion, of %d", concluded, all)
	}
}

func isDrop(r record.Record, of func(*record.Drop) bool) bool {
	d, ok := r.(*record.Drop)
	return ok && of(d)
}

// namespaces keeps four apart that refuse at once.
func (r *run) namespaces(t *testing.T) {
	var links []*lab.Link
	for range 4 {
		links = append(links, r.link(t))
		r.fill(t, links[len(links)-1].B.Namespace)
	}
	sent := make([]lab.Sent, len(links))
	errs := make([]error, len(links))
	var all sync.WaitGroup
	for i, link := range links {
		all.Go(func() {
			sent[i], errs[i] = link.B.Send(t.Context(), lab.Traffic{Packets: packetsPerCause/4 + i, CPUs: allCPUs(t)})
		})
	}
	all.Wait()
	must(t, errors.Join(errs...))
	for i, link := range links {
		r.count(t, link.B.Namespace, conntrack.TableFull, sent[i].Refused)
	}
	t.Attr("counted", fmt.Sprint(len(links)))
}

// cpus has each CPU by itself refuse packets.
func (r *run) cpus(t *testing.T) {
	link := r.link(t)
	r.fill(t, link.B.Namespace)
	var refused uint64
	for _, cpu := range allCPUs(t) {
		sent, err := link.A.Inject(t.Context(), lab.Traffic{Packets: packetsPerCause / 10, CPUs: []int{cpu}})
		must(t, err)
		refused += sent.Refused
		k, err := link.B.Namespace.Kernel()
		must(t, err)
		if got := uint64(k.CPU[cpu].Drop); got != sent.Refused {
			t.Fatalf("CPU %d refused %d packets, %d were sent to it", cpu, got, sent.Packets)
		}
	}
	r.count(t, link.B.Namespace, conntrack.TableFull, refused)
	t.Attr("counted", fmt.Sprint(len(allCPUs(t))))
}

// evictions are the kernel's own count, and no drops.
func (r *run) evictions(t *testing.T) {
	link := r.link(t)
	server := link.B.Namespace
	must(t, r.SetLimit(lab.Max, 1000))
	buckets, err := r.Limit(lab.Buckets)
	must(t, err)
	must(t, r.SetLimit(lab.Buckets, 2048)) // so that early_drop finds something in the eight it looks at
	must(t, server.FillUpEvictable(t.Context()))
	sent, err := link.A.Inject(t.Context(), lab.Traffic{Packets: packetsPerCause, CPUs: allCPUs(t)})
	must(t, err)
	must(t, r.SetLimit(lab.Buckets, buckets))
	evicted := kernel(t, server).EarlyDrop
	if evicted == 0 {
		t.Fatal("nothing was evicted")
	}
	r.s.t = t
	last := r.s.awaitNetNS(server, func(n record.NetNS) bool { return n.Evicted >= uint64(evicted) && n.Drops.Total() >= sent.Refused })
	if last.Evicted != uint64(evicted) || last.Drops != only(conntrack.TableFull, sent.Refused) {
		t.Errorf("evicted %d, drops %v; want %d, %d", last.Evicted, last.Drops, evicted, sent.Refused)
	}
	r.expected[conntrack.TableFull] += sent.Refused
}

// awaitNetNS waits until what is told of a namespace is as wanted, and returns it.
func (s *session) awaitNetNS(ns *lab.Namespace, want func(record.NetNS) bool) record.NetNS {
	s.t.Helper()
	var last record.NetNS
	defer func() {
		if s.t.Failed() {
			s.t.Logf("last told of %s: %+v", ns.Name, last)
		}
	}()
	s.await("the numbers of "+ns.Name, func(r record.Record) bool {
		sample, ok := r.(*record.Sample)
		if !ok {
			return false
		}
		for _, n := range sample.NetNS {
			if is(n, ns) {
				if last = n; want(n) {
					return true
				}
			}
		}
		return false
	})
	return last
}

// is reports whether a record is of the namespace. Where the kernel tells no cookie the name has to do, for inodes are used
// again.
func is(n record.NetNS, ns *lab.Namespace) bool {
	same := n.Cookie == ns.Cookie
	if ns.Cookie == 0 {
		same = n.Name == ns.Name
	}
	return n.NS == ns.Inode && same && !n.Gone
}
