package incident

import (
	"fmt"
	"math"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// Where a look into the table turns the verdict. Shares of what was walked.
const (
	mostlyUnreplied = 0.5 // of the entries: a flood, which only fills what it is given
	fewSources      = 0.3 // of the unreplied entries in one /24 (IPv6 /64)
	mostlyIdle      = 0.5
	manyWaiting     = 0.3 // in TIME_WAIT and the like: timeouts of minutes
	longChains      = 8   // entries' places to a bucket, on average: from there on, chains over the kernel's limit are no surprise
)

// verdict is what an incident was, in words.
type verdict struct {
	kind, text          string
	reasons, helps, not []string
}

// judge says what the incident was, from its record alone. docs/causes.md has the long form.
func judge(r *record.Incident) verdict {
	var v verdict
	switch {
	case r.Drops.Total() == 0 && r.Unattributed > 0 && r.Cause != conntrack.TableFull:
		v = unseen()
	case r.Cause == conntrack.TableFull:
		v = judgeFull(r)
	case r.Cause == conntrack.Clash:
		v = clash(r)
	case r.Cause == conntrack.ChainTooLong:
		v = longChain(r)
	case r.Cause == conntrack.AllocFailed:
		v = verdict{kind: record.VerdictMemoryShort,
			text: "The kernel had no memory for a new entry, while the table had room.",
			helps: []string{"more free memory, or a higher vm.min_free_kbytes: entries are allocated without waiting",
				"a lower nf_conntrack_max, if the table itself takes the memory"},
			not: []string{"raising nf_conntrack_max"},
		}
	case r.Cause == conntrack.InsertRace:
		v = verdict{kind: record.VerdictInsertRace,
			text:  "Entries went away while their first packet was still on its way.",
			helps: []string{"fewer flushes of the table (conntrack -F, conntrack -D), and fewer interfaces with MASQUERADE going down"},
			not:   []string{"raising nf_conntrack_max or nf_conntrack_buckets"},
		}
	default:
		v = verdict{kind: record.VerdictOther,
			text: "A protocol tracker or helper of the kernel refused the packets, not the table.",
			helps: []string{"leaving out the helper (ftp, sip, ...) of these connections, if they have one",
				"looking at what reopens TCP connections with the same ports within seconds"},
			not: []string{"raising nf_conntrack_max or nf_conntrack_buckets"},
		}
	}
	v.reasons = append(figures(r), v.reasons...)
	return v
}

// figures are what is certain, whatever the verdict.
func figures(r *record.Incident) []string {
	var out []string
	if n := r.Drops.Total(); n > 0 {
		out = append(out, fmt.Sprintf("%d packets were refused (%s), at most %.0f a second", n, r.Cause, math.Ceil(r.PeakDropRate)))
	}
	if r.Unattributed > 0 {
		out = append(out, fmt.Sprintf("the kernel's counters show %d more, on a path that ctwatch does not see (such as OVS or act_ct)", r.Unattributed))
	}
	if limit := r.Limits.After; limit > 0 && r.PeakCount > 0 {
		out = append(out, fmt.Sprintf("at its peak the table held %d of %d entries (%.1f %%)", r.PeakCount, limit, 100*float64(r.PeakCount)/float64(limit)))
	}
	if r.Evicted > 0 {
		out = append(out, fmt.Sprintf("%d entries were evicted to make room", r.Evicted))
	}
	return out
}

func unseen() verdict {
	return verdict{kind: record.VerdictUnseen,
		text:  "The kernel refused packets on a path that ctwatch does not see, so why is not known.",
		helps: []string{"`conntrack -S` and the fill of the table: what OVS and act_ct refuse counts there, too"},
		not:   []string{},
	}
}

func clash(r *record.Incident) verdict {
	v := verdict{kind: record.VerdictPortCollision,
		text: "Two packets claimed the same tuple at the same time, and the later one lost: a collision, most often of ports behind NAT.",
		helps: []string{"more source addresses or ports for SNAT and MASQUERADE, and --random-fully",
			"a resolver that does not send A and AAAA queries from one port (single-request), or a local cache"},
		not: []string{"raising nf_conntrack_max or nf_conntrack_buckets"},
	}
	if top, ok := first(sufferersOf(r).Dport); ok {
		v.reasons = append(v.reasons, fmt.Sprintf("%.0f %% of the refused packets that were looked at were for %s", 100*top.Share, top.Key))
		if top.Key == "udp/53" {
			v.text = "Parallel DNS queries from one port claimed the same tuple, and the later one lost."
		}
	}
	if f := r.Fillers; f != nil {
		v.reasons = append(v.reasons, fmt.Sprintf("%.0f %% of the entries are translated by NAT", 100*f.Nat))
	}
	return v
}

func longChain(r *record.Incident) verdict {
	v := verdict{kind: record.VerdictFewBuckets,
		text: "The hash table has too few buckets for its entries: chains were longer than the kernel allows.",
		not:  []string{"raising nf_conntrack_max: chains get longer"},
	}
	chain := 0.0
	if r.Buckets > 0 {
		chain = 2 * float64(r.PeakCount) / float64(r.Buckets) // an entry stands in two chains
	}
	v.reasons = append(v.reasons, fmt.Sprintf("%d buckets for %d entries of this namespace: %.1f places to a chain on average", r.Buckets, r.PeakCount, chain))
	if chain >= longChains {
		v.helps = []string{"more nf_conntrack_buckets: at least as many as entries"}
		return v
	}
	v.text = "Some chains of the hash table were longer than the kernel allows, although it has buckets enough for this namespace."
	v.reasons = append(v.reasons, "all namespaces share the buckets; and tuples that differ only in their zone share a chain")
	v.helps = []string{"more nf_conntrack_buckets, if other namespaces hold many entries", "zones by direction, or distinct addresses, if the same tuples are tracked in many zones"}
	return v
}

// judgeFull tells why a table was full. A flood comes before idle entries: it would fill what these leave.
func judgeFull(r *record.Incident) verdict {
	if c, ok := lowered(r); ok {
		v := verdict{kind: record.VerdictLimitLowered,
			text:    fmt.Sprintf("nf_conntrack_max was lowered from %d to %d, below what was in use.", c.From, c.To),
			reasons: []string{fmt.Sprintf("%s lowered it at %s, when the table held %d entries", who(c.Writer), c.Time.UTC().Format(time.RFC3339), c.InUse)},
			helps:   []string{"the old limit again, and the setting of whoever lowered it"},
			not:     []string{"raising it alone: whoever lowered it does so again"},
		}
		return v
	}
	f := r.Fillers
	if f == nil || f.Walked == 0 {
		v := verdict{kind: record.VerdictFull, text: "The table was full. Who filled it is not known, for nobody could look into it.",
			helps: []string{"raising nf_conntrack_max, unless a flood fills the table: then it fills that, too"}, not: []string{"more buckets"}}
		if r.FillersWhy != "" {
			v.reasons = append(v.reasons, "the table could not be looked into: "+r.FillersWhy)
		}
		return v
	}
	unreplied := 1 - f.Replied
	looked := fmt.Sprintf("%.1f %% of the entries never saw an answer", 100*unreplied)
	if !f.Exact {
		looked += fmt.Sprintf(" (± %.1f, of %d looked at)", 100*f.Error, f.Walked)
	}
	if unreplied > mostlyUnreplied {
		return flood(r, unreplied, looked)
	}
	if f.Idle > mostlyIdle {
		return verdict{kind: record.VerdictIdleEntries,
			text: "Idle connections fill the table: long timeouts keep entries that nobody uses.",
			reasons: []string{fmt.Sprintf("%.1f %% of the entries are established TCP without a packet for %v or longer", 100*f.Idle,
				time.Duration(f.IdleFor))},
			helps: []string{"a shorter nf_conntrack_tcp_timeout_established (the default is five days), such as 86400 or less",
				"TCP keepalives, where connections must survive a shorter timeout"},
			not: []string{"raising nf_conntrack_max alone: idle entries fill it as well, only later"},
		}
	}
	v := verdict{kind: record.VerdictLimitTooSmall,
		text:    "The limit is too small for the real load.",
		reasons: []string{looked, fmt.Sprintf("%.1f %% are assured, so the kernel may not evict them", 100*f.Assured)},
		helps:   []string{"raising nf_conntrack_max, and nf_conntrack_buckets with it", "not tracking what needs no state (notrack), for the busiest services"},
		not:     []string{"looking for an attacker: these connections are answered"},
	}
	if top, ok := first(f.SrcNet); ok {
		v.reasons = append(v.reasons, fmt.Sprintf("the largest source, %s, holds %.1f %%", top.Key, 100*top.Share))
	}
	waiting := 0.0
	for _, s := range f.State {
		switch s.Key {
		case "tcp/TIME_WAIT", "tcp/CLOSE_WAIT", "tcp/FIN_WAIT", "tcp/LAST_ACK", "tcp/CLOSE":
			waiting += s.Share
		}
	}
	if waiting > manyWaiting {
		v.reasons = append(v.reasons, fmt.Sprintf("%.1f %% are of connections that are over, and wait for their timeout", 100*waiting))
		v.helps = append(v.helps, "a shorter nf_conntrack_tcp_timeout_time_wait (the default is 120 seconds)")
	}
	return v
}

func flood(r *record.Incident, unreplied float64, looked string) verdict {
	f := r.Fillers
	v := verdict{kind: record.VerdictFloodMany,
		text:    "A flood of connections from many sources that nobody answers fills the table.",
		reasons: []string{looked},
		not:     []string{"raising nf_conntrack_max: a flood fills that, too"},
		helps: []string{"not tracking the service that is flooded (notrack), or dropping the packets before they are tracked (raw table)",
			"shorter nf_conntrack_tcp_timeout_syn_sent, nf_conntrack_tcp_timeout_syn_recv and nf_conntrack_udp_timeout",
			"SYNPROXY in front of a TCP service"},
	}
	for _, s := range f.SrcNet {
		part := s.Share * (1 - s.Replied) / unreplied
		if part <= fewSources {
			continue
		}
		v.kind, v.text = record.VerdictFloodFew, "A flood of connections from few sources that nobody answers fills the table."
		v.reasons = append(v.reasons, fmt.Sprintf("%s holds %.1f %% of these", s.Key, 100*part))
		v.helps = append([]string{"dropping or limiting that source before it is tracked (raw table, or further out)"}, v.helps...)
		return v
	}
	if top, ok := first(f.SrcNet); ok {
		v.reasons = append(v.reasons, fmt.Sprintf("no source stands out: the largest, %s, holds %.1f %% of the entries", top.Key, 100*top.Share))
	}
	if top, ok := first(f.Dport); ok && top.Share > 0.5 {
		v.reasons = append(v.reasons, fmt.Sprintf("%.1f %% of the entries are for %s", 100*top.Share, top.Key))
	}
	return v
}

// lowered finds the change that took a limit away which would have been enough.
func lowered(r *record.Incident) (record.Change, bool) {
	for i := len(r.Changes) - 1; i >= 0; i-- {
		c := r.Changes[i]
		if c.Key == keyMax && c.To < c.From && c.To > 0 && float64(c.InUse) >= nearlyFull*float64(c.To) {
			return c, true
		}
	}
	return record.Change{}, false
}

func who(w record.Writer) string {
	if w.PID == 0 {
		return "somebody who was not seen"
	}
	text := fmt.Sprintf("%q (pid %d", w.Comm, w.PID)
	if w.Unit != "" {
		text += fmt.Sprintf(", %q", w.Unit)
	}
	return text + ")"
}

func first(s []record.Share) (record.Share, bool) {
	if len(s) == 0 {
		return record.Share{}, false
	}
	return s[0], true
}

func sufferersOf(r *record.Incident) record.Sufferers {
	if r.Sufferers == nil {
		return record.Sufferers{}
	}
	return *r.Sufferers
}
