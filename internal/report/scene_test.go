package report

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// cet is the zone of all that the tests write.
var cet = time.FixedZone("CET", 3600)

// day is when the scenes play.
var day = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

// scene makes the records of runs, with two clocks of its own.
type scene struct {
	records []record.Record
	seq     uint64
	boot    time.Duration
	wall    time.Time
}

func newScene(at time.Time) *scene { return &scene{wall: at, boot: time.Hour} }

// pass lets time go by.
func (s *scene) pass(d time.Duration) *scene {
	s.wall, s.boot = s.wall.Add(d), s.boot+d
	return s
}

// add stamps a record as ctwatch would at this moment.
func (s *scene) add(r record.Record) *scene {
	if start, ok := r.(*record.Start); ok && start.Seq == 0 {
		s.seq = 0
	}
	s.seq++
	record.Stamp(r, s.seq, s.wall, s.boot)
	s.records = append(s.records, r)
	return s
}

func (s *scene) start() *scene {
	return s.add(&record.Start{Version: "1.0", Kernel: "6.12", Hostname: "web-1", Probe: "kprobe", Buckets: 65536, Max: 1000})
}

func (s *scene) sample(tables ...record.NetNS) *scene {
	return s.add(&record.Sample{Interval: int64(time.Second), Buckets: 65536, NetNS: tables})
}

func (s *scene) source() Source { return recordSource(Damage{}, s.records...) }

// netns is a namespace as a sample lists it.
func netns(name string, cookie, count uint64, full uint64) record.NetNS {
	limit := uint64(1000)
	fill := float64(count) / float64(limit)
	n := record.NetNS{NS: 4026532000 + cookie, Cookie: cookie, Name: name, Count: &count, Max: &limit, Fill: &fill}
	n.Drops[conntrack.TableFull] = full
	return n
}

// full is an incident of a full table as it stands at this moment.
func (s *scene) full(n record.NetNS, id, phase string, started time.Time, refused uint64) *record.Incident {
	i := &record.Incident{
		ID: id, Phase: phase, NS: n.NS, Cookie: n.Cookie, Name: n.Name, Host: n.Host, Cause: conntrack.TableFull, Trigger: "drop",
		Started: started, Duration: int64(s.wall.Sub(started)), PeakCount: 1000, PeakFill: 1, Buckets: 65536,
		Verdict: "The limit is too small for the real load.", VerdictKind: record.VerdictLimitTooSmall,
		Limits: record.Limits{Before: 1000, After: 1000},
	}
	i.Drops[conntrack.TableFull] = refused
	if phase == record.PhaseClose {
		at := s.wall
		i.Ended, i.Closed = &at, "quiet"
	}
	return i
}

// recordSource feeds records that are there already.
func recordSource(d Damage, all ...record.Record) Source {
	return func(_ context.Context, w Window, each func(record.Record) error) (Damage, error) {
		for _, r := range all {
			e := r.Head()
			if e.Time.Before(w.Since) || !w.Until.IsZero() && e.Time.After(w.Until) || !slices.Contains(w.Kinds, e.Kind) {
				continue
			}
			if err := each(r); err != nil {
				return d, err
			}
		}
		return d, nil
	}
}

// fileSource reads records from a file of one JSON object a line.
func fileSource(t *testing.T, path string) Source {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []record.Record
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		r, err := record.Parse(lines.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return recordSource(Damage{}, all...)
}

// build makes the report of a day, at its end.
func build(t *testing.T, s Source, change ...func(*Options)) *Report {
	t.Helper()
	o := Options{Since: day, Until: day.Add(24 * time.Hour), Now: day.Add(24 * time.Hour)}
	for _, c := range change {
		c(&o)
	}
	r, err := Build(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// all writes a report in every format.
func all(t *testing.T, r *Report) map[string]string {
	t.Helper()
	out := map[string]string{}
	var b bytes.Buffer
	for _, f := range []struct {
		name  string
		write func() error
	}{
		{"txt", func() error { return r.WriteText(&b, cet) }},
		{"md", func() error { return r.WriteMarkdown(&b, cet) }},
		{"html", func() error { return r.WriteHTML(&b, cet) }},
		{"json", func() error { return r.WriteJSON(&b) }},
	} {
		b.Reset()
		if err := f.write(); err != nil {
			t.Fatal(err)
		}
		out[f.name] = b.String()
	}
	return out
}
