package loader

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/test/lab"
	"github.com/ctwatch/ctwatch/test/need"
)

// TestBegins: user space learns of the first eviction and of the first refusal at once.
func TestBegins(t *testing.T) {
	onProbes(t, func(t *testing.T, o Options) {
		if o.Probe == Tracepoint {
			t.Skip("has no hooks")
		}
		for _, alone := range []bool{false, true} {
			if alone && os.Getenv("CTWATCH_TEST_ALONE") == "" {
				continue
			}
			t.Run(fmt.Sprintf("alone=%v", alone), func(t *testing.T) {
				o := o
				o.Alone = alone
				begins(t, o)
			})
		}
	})
}

func begins(t *testing.T, o Options) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := lab.Open(t.Context())
	must(err)
	t.Cleanup(func() { must(l.Close()) })
	client, err := l.Namespace("client")
	must(err)
	const each = 6
	links := make([]*lab.Link, 2*each)
	for i := range links {
		server, err := l.Namespace(fmt.Sprintf("server%d", i))
		must(err)
		must(server.Track())
		links[i], err = l.Link(client, server)
		must(err)
	}
	must(l.SetLimit(lab.Max, 100))
	must(l.SetLimit(lab.Buckets, 1024)) // so that early_drop finds something in the eight it looks at
	p, err := Open(o)
	must(err)
	defer p.Close()
	type arrival struct {
		Event
		at time.Duration
	}
	arrivals := make(chan arrival, 100)
	go func() {
		var e Event
		for p.ReadEvent(&e) == nil {
			arrivals <- arrival{e, bootTime()}
		}
		close(arrivals)
	}()
	await := func(what Beginning, inode uint64) time.Duration {
		t.Helper()
		for deadline := time.After(20 * time.Second); ; {
			select {
			case a := <-arrivals:
				if a.Begins == what && a.Inode == inode {
					return a.at - a.Boot
				}
			case <-deadline:
				t.Fatalf("nobody was told that it begins: %v", what)
			}
		}
	}
	for what, fill := range map[Beginning]func(*lab.Namespace) error{
		Evicting: func(n *lab.Namespace) error { return n.FillUpEvictable(t.Context()) },
		Refusing: func(n *lab.Namespace) error { return n.FillUp(t.Context()) },
	} {
		// Namespaces of their own: what began a moment ago is not told again.
		own := links[:each]
		if what == Refusing {
			own = links[each:]
		}
		var took []time.Duration
		for _, link := range own {
			must(fill(link.B.Namespace))
			for until := bootTime() + time.Second; what == Evicting; { // until something is evicted
				_, err := link.A.Inject(t.Context(), lab.Traffic{Packets: 20})
				must(err)
				k, err := link.B.Namespace.Kernel()
				must(err)
				if k.Total.EarlyDrop > 0 || bootTime() > until {
					break
				}
			}
			if what == Refusing {
				_, err := link.A.Inject(t.Context(), lab.Traffic{Packets: 20})
				must(err)
			}
			took = append(took, await(what, link.B.Namespace.Inode))
		}
		slices.Sort(took)
		t.Logf("beginning %d: told within %v, in the median %v, at most %v", what, took[0], took[each/2], took[each-1])
		// Emulated CPUs take turns, a millisecond or so each.
		if took[0] > 5*time.Millisecond {
			t.Errorf("beginning %d is told %v late at best", what, took[0])
		}
	}
}

// TestHooksAreIdle: for new connections, and while the table is not full, no hook runs.
func TestHooksAreIdle(t *testing.T) {
	onProbes(t, func(t *testing.T, o Options) {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		l, err := lab.Open(t.Context())
		must(err)
		defer func() { must(l.Close()) }()
		client, err := l.Namespace("client")
		must(err)
		server, err := l.Namespace("server")
		must(err)
		must(server.Track())
		must(server.Mute())
		link, err := l.Link(client, server)
		must(err)
		p, err := Open(o)
		must(err)
		defer p.Close()
		stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
		must(err)
		defer stats.Close()
		const packets = 2000
		_, err = link.A.Inject(t.Context(), lab.Traffic{Packets: packets})
		must(err)
		if count, err := server.Count(); err != nil || count < packets {
			t.Fatalf("%d entries, %v", count, err)
		}
		for name, prog := range p.program.coll.Programs {
			s, err := prog.Stats()
			must(err)
			if hook := name != programProgKfreeSkb; hook && s.RunCount > 0 {
				t.Errorf("%s ran %d times", name, s.RunCount)
			}
		}
	})
}

func bootTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// TestTwoTracers: a second tracer on the same functions takes nothing from the first.
func TestTwoTracers(t *testing.T) {
	onProbes(t, func(t *testing.T, o Options) {
		other := map[string]string{Fexit: Kprobe, Kprobe: Kprobe, Tracepoint: Fexit}[o.Probe]
		second, err := Open(Options{Probe: other, Module: o.Module})
		if err != nil {
			need.Probe(t, other, err)
		}
		defer second.Close()
		first, err := Open(o)
		if err != nil {
			t.Fatalf("beside %s: %v", other, err)
		}
		defer first.Close()
		counted(t, first, second)
	})
}

// counted has 500 packets refused, and checks that each probe counts them all, and its hooks, if it has some, too.
func counted(t *testing.T, probes ...*Probe) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := lab.Open(t.Context())
	must(err)
	defer func() { must(l.Close()) }()
	client, err := l.Namespace("client")
	must(err)
	server, err := l.Namespace("server")
	must(err)
	must(server.Track())
	link, err := l.Link(client, server)
	must(err)
	must(l.SetLimit(lab.Max, 100))
	must(server.FillUp(t.Context()))
	const packets = 500
	_, err = link.B.Send(t.Context(), lab.Traffic{Packets: packets})
	must(err)
	for _, p := range probes {
		must(p.Walk()) // an earlier namespace may have had the inode
		tables, err := p.Tables(time.Now())
		must(err)
		at := slices.IndexFunc(tables, func(table Table) bool { return table.Inode == server.Inode && !table.Gone })
		if at < 0 {
			t.Fatalf("%s does not know the namespace", p.Name)
		}
		if n := tables[at].Refused.Total(); n != packets && p.Counts() {
			t.Errorf("%s counted %d of %d", p.Name, n, packets)
		}
		if n := tables[at].Hooked.Full; n != packets && p.Hooked() {
			t.Errorf("the hooks of %s saw %d of %d", p.Name, n, packets)
		}
	}
}
