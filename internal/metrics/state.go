// Package metrics holds what a run knows as Prometheus metrics, and serves them or writes them to a file. There are never
// more than 300 series, whatever the machine has: no label holds an address, and only few namespaces have their own.
package metrics

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/rival"
)

// blindFor is for how long after the program was found blind, and attached anew, the metrics say so: for some scrapes.
const blindFor = 5 * time.Minute

// ID is a namespace's identity, as in a record.NetNS. The kernel gives inode numbers again.
type ID struct{ NS, Cookie uint64 }

// State is what a run knows, as of its last record. It may be used by several goroutines at once.
type State struct {
	version  string
	registry *prometheus.Registry

	mu         sync.Mutex
	namespaces map[ID]*namespace
	roster     roster
	active     map[string]incident // by id
	actions    map[action]uint64
	limits     map[string]uint64 // changes, by writer

	boot         time.Duration // of the last record
	started      bool
	probe        string
	buckets      uint64
	blind        time.Duration // until when; 0: was not
	lost         uint64
	unattributed uint64
	persisted    *uint64
	journalLost  uint64
}

// incident is one that is open.
type incident struct {
	namespace *namespace
	cause     conntrack.Cause
}

type action struct{ what, result string }

// New returns the state of a run that has not begun. version is that of the program.
func New(version string) *State {
	s := &State{
		version:    printable(version),
		registry:   prometheus.NewRegistry(),
		namespaces: make(map[ID]*namespace),
		roster:     newRoster(),
		active:     make(map[string]incident),
		actions:    make(map[action]uint64),
		limits:     make(map[string]uint64),
	}
	s.registry.MustRegister(collector{s, newDescs()})
	return s
}

// Record takes a record of the run, in their order. It fails for what it has no metric for: a word that is not in the
// contract.
func (s *State) Record(r record.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boot = max(s.boot, time.Duration(r.Head().Boottime))
	switch r := r.(type) {
	case *record.Start:
		s.started, s.probe, s.buckets = true, r.Probe, r.Buckets
	case *record.Sample:
		s.sample(r)
	case *record.Incident:
		return s.incident(r)
	case *record.Action:
		if !slices.Contains(record.Actions(), r.What) || !slices.Contains(record.Results(), r.Result) {
			return fmt.Errorf("count action: unknown %q, %q", r.What, r.Result)
		}
		s.actions[action{r.What, r.Result}]++
	case *record.Limit:
		s.limits[rival.Of(r.Writer).By]++
	case *record.Gap:
		if r.Why == record.GapBlind {
			s.blind = s.boot + blindFor
		}
	case *record.Stop:
		s.tallies(r.Lost, r.Unattributed)
	case *record.Drop: // samples count them all
	default:
		return fmt.Errorf("count record: unknown type %T", r)
	}
	return nil
}

// tallies takes counts since the start. What is unattributed may turn out not to be; a counter must not go back.
func (s *State) tallies(lost, unattributed uint64) {
	s.lost = max(s.lost, lost)
	s.unattributed = max(s.unattributed, unattributed)
}

func (s *State) sample(r *record.Sample) {
	s.buckets = r.Buckets
	s.tallies(r.Lost, r.Unattributed)
	for i := range r.NetNS {
		s.netns(&r.NetNS[i])
	}
	s.roster.fill(s.namespaces)
	for i := range r.NetNS { // new ones, which now have the series that they get
		if n := s.namespaces[idOf(&r.NetNS[i])]; n != nil {
			n.count(&r.NetNS[i])
		}
	}
	for _, n := range s.namespaces {
		if n.read { // also where nothing changed
			n.forecast.Add(s.boot, n.entries, n.max)
		}
	}
}

func (s *State) netns(r *record.NetNS) {
	n, known := s.meet(r)
	if known || r.Gone {
		n.count(r)
	}
	n.look(r)
	switch label := labelOf(r); {
	case r.Gone:
		s.roster.leave(n)
		delete(s.namespaces, idOf(r))
	case r.Host && n.series != s.roster.host:
		s.roster.leave(n)
		n.series, s.roster.host.owner = s.roster.host, n
	case label != n.label:
		s.roster.leave(n)
		n.label = label
	}
}

// meet returns the namespace, and whether it is known, or makes one. One that was listed without its cookie may get it later.
func (s *State) meet(r *record.NetNS) (n *namespace, known bool) {
	id, bare := idOf(r), ID{NS: r.NS}
	if n, known = s.namespaces[id]; known {
		return n, true
	}
	if n, known = s.namespaces[bare]; known {
		delete(s.namespaces, bare)
	} else {
		n = &namespace{inode: r.NS, label: labelOf(r), series: s.roster.other}
	}
	s.namespaces[id] = n
	return n, known
}

func idOf(r *record.NetNS) ID { return ID{r.NS, r.Cookie} }

func (s *State) incident(r *record.Incident) error {
	if int(r.Cause) >= conntrack.NumCauses {
		return fmt.Errorf("count incident: unknown %v", r.Cause)
	}
	in, open := s.active[r.ID]
	if !open {
		in = incident{s.afflicted(r), r.Cause}
		s.roster.incident(in.namespace.series, r.Cause)
	}
	if r.Phase == record.PhaseClose {
		delete(s.active, r.ID)
	} else {
		s.active[r.ID] = in
	}
	return nil
}

// afflicted returns the namespace of an incident, which gets series of its own if there are any to be had.
func (s *State) afflicted(r *record.Incident) *namespace {
	n := s.namespaces[ID{r.NS, r.Cookie}]
	switch {
	case n != nil:
		n.rank = troubled
		s.roster.join(n)
		return n
	case r.Host: // no sample listed it yet
		return &namespace{series: s.roster.host}
	}
	return &namespace{series: s.roster.other} // nor this, or it is gone
}

// Kernel takes the kernel's own counters of a namespace that a sample has listed, as a conntrack.Meter adds them up. Of a
// namespace that is gone, nothing more is taken.
func (s *State) Kernel(id ID, totals conntrack.Totals, known conntrack.CounterSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.namespaces[id]
	if n == nil {
		return
	}
	n.series.known |= known
	now := n.told
	for c := range conntrack.Counter(conntrack.NumCounters) {
		if known.Has(c) {
			now.kernel[c] = totals[c]
		}
	}
	n.grow(now)
}

// PersistedLimit takes what the machine's files set nf_conntrack_max to; nil where none does.
func (s *State) PersistedLimit(limit *uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.persisted = nil
	if limit != nil {
		v := *limit
		s.persisted = &v
	}
}

// JournalLost takes how many records could not be written to the journal since the start.
func (s *State) JournalLost(records uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journalLost = max(s.journalLost, records)
}
