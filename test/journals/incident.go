package journals

import (
	"fmt"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

const (
	quiet       = 60  // seconds until an incident is closed
	samples     = 100 // drop records a second
	updateEvery = 10
)

// incident is some minutes in which a namespace's packets are refused.
type incident struct {
	h       *host
	n       *netns
	r       record.Incident
	last    int // second of the last refusal
	rate    float64
	closed  bool
	course  course
	touched bool   // the limit was set in it, and is not what it was
	fresh   uint64 // refused in this second
}

func (h *host) newIncident() *incident {
	n := h.pick()
	in := &incident{h: h, n: n, last: h.second + 15 + h.rand.IntN(165), rate: 200 * float64(1+h.rand.IntN(200))}
	cause := conntrack.TableFull
	if k := h.rand.IntN(10); k >= 8 {
		cause = conntrack.ChainTooLong
	} else if k == 7 {
		cause, in.rate = conntrack.Clash, 3
	}
	in.r = record.Incident{
		Phase: record.PhaseOpen, NS: n.NS, Cookie: n.Cookie, Name: n.Name, Owner: n.Owner, Host: n.Host, Cause: cause, Trigger: "drop",
		ID: fmt.Sprintf("%s-%04x", h.now(0).Format("20060102-150405"), h.rand.IntN(1<<16)), Started: h.now(0), Buckets: limit,
		Limits: record.Limits{Before: h.max, After: h.max}, Reasons: []string{}, Helps: []string{}, HelpsNot: []string{}, Changes: []record.Change{},
	}
	// Two incidents at once would set the limit against each other.
	if cause == conntrack.TableFull && h.max == limit && len(h.current) == 0 {
		in.course, h.turn = h.turn, (h.turn+1)%courses
	}
	in.judge()
	return in
}

// judge gives the verdict of its cause.
func (in *incident) judge() {
	r := &in.r
	switch {
	case r.Cause == conntrack.TableFull && in.course != refusing:
		r.VerdictKind, r.Verdict = record.VerdictLimitTooSmall, "The limit is too small for the real load."
		r.Reasons = []string{"12.1 % of the entries never saw an answer", "the largest source, 203.0.113.0/24, holds 4.0 %"}
		r.Helps, r.HelpsNot = []string{"raising nf_conntrack_max, and nf_conntrack_buckets with it"}, []string{"more buckets alone"}
	case r.Cause == conntrack.TableFull:
		r.VerdictKind = record.VerdictFloodFew
		r.Verdict = "Few sources fill the table with connections that nobody answers."
		r.Reasons = []string{"71.4 % of the entries never saw a packet in reply", "203.0.113.0/24 holds 43.1 % of them"}
		r.Helps, r.HelpsNot = []string{"limit new connections from 203.0.113.0/24"}, []string{"a larger nf_conntrack_max: it fills as well"}
	case r.Cause == conntrack.ChainTooLong:
		r.VerdictKind, r.Verdict = record.VerdictFewBuckets, "The hash table has too few buckets for its entries."
		r.Reasons = []string{"8 entries a bucket on average"}
		r.Helps, r.HelpsNot = []string{"more buckets"}, []string{"a larger nf_conntrack_max"}
	default:
		r.VerdictKind, r.Verdict = record.VerdictPortCollision, "Two connections got the same tuple."
		r.Reasons = []string{"the refused packets are all to udp/53"}
		r.Helps, r.HelpsNot = []string{"more addresses or ports to translate to"}, []string{"a larger nf_conntrack_max"}
	}
}

// refuse is one second of it.
func (in *incident) refuse() {
	h, n := in.h, in.n
	in.fresh = 0
	if h.second > in.last {
		return
	}
	in.fresh = 1 + uint64(in.rate*(0.5+h.rand.Float64()))
	n.Drops[in.r.Cause] += in.fresh
	in.r.Drops[in.r.Cause] += in.fresh
	count := *n.Count
	if in.r.Cause == conntrack.TableFull {
		count = h.max - uint64(h.rand.IntN(40))
		evicted := uint64(h.rand.IntN(50))
		n.Evicted += evicted
		in.r.Evicted += evicted
		in.r.Above95 += second.Nanoseconds()
	}
	n.set(count, h.max)
	in.r.PeakCount = max(in.r.PeakCount, count)
	in.r.PeakFill = max(in.r.PeakFill, *n.Fill)
	in.r.PeakDropRate = max(in.r.PeakDropRate, float64(in.fresh))
	in.r.Duration = h.now(0).Sub(in.r.Started).Nanoseconds()
}

// tell is what is recorded of that second.
func (in *incident) tell() error {
	age := in.h.second - int(in.r.Started.Sub(in.h.begin)/second)
	if err := in.tellDrops(); err != nil {
		return err
	}
	if in.r.Cause == conntrack.TableFull && in.h.second < in.last+quiet {
		if err := in.heal(age); err != nil {
			return err
		}
	}
	switch {
	case age == 0:
		return in.write(record.PhaseOpen)
	case age == 1:
		in.look()
		return in.write(record.PhaseUpdate)
	case in.h.second >= in.last+quiet:
		if undone, err := in.settle(); undone || err != nil {
			return err
		}
		ended := in.h.begin.Add(time.Duration(in.last) * second)
		in.r.Ended, in.r.Closed, in.closed = &ended, "quiet", true
		return in.write(record.PhaseClose)
	case age%updateEvery == 0 && in.h.second <= in.last:
		return in.write(record.PhaseUpdate)
	}
	return nil
}

func (in *incident) write(phase string) error {
	in.r.Phase = phase
	r := in.r
	return in.h.tell(&r)
}

func (in *incident) tellDrops() error {
	for range min(in.fresh, samples) {
		d := &record.Drop{
			NS: in.n.NS, Cookie: in.n.Cookie, Name: in.n.Name, Cause: in.r.Cause, Proto: "tcp",
			Src: fmt.Sprintf("203.0.113.%d", in.h.rand.IntN(256)), Dst: "198.51.100.7",
			Sport: uint16(1024 + in.h.rand.IntN(64000)), Dport: 443, Ifname: "eth0", Hook: "prerouting",
		}
		if err := in.h.tell(d); err != nil {
			return err
		}
	}
	return nil
}

// look is what a walk of the table and the refused packets tell.
func (in *incident) look() {
	h := in.h
	shares := func(n int, key func(int) string) []record.Share {
		var all []record.Share
		left := 1.0
		for i := range n {
			share := left * (0.2 + 0.2*h.rand.Float64())
			left -= share
			all = append(all, record.Share{
				Key: key(i), Entries: uint64(share * 8192), Share: share, Error: 0.0108, Replied: 0.3 * h.rand.Float64(), Assured: 0.1 * h.rand.Float64(),
			})
		}
		return all
	}
	src := func(i int) string { return fmt.Sprintf("203.0.113.%d", 7+i) }
	dst := func(i int) string { return fmt.Sprintf("198.51.100.%d", 7+i) }
	net := func(i int) string { return fmt.Sprintf("203.0.%d.0/24", 113+i) }
	port := func(i int) string { return fmt.Sprintf("tcp/%d", 443+i) }
	state := func(i int) string {
		return []string{"tcp/SYN_SENT", "tcp/ESTABLISHED", "udp/unreplied", "tcp/TIME_WAIT"}[i%4]
	}
	in.r.Fillers = &record.Fillers{
		Time: h.now(0), Entries: *in.n.Count, Walked: 8192, Error: 0.0108, Took: 31_000_000, Replied: 0.286, Assured: 0.09, IdleFor: (10 * time.Minute).Nanoseconds(),
		Src: shares(10, src), SrcNet: shares(10, net), Dst: shares(3, dst), Dport: shares(5, port),
		Proto: shares(2, func(i int) string { return []string{"tcp", "udp"}[i] }), State: shares(4, state),
	}
	in.r.Sufferers = &record.Sufferers{
		Packets: 100, Src: shares(10, src), Dst: shares(3, dst), Dport: shares(5, port), Ifname: shares(1, func(int) string { return "eth0" }),
	}
	lines := uint64(98)
	in.r.LoggedLines = &lines
}
