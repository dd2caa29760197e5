// Package report makes the post-mortem of a window of time from the records of that window. Building it is pure but for
// the source of the records, and so is writing it as text, Markdown, HTML or JSON.
package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// Source feeds the records of a window in the order in which they were written, those of the given kinds only, and says
// what it could not read. It stops at the first error of each, and returns it.
type Source func(ctx context.Context, w Window, each func(record.Record) error) (Damage, error)

// Window is what to read.
type Window struct {
	Since, Until time.Time // of the records, both included; zero is no bound
	Kinds        []string
}

// Damage is what a source holds and could not read as records.
type Damage struct {
	Lines   uint64 // torn, or corrupt
	Unknown uint64 // of a kind that this version does not know
	Lost    uint64 // records that did not reach it
	Unread  uint64 // files that could not be read, or not to their end
}

// Options says what to report on.
type Options struct {
	Since, Until time.Time
	Now          time.Time // where the window reaches beyond it, it ends here
	Running      bool      // a daemon writes the source at this moment
	Incident     string    // report on the one of this id only; "" is all
	Limit        *uint64   // nf_conntrack_max as known from after the window, if it is
	Host         string    // whose records they are, where no start record among those that are read tells; "" is not known
}

// Report is a post-mortem. Its JSON is a contract: fields may be added, none renamed.
type Report struct {
	Since       time.Time       `json:"since"`
	Until       time.Time       `json:"until"`
	Hosts       []string        `json:"hosts"`
	Incidents   []Incident      `json:"incidents"`    // oldest first
	Totals      conntrack.Drops `json:"totals"`       // of the window, outside of incidents, too
	LoggedLines *uint64         `json:"logged_lines"` // of the kernel log during the incidents; null where one of them does not know
	Actions     []record.Action `json:"actions"`
	Limits      []record.Limit  `json:"limits"`
	Unseen      []Unseen        `json:"unseen"` // what the records do not tell

	Evicted      uint64  `json:"evicted"`
	Unattributed uint64  `json:"unattributed"` // refused by the kernel's counters, and not seen by the program
	Samples      uint64  `json:"samples"`      // records of kind sample in the window
	Watched      int64   `json:"watched_ns"`   // how much of the window a daemon was counting
	NetNS        []NetNS `json:"netns"`        // those with the most drops first, then the fullest; at most maxNetNS
	Runs         []Run   `json:"runs"`         // of the daemon, oldest first; at most maxRuns, the last ones
	Others       int     `json:"others"`       // incidents of the window that were not asked for

	fill  *plot // the fullest table over the window
	peak  *float64
	asked bool // for one incident
}

// Incident is the last record of an incident, and what later records add.
type Incident struct {
	record.Incident
	Interrupted bool       `json:"interrupted"` // the daemon ended before it did: drops and the end are the least and the last known
	PeakTime    *time.Time `json:"peak_time"`   // when the count was highest, by the samples; null where none tells

	plot *plot

	now     *uint64    // nf_conntrack_max as last known; nil where only the incident tells
	written *uint64    // what ctwatch wrote for the next boot after the incident's last record; nil if it did not
	lossAt  *time.Time // when a sample first told of a packet that was refused for its cause; nil where none did
}

// NetNS is what the samples of the window tell of one network namespace.
type NetNS struct {
	NS           uint64          `json:"ns"`
	Cookie       uint64          `json:"cookie"`
	Name         string          `json:"name"` // untrusted text
	Host         bool            `json:"host"`
	PeakCount    uint64          `json:"peak_count"`
	PeakFill     *float64        `json:"peak_fill"` // null where no max was read
	PeakTime     *time.Time      `json:"peak_time"`
	Drops        conntrack.Drops `json:"drops"`
	Evicted      uint64          `json:"evicted"`
	Unattributed uint64          `json:"unattributed"`
}

// Run is one run of the daemon, as far as it is in the window.
type Run struct {
	Version string    `json:"version"` // "" where its start record is before what was read
	Kernel  string    `json:"kernel"`
	Probe   string    `json:"probe"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`   // its last record
	Clean   bool      `json:"clean"`   // it said that it stopped
	Running bool      `json:"running"` // it went on when the window ended
}

// Why there is something that the records do not tell, beside the gaps of record.Gap: suspend, clock, blind, restart, journal.
const (
	UnseenNotRunning   = "not_running"  // no daemon ran
	UnseenSilent       = "silent"       // a daemon ran, and its records are missing
	UnseenCrash        = "crash"        // a daemon ended without saying so
	UnseenSamples      = "lost_samples" // refused packets that were counted, and could not be shown
	UnseenUnattributed = "unattributed" // refused packets that the program did not see
	UnseenMissed       = "missed_calls" // calls that the hooks did not see: causes that are conclusions
	UnseenDamaged      = "damaged"      // lines of the source that are no records
	UnseenLost         = "lost_records" // records that did not reach the source
	UnseenUnread       = "unread"       // parts of the source that could not be read
	UnseenUnknown      = "unknown"      // records of kinds that this version does not know
)

// Unseen is something that the records do not tell.
type Unseen struct {
	Why      string     `json:"why"`
	From     *time.Time `json:"from"` // null where it is no stretch of time
	To       *time.Time `json:"to"`
	Duration int64      `json:"duration_ns"`
	Count    uint64     `json:"count"` // samples, packets, calls or lines
	Text     string     `json:"text"`  // in words
}

// What a report holds at most: a daemon may start or be blind a million times in a month.
const (
	maxNetNS  = 20
	maxRuns   = 100
	maxUnseen = 100 // of each kind
)

// lead is where to begin to read, for what counts up since the start of the daemon: the first sample of a day (UTC) lists
// all namespaces.
func lead(since time.Time) time.Time { return since.Add(-silence).UTC().Truncate(24 * time.Hour) }

// ErrOrder: the window ends before it begins.
var ErrOrder = errors.New("the window ends before it begins")

// Build reads the source and makes the report.
func Build(ctx context.Context, source Source, o Options) (*Report, error) {
	if o.Until.After(o.Now) && o.Incident == "" { // an incident may seem to be yet to come, after the clock was set back
		o.Until = o.Now
	}
	if o.Since.After(o.Until) {
		return nil, ErrOrder
	}
	b := newBuilder(o)
	damage, err := source(ctx, Window{Since: lead(o.Since), Until: o.Until, Kinds: []string{record.KindStart, record.KindSample,
		record.KindIncident, record.KindAction, record.KindLimit, record.KindGap, record.KindStop}}, b.add)
	if err != nil {
		return nil, err
	}
	r := b.finish(damage)
	if o.Incident != "" && len(r.Incidents) == 0 {
		return nil, fmt.Errorf("no incident %s from %s to %s", o.Incident, o.Since.Format(time.RFC3339), o.Until.Format(time.RFC3339))
	}
	return r, nil
}
