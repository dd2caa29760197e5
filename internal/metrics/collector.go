package metrics

import (
	"cmp"
	"math"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/rival"
)

// collector makes the metrics of a State, all of one moment.
type collector struct {
	state *State
	*descs
}

// Describe sends what Collect may send.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.all {
		ch <- d
	}
}

// Collect sends the metrics. All are gathered first: the run must not wait for whoever reads them.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, m := range c.gather() {
		ch <- m
	}
}

func (c collector) gather() batch {
	s := c.state
	s.mu.Lock()
	defer s.mu.Unlock()
	var b batch
	for _, x := range s.roster.all() {
		c.counters(&b, x)
	}
	c.tables(&b)
	c.incidentSeries(&b)
	for _, what := range record.Actions() {
		for _, result := range record.Results() {
			b.counter(c.actions, s.actions[action{what, result}], what, result)
		}
	}
	for _, by := range rival.Groups() {
		b.counter(c.changes, s.limits[by], by)
	}
	c.machine(&b)
	s.roster.scraped()
	return b
}

func (c collector) counters(b *batch, x *series) {
	for cause := range conntrack.Cause(conntrack.NumCauses) {
		b.counter(c.drops, x.drops[cause], x.label, cause.String())
	}
	b.counter(c.evicted, x.evicted, x.label)
	for k := range conntrack.Counter(conntrack.NumCounters) {
		if x.known.Has(k) {
			b.counter(c.kernel, x.kernel[k], x.label, k.String())
		}
	}
}

// tables are the gauges of tables: those of the namespaces with series of their own, and of all others together.
func (c collector) tables(b *batch) {
	var entries uint64
	soonest := math.Inf(1)
	for _, n := range c.state.namespaces {
		switch {
		case !n.read:
		case n.series == c.state.roster.other:
			entries += n.entries
			soonest = min(soonest, n.forecast.SecondsToFull())
		default:
			b.gauge(c.entries, float64(n.entries), n.series.label)
			b.gauge(c.limit, limitOf(n.max), n.series.label)
			b.gauge(c.toFull, n.forecast.SecondsToFull(), n.series.label)
		}
	}
	b.gauge(c.entries, float64(entries), otherLabel)
	b.gauge(c.toFull, soonest, otherLabel)
}

// limitOf makes no limit of a max of 0, as the kernel does: whoever divides by it finds the table empty, not overfull.
func limitOf(max uint64) float64 {
	if max == 0 {
		return math.Inf(1)
	}
	return float64(max)
}

func (c collector) incidentSeries(b *batch) {
	type pair struct {
		series *series
		cause  conntrack.Cause
	}
	open := make(map[pair]int)
	for _, in := range c.state.active {
		open[pair{c.state.roster.incidentsOf(in.namespace.series, in.cause), in.cause}]++
	}
	for _, x := range c.state.roster.all() {
		for cause, shown := range x.shown {
			if cause := conntrack.Cause(cause); shown {
				b.gauge(c.active, float64(open[pair{x, cause}]), x.label, cause.String())
				b.counter(c.incidents, x.incidents[cause], x.label, cause.String())
			}
		}
	}
}

// machine is what there is once.
func (c collector) machine(b *batch) {
	s := c.state
	if s.started {
		b.gauge(c.buckets, float64(s.buckets))
		b.gauge(c.probe, 1, cmp.Or(printable(s.probe), "none"))
	}
	if s.persisted != nil {
		b.gauge(c.persisted, float64(*s.persisted))
	}
	blind := 0.0
	if s.boot < s.blind {
		blind = 1
	}
	b.gauge(c.blind, blind)
	b.counter(c.lost, s.lost)
	b.counter(c.unattributed, s.unattributed)
	b.counter(c.journalLost, s.journalLost)
	b.gauge(c.build, 1, s.version, runtime.Version(), runtime.GOARCH)
}

// batch is the metrics of one scrape.
type batch []prometheus.Metric

func (b *batch) counter(d *prometheus.Desc, v uint64, labels ...string) {
	*b = append(*b, prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...))
}

func (b *batch) gauge(d *prometheus.Desc, v float64, labels ...string) {
	*b = append(*b, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...))
}
