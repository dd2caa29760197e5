// Package record holds the records that ctwatch writes, one JSON object a line: to standard output and to the journal.
package record

import (
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// Version is the version of the records' form, field v.
const Version = 1

// The kinds of records.
const (
	KindStart    = "start"
	KindSample   = "sample"
	KindDrop     = "drop"
	KindIncident = "incident"
	KindAction   = "action"
	KindLimit    = "limit"
	KindGap      = "gap"
	KindStop     = "stop"
)

// Envelope is what every record begins with.
type Envelope struct {
	V        int       `json:"v"`
	Seq      uint64    `json:"seq"` // from 1, without gaps
	Time     time.Time `json:"time"`
	Boottime int64     `json:"boottime_ns"` // CLOCK_BOOTTIME: goes on during suspend, and never back
	Kind     string    `json:"kind"`
}

// Record is any of the types below. Head returns the envelope that it begins with.
type Record interface{ Head() *Envelope }

// Head returns e itself: what a record's type embeds is how the record is reached.
func (e *Envelope) Head() *Envelope { return e }

// Stamp fills in the envelope.
func Stamp(r Record, seq uint64, now time.Time, boot time.Duration) {
	e := r.Head()
	e.V, e.Seq, e.Time, e.Boottime = Version, seq, now.UTC(), boot.Nanoseconds()
	switch r.(type) {
	case *Start:
		e.Kind = KindStart
	case *Sample:
		e.Kind = KindSample
	case *Drop:
		e.Kind = KindDrop
	case *Incident:
		e.Kind = KindIncident
	case *Action:
		e.Kind = KindAction
	case *Limit:
		e.Kind = KindLimit
	case *Gap:
		e.Kind = KindGap
	case *Stop:
		e.Kind = KindStop
	}
}

// Start says that counting begins, and how.
type Start struct {
	Envelope
	Version  string   `json:"version"`
	Kernel   string   `json:"kernel"`
	Hostname string   `json:"hostname"`
	Probe    string   `json:"probe"` // "" while conntrack is not loaded
	Hooks    []string `json:"hooks"`
	Skipped  []Skip   `json:"skipped"`
	Buckets  uint64   `json:"buckets"`
	Max      uint64   `json:"max"`
}

// Skip is a probe that was passed over.
type Skip struct {
	Probe string `json:"probe"`
	Why   string `json:"why"`
}

// Sample is the state of things at the end of an interval.
type Sample struct {
	Envelope
	Interval     int64   `json:"interval_ns"`
	Buckets      uint64  `json:"buckets"`
	Lost         uint64  `json:"lost"`         // drop records that could not be delivered, since start
	Unattributed uint64  `json:"unattributed"` // refused by the kernel's counters, and not seen by the program
	NetNS        []NetNS `json:"netns"`        // those that changed since they were last listed
}

// NetNS is one network namespace in a Sample.
type NetNS struct {
	NS      uint64          `json:"ns"`     // inode number
	Cookie  uint64          `json:"cookie"` // net_cookie, never used again; 0 where the kernel has none
	Name    string          `json:"name"`   // untrusted text; "" where nobody named it
	Count   *uint64         `json:"count"`  // entries; null where the namespace cannot be entered
	Max     *uint64         `json:"max"`
	Fill    *float64        `json:"fill"` // count / max; null without a max
	Drops   conntrack.Drops `json:"drops"`
	Evicted uint64          `json:"evicted"`
	// Unattributed is this namespace's part of Sample.Unattributed.
	Unattributed uint64 `json:"unattributed,omitempty"`
	Owner        string `json:"owner,omitempty"` // whose processes are in it, as netns.Owner writes it; untrusted text
	Host         bool   `json:"host,omitempty"`  // the machine's own; others may be named "host", too
	Gone         bool   `json:"gone,omitempty"`  // the namespace is no more: these are its last numbers
}

// Drop is one refused packet, a sample of them.
type Drop struct {
	Envelope
	NS       uint64          `json:"ns"`
	Cookie   uint64          `json:"cookie"`
	Name     string          `json:"name"`
	Cause    conntrack.Cause `json:"cause"`
	Inferred bool            `json:"inferred"` // the cause is a conclusion, not an observation
	Proto    string          `json:"proto"`
	Src      string          `json:"src"` // "" where the packet is neither IPv4 nor IPv6
	Dst      string          `json:"dst"`
	Sport    uint16          `json:"sport"` // ICMP echo: the identifier
	Dport    uint16          `json:"dport"` // ICMP: type << 8 | code
	Ifname   string          `json:"ifname"`
	Hook     string          `json:"hook"`
}

// What ctwatch does: Action.What.
const (
	ActionRaiseMax     = "raise_max"
	ActionRaiseBuckets = "raise_buckets"
	ActionPersist      = "persist" // the running limits, in files of the machine
	ActionUndo         = "undo"    // of the last change of limits, by an operator
	ActionHook         = "hook"    // the operator's, called
)

// What became of it: Action.Result.
const (
	ResultApplied = "applied"
	ResultDryRun  = "dry_run" // it would have been applied
	ResultRefused = "refused" // for a reason that Why gives
	ResultYielded = "yielded" // refused because somebody lowered the limit after ctwatch had raised it
	ResultFailed  = "failed"
)

// Actions are all words of Action.What.
func Actions() []string {
	return []string{ActionRaiseMax, ActionRaiseBuckets, ActionPersist, ActionUndo, ActionHook}
}

// Results are all words of Action.Result.
func Results() []string {
	return []string{ResultApplied, ResultDryRun, ResultRefused, ResultYielded, ResultFailed}
}

// Action is something that ctwatch did, would have done, or was kept from doing.
type Action struct {
	Envelope
	What   string `json:"what"` // one of the Action constants
	From   uint64 `json:"from"` // 0 where it is no number
	To     uint64 `json:"to"`
	Why    string `json:"why"`    // in words, with what it was derived from
	Result string `json:"result"` // one of the Result constants
	// Latency is how long it took from what gave rise to it: of a raise, from the first refused packet, the eviction or the
	// look at the table until the new limit was read back.
	Latency int64 `json:"latency_ns"`
	// Took is how long the write itself took. Of buckets it bounds the time for which the kernel held up all tracked traffic.
	Took int64 `json:"took_ns,omitempty"`

	NS     uint64 `json:"ns,omitempty"`     // the namespace whose table gave rise to it; 0 is none
	Cookie uint64 `json:"cookie,omitempty"` //
	Name   string `json:"name,omitempty"`   // untrusted text
}

// Limit says that a limit of conntrack changed.
type Limit struct {
	Envelope
	Key  string `json:"key"` // nf_conntrack_max or nf_conntrack_buckets
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	Writer
}

// Writer is the process that changed a limit. All is zero where nobody saw it: the write was seen by its effect alone.
type Writer struct {
	PID  int    `json:"pid"`
	Comm string `json:"comm"` // the task's name, untrusted text
	Unit string `json:"unit"` // systemd unit or container, as netns.Owner writes it; untrusted text
}

// Why there is a Gap.
const (
	GapSuspend = "suspend" // the machine slept, or ctwatch alone was stopped
	GapClock   = "clock"   // the wall clock was set
	GapBlind   = "blind"   // the program was attached and did not run; the kernel's counters were read
	GapRestart = "restart" // conntrack was unloaded and loaded again
	GapJournal = "journal" // records did not reach the journal
)

// Gap is a time of which the records do not tell everything.
type Gap struct {
	Envelope
	Why  string    `json:"why"` // one of the Gap constants
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Lost uint64    `json:"lost,omitempty"` // with GapJournal: records that could not be written
}

// Stop is the last record of a clean run.
type Stop struct {
	Envelope
	Totals       conntrack.Drops `json:"totals"`
	Evicted      uint64          `json:"evicted"`
	Lost         uint64          `json:"lost"`
	Unattributed uint64          `json:"unattributed"`
	// Missed is how many calls the hooks were kept from seeing: nothing that was counted, but causes that are conclusions.
	Missed uint64 `json:"missed,omitempty"`
	Uptime int64  `json:"uptime_ns"`
}
