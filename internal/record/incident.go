package record

import (
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// The phases of an incident.
const (
	PhaseOpen   = "open"
	PhaseUpdate = "update"
	PhaseClose  = "close"
)

// What may open an incident.
const (
	TriggerDrop         = "drop"
	TriggerUnattributed = "unattributed" // refusals that the program did not see
	TriggerEvicted      = "evicted"
	TriggerFill         = "fill"
)

// Why an incident was closed.
const (
	ClosedQuiet    = "quiet"
	ClosedGone     = "gone"     // the namespace is
	ClosedUnloaded = "unloaded" // conntrack is
	ClosedStop     = "stop"     // ctwatch ended
)

// Incident is the state of one incident: refusals of one cause in one network namespace, from the first until they have
// been over for some time. Each record of it holds all that is known until then, so the last one is enough.
type Incident struct {
	Envelope
	Phase string          `json:"phase"`
	ID    string          `json:"id"` // begins with the time; letters, digits and - only
	NS    uint64          `json:"ns"`
	Name  string          `json:"name"` // of the namespace; untrusted text, "" where nobody named it
	Cause conntrack.Cause `json:"cause"`

	Cookie uint64 `json:"cookie"`
	Host   bool   `json:"host,omitempty"`
	Owner  string `json:"owner,omitempty"` // whose namespace, as netns.Owner writes it; untrusted text

	// Trigger is what opened it, one of the Trigger constants.
	Trigger  string     `json:"trigger"`
	Started  time.Time  `json:"started"`
	Ended    *time.Time `json:"ended"`            // when something last happened; null while it is open
	Duration int64      `json:"duration_ns"`      // from the start until something last happened, by CLOCK_BOOTTIME
	Closed   string     `json:"closed,omitempty"` // why, one of the Closed constants

	Drops        conntrack.Drops `json:"drops"`        // of this incident's cause only, so that incidents can be added up
	Unattributed uint64          `json:"unattributed"` // refused meanwhile in the namespace, and not seen by the program
	Evicted      uint64          `json:"evicted"`      // meanwhile in the namespace
	PeakCount    uint64          `json:"peak_count"`
	PeakFill     float64         `json:"peak_fill"`
	PeakDropRate float64         `json:"peak_drop_rate"` // packets a second, over one second or one interval
	Above95      int64           `json:"above_95_ns"`    // how long the table was at least 95 % full
	Buckets      uint64          `json:"buckets"`

	Verdict     string   `json:"verdict"`      // one sentence in plain words
	VerdictKind string   `json:"verdict_kind"` // one of the Verdict constants
	Reasons     []string `json:"reasons"`      // what the verdict rests on, with figures
	Helps       []string `json:"helps"`
	HelpsNot    []string `json:"helps_not"`

	Fillers     *Fillers   `json:"fillers"`               // null where the table could not be walked, or was not yet
	FillersWhy  string     `json:"fillers_why,omitempty"` // why not
	Sufferers   *Sufferers `json:"sufferers"`             // null where no refused packet was seen
	LoggedLines *uint64    `json:"logged_lines"`          // of the kernel log about this table, meanwhile; null where it cannot be read
	Limits      Limits     `json:"limits"`
	Changes     []Change   `json:"changes"` // of limits meanwhile
}

// The verdicts.
const (
	VerdictLimitTooSmall = "limit_too_small" // real load, more than the max
	VerdictFloodFew      = "flood_few"       // few sources fill the table with what nobody answers
	VerdictFloodMany     = "flood_many"      // many sources do
	VerdictNoAnswer      = "no_answer"       // own clients ask one destination that does not answer
	VerdictIdleEntries   = "idle_entries"    // long timeouts keep entries that nobody uses
	VerdictLimitLowered  = "limit_lowered"   // somebody set max below what was in use
	VerdictFewBuckets    = "few_buckets"     // chains are too long
	VerdictPortCollision = "port_collision"  // two connections got the same tuple
	VerdictMemoryShort   = "memory_short"    // no memory for an entry
	VerdictInsertRace    = "insert_race"     // the entry went away under its first packet
	VerdictOther         = "other"           // protocol trackers and helpers
	VerdictUnseen        = "unseen"          // the kernel counts refusals, on a path that the program does not see
	VerdictFull          = "full"            // the table is full, and nobody could look into it
)

// Limits are the values of nf_conntrack_max around an incident.
type Limits struct {
	Before    uint64  `json:"before"`
	After     uint64  `json:"after"`
	Persisted *uint64 `json:"persisted"` // what a file of the machine sets; null where none does
	NextBoot  *uint64 `json:"next_boot"` // what the next boot will give; null where that is not known
	Why       string  `json:"next_boot_why,omitempty"`
}

// Change is one change of a limit during an incident.
type Change struct {
	Time time.Time `json:"time"`
	Key  string    `json:"key"`
	From uint64    `json:"from"`
	To   uint64    `json:"to"`
	// InUse is how many entries the namespace held then, as of the last sample.
	InUse uint64 `json:"in_use"`
	Writer
}

// Fillers is who filled the table, as a walk found when the incident opened. Shares are of the entries that were walked:
// all of them, or the first ones in the order of their hashes, which is a random sample.
type Fillers struct {
	Time        time.Time `json:"time"`
	Entries     uint64    `json:"entries"` // in the namespace's table
	Walked      uint64    `json:"walked"`
	Exact       bool      `json:"exact"`       // all were walked, and none came or went in between
	Interrupted bool      `json:"interrupted"` // the table was resized meanwhile: some may be missing or double
	Error       float64   `json:"error"`       // half of the widest 95 % interval of any share; 0 if exact
	Took        int64     `json:"took_ns"`
	Replied     float64   `json:"replied"` // share that saw packets both ways
	Assured     float64   `json:"assured"` // share that may not be evicted
	Nat         float64   `json:"nat"`     // share whose addresses or ports are translated
	Idle        float64   `json:"idle"`    // share that is established TCP without a packet for IdleFor or longer
	IdleFor     int64     `json:"idle_for_ns"`

	Src    []Share `json:"src"`     // largest first
	SrcNet []Share `json:"src_net"` // by /24, IPv6 by /64
	Dst    []Share `json:"dst"`
	Dport  []Share `json:"dport"` // such as tcp/443
	Proto  []Share `json:"proto"`
	State  []Share `json:"state"` // such as tcp/SYN_SENT, udp/unreplied
}

// Share is one row of a ranking.
type Share struct {
	Key     string  `json:"key"`
	Entries uint64  `json:"entries"` // or packets, of Sufferers
	Share   float64 `json:"share"`   // of all, 0 to 1
	Error   float64 `json:"error"`   // half of its 95 % interval, and what a ranking without room may have missed; 0 if exact
	Replied float64 `json:"replied"` // share of these that saw packets both ways; 0 of Sufferers
	Assured float64 `json:"assured"`
}

// Sufferers is whose packets were refused, of those that were looked at.
type Sufferers struct {
	Packets uint64  `json:"packets"`
	Src     []Share `json:"src"`
	Dst     []Share `json:"dst"`
	Dport   []Share `json:"dport"`
	Ifname  []Share `json:"ifname"`
}
