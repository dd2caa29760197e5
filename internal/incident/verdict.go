package incident

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/rival"
)

// Where a look into the table turns the verdict. Shares of what was walked.
const (
	fewSources     = 0.3 // of these in one /24 (IPv6 /64)
	oneDestination = 0.8 // of these for one address
	mostlyIdle     = 0.5
	mostlyAssured  = 0.5
	manyWaiting    = 0.3 // in TIME_WAIT and the like: timeouts of minutes
	longChains     = 8   // entries' places to a bucket, on average: from there on, chains over the kernel's limit are no surprise
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
	if r.PeakCount > 0 {
		out = append(out, fmt.Sprintf("at its peak the table held %d entries, %.1f %% of the limit then", r.PeakCount, 100*r.PeakFill))
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
		if top.Key == "udp/53" && top.Share > 0.5 {
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
		by := rival.Of(c.Writer)
		v := verdict{kind: record.VerdictLimitLowered,
			text:    fmt.Sprintf("nf_conntrack_max was lowered from %d to %d, below what was in use.", c.From, c.To),
			reasons: []string{fmt.Sprintf("%s lowered it at %s, when the table held %d entries", rival.Who(c.Writer), c.Time.UTC().Format(time.RFC3339), c.InUse)},
			helps:   []string{"the old limit again, and what keeps whoever lowered it from doing so again: " + by.Setting},
			not:     []string{"raising it alone: whoever lowered it does so again"},
		}
		if by.Why != "" {
			v.reasons = append(v.reasons, by.Name+" does so because "+by.Why)
		}
		return v
	}
	f := r.Fillers
	if f == nil || f.Walked == 0 {
		v := verdict{kind: record.VerdictFull, text: "The table was full. Who filled it is not known, for nobody could look into it.",
			helps: []string{"raising nf_conntrack_max, unless a flood fills the table: then it fills that, too"}, not: []string{"more buckets"}}
		switch {
		case r.FillersWhy != "":
			v.reasons = append(v.reasons, "the table could not be looked into: "+r.FillersWhy)
		case r.Phase != record.PhaseClose:
			v.text = "The table is full. Who fills it is being looked into."
		}
		return v
	}
	p := PendingIn(f)
	if p.Share > MostlyPending {
		return judgePending(f, p)
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
	return realLoad(f, p)
}

// realLoad is the verdict where most entries are of connections that work.
func realLoad(f *record.Fillers, p Pending) verdict {
	v := verdict{kind: record.VerdictLimitTooSmall,
		text:    "The limit is too small for the real load.",
		reasons: []string{p.Text},
		helps:   []string{"raising nf_conntrack_max, and nf_conntrack_buckets with it", "not tracking what needs no state (notrack), for the busiest services"},
		not:     []string{"more buckets alone"},
	}
	if f.Assured > mostlyAssured {
		v.reasons = append(v.reasons, fmt.Sprintf("%.1f %% are assured, so the kernel may not evict them", 100*f.Assured))
		v.not = append(v.not, "looking for an attacker: these connections are in use")
	}
	v.reasons = append(v.reasons, stands("the largest source, %s, holds %.1f %%", f.SrcNet)...)
	v.reasons = append(v.reasons, stands("the busiest port, %s, has %.1f %%", f.Dport)...)
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

// judgePending tells a flood from an outage: own clients, that is, with private addresses, that ask one address in vain.
func judgePending(f *record.Fillers, p Pending) verdict {
	dst, one := first(f.Dst)
	src, few := first(f.SrcNet)
	one, few = one && p.Of(dst) > oneDestination, few && p.Of(src) > fewSources
	if one && few && private(src.Key) && !p.halfOpen {
		return verdict{kind: record.VerdictNoAnswer,
			text: fmt.Sprintf("One destination, %s, does not answer: what is tried in vain fills the table.", dst.Key),
			reasons: append([]string{p.Text, fmt.Sprintf("%.1f %% of these are for %s", 100*p.Of(dst), dst.Key),
				fmt.Sprintf("%.1f %% come from %s, a private network", 100*p.Of(src), src.Key)}, stands("the port is %s, with %.1f %%", f.Dport)...),
			helps: []string{fmt.Sprintf("finding out why %s does not answer", dst.Key),
				"until then: rejecting what is for it before it is tracked, or not tracking it (notrack)",
				"shorter nf_conntrack_tcp_timeout_syn_sent and nf_conntrack_udp_timeout"},
			not: []string{"raising nf_conntrack_max: retries fill that, too", "blocking the clients: they only ask"},
		}
	}
	v := verdict{kind: record.VerdictFloodMany,
		text:    "A flood of connections from many sources, never completed, fills the table.",
		reasons: []string{p.Text},
		not:     []string{"raising nf_conntrack_max: a flood fills that, too"},
		helps: []string{"not tracking the service that is flooded (notrack), or dropping the packets before they are tracked (raw table)",
			"shorter nf_conntrack_tcp_timeout_syn_sent, nf_conntrack_tcp_timeout_syn_recv and nf_conntrack_udp_timeout",
			"SYNPROXY in front of a TCP service"},
	}
	if few {
		v.kind, v.text = record.VerdictFloodFew, "A flood of connections from few sources, never completed, fills the table."
		v.reasons = append(v.reasons, fmt.Sprintf("%s holds %.1f %% of these", src.Key, 100*p.Of(src)))
		v.helps = append([]string{"looking at what that source does, and dropping or limiting it before it is tracked (raw table, or further out)"}, v.helps...)
	} else {
		v.reasons = append(v.reasons, stands("no source stands out: the largest, %s, holds %.1f %% of the entries", f.SrcNet)...)
	}
	v.reasons = append(v.reasons, stands("the largest destination, %s, has %.1f %% of the entries", f.Dst)...)
	v.reasons = append(v.reasons, stands("the busiest port, %s, has %.1f %%", f.Dport)...)
	return v
}

// private reports whether a network is somebody's own (RFC 1918, RFC 4193, RFC 6598).
func private(network string) bool {
	p, err := netip.ParsePrefix(network)
	return err == nil && (p.Addr().IsPrivate() || netip.MustParsePrefix("100.64.0.0/10").Contains(p.Addr()))
}

// stands says what is first in a ranking.
func stands(format string, ranking []record.Share) []string {
	top, ok := first(ranking)
	if !ok {
		return nil
	}
	return []string{fmt.Sprintf(format, top.Key, 100*top.Share)}
}

// lowered finds the last change of max, if it took away what was in use.
func lowered(r *record.Incident) (record.Change, bool) {
	for i := len(r.Changes) - 1; i >= 0; i-- {
		if c := r.Changes[i]; c.Key == conntrack.KeyMax {
			return c, c.To < c.From && c.To > 0 && float64(c.InUse) >= conntrack.NearlyFull*float64(c.To)
		}
	}
	return record.Change{}, false
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
