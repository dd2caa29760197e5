package report

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// Last is the word for the last incident where an id is asked for.
const Last = "last"

// Found is an incident of a source: its id, and the window that shows it.
type Found struct {
	ID           string
	Since, Until time.Time
	Limit        *uint64 // nf_conntrack_max as last known, however long after
}

// UnknownError: no incident, or more than one, is meant by what was asked for.
type UnknownError struct {
	Asked string
	Among bool     // more than one begins so
	Known []string // the last few ids, or those that begin so; oldest first
}

// Error says what was asked for and what there is.
func (e *UnknownError) Error() string {
	var text string
	switch {
	case len(e.Known) == 0:
		return "there is no incident"
	case e.Among:
		text = fmt.Sprintf("more than one incident begins with %s", quote(e.Asked))
	default:
		text = fmt.Sprintf("no incident %s; the last ones are", quote(e.Asked))
	}
	for i, id := range e.Known {
		if i == 0 {
			text += ": "
		} else {
			text += ", "
		}
		text += visible(id)
	}
	return text
}

// knownIDs is how many ids an UnknownError names.
const knownIDs = 5

// Find looks in a window for the incident that is meant: by its id, by a beginning of it that no other has, or Last. now is
// where an incident that is still open ends.
func Find(ctx context.Context, source Source, since, until, now time.Time, asked string) (Found, error) {
	var limit *uint64
	var found []Found
	at := map[string]int{}
	open := map[int]bool{}
	kinds := []string{record.KindIncident, record.KindStart, record.KindLimit}
	_, err := source(ctx, Window{Since: since, Until: until, Kinds: kinds}, func(r record.Record) error {
		if l, ok := r.(*record.Limit); ok {
			if l.Key == conntrack.KeyMax {
				limit = &l.To
			}
			return nil
		}
		if s, ok := r.(*record.Start); ok { // what was open then was interrupted
			if s.Probe != "" {
				limit = &s.Max
			}
			for n := range open {
				found[n].Until = later(found[n].Until, r.Head().Time)
			}
			clear(open)
			return nil
		}
		i, ok := r.(*record.Incident)
		if !ok {
			return nil
		}
		n, known := at[i.ID]
		if !known {
			n = len(found)
			at[i.ID] = n
			found = append(found, Found{ID: i.ID, Since: i.Started})
		}
		// The record's own time, where the clock was set, may be the earlier one.
		found[n].Since = earlier(found[n].Since, i.Time)
		found[n].Until = later(i.Time, i.Started)
		if open[n] = i.Phase != record.PhaseClose; !open[n] {
			delete(open, n)
		}
		return nil
	})
	if err != nil {
		return Found{}, err
	}
	for n := range open {
		found[n].Until = later(now, found[n].Until)
		if !until.IsZero() {
			found[n].Until = earlier(found[n].Until, until)
		}
	}
	for n := range found {
		found[n].Limit = limit
	}
	if asked == Last && len(found) > 0 {
		return found[len(found)-1], nil
	}
	if n, ok := at[asked]; ok {
		return found[n], nil
	}
	meant := slices.DeleteFunc(slices.Clone(found), func(f Found) bool { return !strings.HasPrefix(f.ID, asked) })
	if len(meant) == 1 {
		return meant[0], nil
	}
	e := &UnknownError{Asked: asked, Among: len(meant) > 1}
	if !e.Among {
		meant = found
	}
	for _, f := range meant[max(0, len(meant)-knownIDs):] {
		e.Known = append(e.Known, f.ID)
	}
	return Found{}, e
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
