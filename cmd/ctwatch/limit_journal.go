package main

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/internal/journal"
	"github.com/ctwatch/ctwatch/internal/record"
)

// limitWindow is how far back the journal is asked about limits.
const limitWindow = 7 * 24 * time.Hour

// deeds are what the journal tells of who set limits lately.
type deeds struct {
	actions []*record.Action // the last few, oldest first
	yielded *record.Action   // what the daemon yielded, if it still does
	changed *record.Limit    // the last change by anybody
}

const mostDeeds = 3

// readDeeds reads the journal. resumed is when an operator last ended all yielding.
func readDeeds(ctx context.Context, root string, now time.Time, resumed *time.Time) (deeds, error) {
	var d deeds
	kinds := []string{record.KindAction, record.KindLimit, record.KindStart}
	err := readRecords(ctx, root, now, kinds, func(r record.Record) {
		switch r := r.(type) {
		case *record.Start:
			d.yielded = nil
		case *record.Limit:
			d.changed = r
		case *record.Action:
			if r.Result == record.ResultYielded && (resumed == nil || r.Time.After(*resumed)) {
				d.yielded = r
			}
			d.actions = append(d.actions, r)
			d.actions = d.actions[max(0, len(d.actions)-mostDeeds):]
		}
	})
	return d, err
}

// peak is the most entries that a namespace held.
type peak struct {
	Count    uint64    `json:"count"`
	Time     time.Time `json:"time"`
	NS       uint64    `json:"ns"`
	Name     string    `json:"name"`               // untrusted text
	Incident string    `json:"incident,omitempty"` // meanwhile, if there was one

	cookie uint64
}

// flood is an incident in which a flood filled a table: what it held then says nothing about what is needed.
type flood struct {
	id           string
	name         string
	ns, cookie   uint64
	since, until time.Time // until is zero while it lasts
	peak         uint64
}

// around is how long before a flood was seen it may have begun to fill the table, and how long it still holds some of it
// afterwards: entries of connections that are never completed live up to two minutes.
const around = 5 * time.Minute

func (f flood) covers(ns, cookie uint64, at time.Time) bool {
	return f.ns == ns && f.cookie == cookie && !at.Before(f.since.Add(-around)) && (f.until.IsZero() || !at.After(f.until.Add(around)))
}

// readPeak finds the peak in the journal, floods left out; nil if it tells of none.
func readPeak(ctx context.Context, root string, now time.Time) (highest *peak, floods []flood, err error) {
	incidents := map[string]*record.Incident{}
	err = readRecords(ctx, root, now, []string{record.KindIncident, record.KindStart}, func(r record.Record) {
		if i, ok := r.(*record.Incident); ok {
			incidents[i.ID] = i // the last one is enough
			return
		}
		for _, i := range incidents { // the run that saw them ended without a word
			if i.Ended == nil {
				i.Ended = &i.Time
			}
		}
	})
	if err != nil {
		return nil, nil, err
	}
	ids := slices.Sorted(maps.Keys(incidents))
	for _, id := range ids {
		if i := incidents[id]; isFlood(i) {
			f := flood{id: i.ID, name: i.Name, ns: i.NS, cookie: i.Cookie, since: i.Started, peak: i.PeakCount}
			if i.Phase == record.PhaseClose && i.Ended == nil {
				i.Ended = &i.Time
			}
			if i.Ended != nil {
				f.until = *i.Ended
			}
			floods = append(floods, f)
		}
	}
	note := func(p peak) {
		if highest != nil && p.Count <= highest.Count {
			return
		}
		for _, f := range floods {
			if f.covers(p.NS, p.cookie, p.Time) {
				return
			}
		}
		highest = &p
	}
	for _, id := range ids {
		i := incidents[id]
		note(peak{i.PeakCount, i.Started, i.NS, i.Name, i.ID, i.Cookie})
	}
	err = readRecords(ctx, root, now, []string{record.KindSample}, func(r record.Record) {
		for _, n := range r.(*record.Sample).NetNS {
			if n.Count != nil {
				note(peak{*n.Count, r.Head().Time, n.NS, n.Name, "", n.Cookie})
			}
		}
	})
	return highest, floods, err
}

func isFlood(i *record.Incident) bool {
	return i.VerdictKind == record.VerdictFloodFew || i.VerdictKind == record.VerdictFloodMany
}

// readRecords reads the journal's records of the last days. That there is no journal is no error.
func readRecords(ctx context.Context, root string, now time.Time, kinds []string, each func(record.Record)) error {
	window := journal.Window{Since: now.Add(-limitWindow), Kinds: kinds}
	_, err := journal.Read(ctx, filepath.Join("/", root, journalDir), window, func(l *journal.Line) error {
		r, err := l.Record()
		if err == nil {
			each(r)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
