package metrics

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// maxSeries is the contract's bound for all there is on /metrics.
const maxSeries = 300

// processSeries are those that the server adds.
const processSeries = 4

// TestChurn holds the metrics to what they promise, whatever namespaces come, go and do: the sum of a counter over its
// series is what was counted, no series goes back while it is there, and there are few.
func TestChurn(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { churn(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func churn(t *testing.T, random *rand.Rand) {
	s := newStory(t)
	names := []string{"", "host", "other", "blue", "blue (3)", "red", "\xff\n", "a", "b", "c", "d", "e", "f", "g"}
	var live []record.NetNS
	var drops, evicted, kernel, incidents uint64 // all there were
	kernels := make(map[ID]conntrack.Totals)
	open := make(map[string]*record.Incident)
	before := make(map[string]float64)
	for step := range 300 {
		if len(live) == 0 || random.IntN(3) == 0 {
			inode := 1 + random.Uint64N(30)
			n := netns(inode, names[random.IntN(len(names))], 0, 100, conntrack.Drops{}, 0)
			n.Cookie, n.Host = uint64(1000+step), step == 0
			live = append(live, n)
		}
		sample := &record.Sample{}
		for i := len(live) - 1; i >= 0; i-- {
			n := &live[i]
			if random.IntN(3) > 0 && step > 0 {
				continue
			}
			count, limit, fill := random.Uint64N(60), uint64(100), 0.0
			n.Count, n.Max, n.Fill = &count, &limit, &fill
			if random.IntN(4) == 0 {
				d := random.Uint64N(5)
				n.Drops[random.IntN(conntrack.NumCauses)] += d
				n.Evicted += d
				drops += d
				evicted += d
			}
			switch random.IntN(10) {
			case 0:
				n.Name = names[random.IntN(len(names))]
			case 1:
				n.Gone = !n.Host
			}
			sample.NetNS = append(sample.NetNS, *n)
			if n.Gone {
				live = append(live[:i], live[i+1:]...)
			}
		}
		s.tell(sample)
		for _, n := range live {
			if random.IntN(2) == 0 {
				id := ID{n.NS, n.Cookie}
				totals := kernels[id]
				if _, known := s.state.namespaces[id]; known {
					totals[conntrack.CounterFound] += 7
					kernel += 7
				}
				kernels[id] = totals
				s.state.Kernel(id, totals, allCounters)
			}
		}
		if len(live) > 0 && random.IntN(3) == 0 {
			n := live[random.IntN(len(live))]
			in := &record.Incident{Phase: record.PhaseOpen, ID: strconv.Itoa(step), NS: n.NS, Cookie: n.Cookie, Host: n.Host,
				Cause: conntrack.Cause(random.IntN(conntrack.NumCauses))}
			open[in.ID] = in
			incidents++
			s.tell(in)
		}
		for id, in := range open {
			if random.IntN(10) == 0 {
				closing := *in
				closing.Phase = record.PhaseClose
				s.tell(&closing)
				delete(open, id)
			}
		}

		all := scrape(t, s.state, "ctwatch_")
		if len(all)+processSeries > maxSeries {
			t.Fatalf("step %d: %d series", step, len(all))
		}
		pairs := -2 * conntrack.NumCauses // without those of the host and the others
		for name := range all {
			if strings.HasPrefix(name, "incidents_total{") {
				pairs++
			}
		}
		if pairs != s.state.roster.pairs {
			t.Fatalf("step %d: %d pairs are shown, and %d counted", step, pairs, s.state.roster.pairs)
		}
		now := make(map[string]float64)
		sums := make(map[string]float64)
		for name, text := range all {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			family, _, _ := strings.Cut(name, "{")
			sums[family] += v
			if strings.HasSuffix(family, "_total") {
				now[name] = v
				if v < before[name] {
					t.Fatalf("step %d: %s goes back from %v to %v", step, name, before[name], v)
				}
			}
		}
		before = now
		for family, want := range map[string]uint64{
			"drops_total": drops, "evicted_total": evicted, "kernel_stat_total": kernel, "incidents_total": incidents,
			"incident_active": uint64(len(open)),
		} {
			if sums[family] != float64(want) {
				t.Fatalf("step %d: the sum of %s is %v, want %d", step, family, sums[family], want)
			}
		}
	}
}

// worst is a state with as many series as there can be: a thousand namespaces with hostile names, and trouble of every kind.
func worst(t *testing.T) *story {
	s := newStory(t)
	s.tell(&record.Start{Probe: "fexit"})
	limit := uint64(1)
	s.state.PersistedLimit(&limit)
	for round := range uint64(3) {
		list := []record.NetNS{host(round, full(round))}
		for i := range uint64(1000) {
			list = append(list, netns(100+i, fmt.Sprintf("\x1b[31m<script>\"\n\xff%d", i%500), 60+round, 100, full(round), round))
		}
		s.sample(list...)
		for _, n := range list {
			s.state.Kernel(ID{n.NS, n.Cookie}, conntrack.Totals{}, allCounters)
			for cause := range conntrack.Cause(conntrack.NumCauses) {
				s.tell(&record.Incident{Phase: record.PhaseOpen, ID: fmt.Sprint(round, n.NS, cause), NS: n.NS, Cookie: n.Cookie, Host: n.Host, Cause: cause})
			}
		}
	}
	return s
}

func TestFewSeries(t *testing.T) {
	s := worst(t)
	all := scrape(t, s.state, "ctwatch_")
	// Not far below either: or it would not be the worst that this tests.
	if n := len(all) + processSeries; n > maxSeries || n < maxSeries-15 {
		t.Errorf("%d series", n)
	}
	pedantic := prometheus.NewPedanticRegistry()
	pedantic.MustRegister(collector{s.state, newDescs()})
	if _, err := pedantic.Gather(); err != nil {
		t.Error(err)
	}
	if got := len(scrape(t, s.state, "ctwatch_evicted_total")); got != 1+maxNamed+1 {
		t.Errorf("%d namespaces are shown", got)
	}
}

func BenchmarkSample(b *testing.B) {
	s := New("v")
	sample := &record.Sample{}
	for i := range uint64(1000) {
		sample.NetNS = append(sample.NetNS, netns(i, fmt.Sprint("pod", i), 10, 100, conntrack.Drops{}, 0))
	}
	for b.Loop() {
		sample.Boottime += 1e9
		if err := s.Record(sample); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGather(b *testing.B) {
	s := worst(&testing.T{}).state
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
