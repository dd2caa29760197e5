package journals

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

const (
	limit   = 262144
	second  = time.Second
	busy    = 3             // namespaces, beside the host, whose count follows the time of day
	restart = 8*24*3600 + 7 // seconds from one restart of the daemon to the next
)

// host is a machine whose tables and incidents are made up, and the daemon that watches it.
type host struct {
	o       Options
	out     *files
	rand    *rand.Rand
	begin   time.Time
	second  int // since the beginning
	seq     uint64
	run     time.Duration // boot time at which the daemon started
	max     uint64
	buckets uint64
	netns   []*netns
	begins  []int // seconds in which incidents begin, ascending
	current []*incident
	turn    course // of the next incident
	stopped record.Stop
}

type netns struct {
	record.NetNS
	base    float64 // entries at rest
	changed bool
}

func newHost(o Options, out *files) *host {
	h := &host{
		o: o, out: out, rand: rand.New(rand.NewPCG(o.Seed, 4)), max: limit, buckets: limit,
		begin: o.Until.UTC().AddDate(0, 0, -o.Days),
	}
	for i := range o.NetNS {
		n := &netns{NetNS: record.NetNS{NS: 4026531840 + uint64(i), Cookie: 1 + uint64(i)*4096, Host: i == 0}, changed: true}
		n.Name = fmt.Sprintf("cni-%08x-%04x", h.rand.Uint32(), i)
		n.Owner = "pod:" + fmt.Sprintf("%08x-%04x", h.rand.Uint32(), i)
		n.base = 20 + float64(h.rand.IntN(3000))
		if i == 0 {
			n.Name, n.Owner, n.base = "host", "", 21000
		} else if i <= busy {
			n.base = 30000 + float64(h.rand.IntN(30000))
		}
		n.set(uint64(n.base), h.max)
		h.netns = append(h.netns, n)
	}
	// Not in the last hour, so that each one ends; some at nearly the same time.
	for range o.Incidents {
		h.begins = append(h.begins, 600+h.rand.IntN(o.Days*24*3600-4200))
	}
	slices.Sort(h.begins)
	return h
}

func (n *netns) set(count, limit uint64) {
	fill := float64(count) / float64(limit)
	n.Count, n.Max, n.Fill, n.changed = &count, &limit, &fill, true
}

// live is all the days.
func (h *host) live() error {
	if err := h.start(); err != nil {
		return err
	}
	for h.second = 1; h.second < h.o.Days*24*3600; h.second++ {
		if h.second%restart == 0 && len(h.current) == 0 {
			if err := h.restart(); err != nil {
				return err
			}
		}
		for len(h.begins) > 0 && h.begins[0] <= h.second {
			h.begins = h.begins[1:]
			h.current = append(h.current, h.newIncident())
		}
		h.load()
		for _, in := range h.current {
			in.refuse()
		}
		if err := h.tell(h.sample()); err != nil {
			return err
		}
		for _, in := range h.current {
			if err := in.tell(); err != nil {
				return err
			}
		}
		h.current = slices.DeleteFunc(h.current, func(in *incident) bool { return in.closed })
	}
	h.second-- // within the last day
	return h.stop()
}

// load moves the counts: the host's jitters, some follow the time of day, the others change now and then.
func (h *host) load() {
	of := float64(h.second%(24*3600)) / (24 * 3600)
	for i, n := range h.netns[:min(1+busy, len(h.netns))] {
		swing, noise := 1.0, 0.01
		if i > 0 {
			swing, noise = 1+0.6*math.Sin(2*math.Pi*of), 0.05
		}
		n.set(uint64(n.base*swing*max(0.5, 1+noise*h.rand.NormFloat64())), h.max)
	}
	if h.rand.IntN(20) == 0 {
		n := h.netns[h.rand.IntN(len(h.netns))]
		n.set(uint64(n.base*(0.8+0.4*h.rand.Float64())), h.max)
	}
}

func (h *host) sample() *record.Sample {
	s := &record.Sample{Interval: second.Nanoseconds(), Buckets: h.buckets, NetNS: []record.NetNS{}}
	for _, n := range h.netns {
		if n.changed {
			n.changed = false
			s.NetNS = append(s.NetNS, n.NetNS)
		}
	}
	return s
}

func (h *host) start() error {
	h.run = h.boot()
	h.stopped = record.Stop{}
	for _, n := range h.netns {
		n.Drops, n.Evicted, n.changed = conntrack.Drops{}, 0, true
	}
	return h.tell(&record.Start{
		Version: "1.0.0", Kernel: "6.12.48+deb13-amd64", Hostname: "gateway-1", Probe: "kprobe", Hooks: []string{"early_drop", "nf_ct_resolve_clash"},
		Skipped: []record.Skip{}, Buckets: h.buckets, Max: h.max,
	})
}

func (h *host) stop() error {
	h.stopped.Uptime = (h.boot() - h.run).Nanoseconds()
	for _, n := range h.netns {
		h.stopped.Totals = h.stopped.Totals.Add(n.Drops)
		h.stopped.Evicted += n.Evicted
	}
	stop := h.stopped
	return h.tell(&stop)
}

// restart is an update of ctwatch, or a suspend, by turns.
func (h *host) restart() error {
	if h.second/restart%2 == 0 {
		return h.tell(&record.Gap{Why: "suspend", From: h.now(0).Add(-time.Minute), To: h.now(0)})
	}
	if err := h.stop(); err != nil {
		return err
	}
	h.seq = 0
	return h.start()
}

// tell stamps a record. Those of one second are some microseconds apart.
func (h *host) tell(r record.Record) error {
	h.seq++
	drift := time.Duration(h.seq%1000) * 13 * time.Microsecond
	record.Stamp(r, h.seq, h.now(drift), h.boot()+drift)
	return h.out.add(r)
}

func (h *host) now(drift time.Duration) time.Time {
	return h.begin.Add(time.Duration(h.second)*second + drift + 200*time.Millisecond)
}

func (h *host) boot() time.Duration { return 1000*second + time.Duration(h.second)*second }

// pick is the namespace in which something happens: mostly one of the busy.
func (h *host) pick() *netns {
	n := len(h.netns)
	if h.rand.IntN(4) > 0 {
		n = cmp.Or(min(n, 1+busy), 1)
	}
	return h.netns[h.rand.IntN(n)]
}
