package journals

import (
	"fmt"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// course is what becomes of an incident's table: who does what to the limit, by turns.
type course int

const (
	refusing course = iota // ctwatch sees a flood, and says so again and again
	healing                // it raises the limit, which ends it, the buckets when it is calm, and writes the limit for the next boot
	yielding               // it raises the limit, and kube-proxy lowers it
	trying                 // it is on trial
	failing                // it cannot write
	byHand                 // somebody raises the limit
	courses
)

var (
	ourselves = record.Writer{PID: 812, Comm: "ctwatch", Unit: "ctwatch.service"}
	operator  = record.Writer{PID: 4711, Comm: "sysctl", Unit: "session-3.scope"}
	kubeProxy = record.Writer{PID: 2203, Comm: "kube-proxy", Unit: "pod:5d2c8f0e-3b1a-4d6f-9a57-0c1e2d3f4a5b"}
)

// heal is what is done at an age of a table_full incident, in seconds.
func (in *incident) heal(age int) error {
	const to = 4 * limit
	derived := fmt.Sprintf("%s: %d of %d entries, refusing packets; peak %d of %d; %d brings that to 20.0 %%; 12.1 %% of the entries never saw an answer; "+
		"the largest source, 203.0.113.0/24, holds 4.0 %%; so: raise to %d", in.n.Name, *in.n.Count, in.h.max, in.r.PeakCount, in.h.max, to, to)
	switch {
	case in.course == refusing && age%20 == 1:
		return in.act(record.ActionRaiseMax, record.ResultRefused, in.h.max, 0, fmt.Sprintf("%s: %d of %d entries, refusing packets; it is a flood, which would fill a larger table as well: "+
			"%.1f %% of the entries never saw an answer; so: leave the limit", in.n.Name, *in.n.Count, in.h.max, 70+10*in.h.rand.Float64()))
	case in.course == trying && age == 1:
		return in.act(record.ActionRaiseMax, record.ResultDryRun, in.h.max, to, derived)
	case in.course == failing && age%10 == 1 && age < 30:
		return in.act(record.ActionRaiseMax, record.ResultFailed, in.h.max, to, derived+"; but: write /proc/sys/net/netfilter/nf_conntrack_max: input/output error")
	case in.course == failing && age == 40:
		return in.act(record.ActionPersist, record.ResultFailed, 0, to, "/etc/sysctl.d/zzz.conf:3 sets it later, to 65536")
	case (in.course == healing || in.course == yielding) && age == 1:
		if err := in.act(record.ActionRaiseMax, record.ResultApplied, in.h.max, to, derived); err != nil {
			return err
		}
		if in.course == healing {
			in.last = in.h.second
		}
		return in.setMax(to, ourselves)
	case in.course == healing && age == 3:
		next := uint64(to)
		in.r.Limits.Persisted, in.r.Limits.NextBoot = &next, &next
		return in.act(record.ActionPersist, record.ResultApplied, 0, to, "")
	case in.course == healing && age == 14:
		if err := in.act(record.ActionRaiseBuckets, record.ResultApplied, in.h.buckets, 2*limit, fmt.Sprintf("with nf_conntrack_max of %d, while it is calm", to)); err != nil {
			return err
		}
		return in.setBuckets(2 * limit)
	case in.course == yielding && age == 12:
		if err := in.setMax(limit/2, kubeProxy); err != nil {
			return err
		}
		return in.act(record.ActionRaiseMax, record.ResultYielded, to, limit/2, fmt.Sprintf("ctwatch had set nf_conntrack_max to %d, and %q (pid %d, %q) made it %d: ctwatch yields",
			to, kubeProxy.Comm, kubeProxy.PID, kubeProxy.Unit, limit/2))
	case in.course == byHand && age == 12:
		return in.setMax(2*limit, operator)
	}
	return nil
}

// settle puts the limit back where it was before the incident. It reports whether there was anything to put back.
func (in *incident) settle() (bool, error) {
	if in.h.max == limit || !in.touched {
		return false, nil
	}
	in.touched = false
	from := in.h.max
	if in.course == byHand {
		return true, in.setMax(limit, operator)
	}
	if err := in.setMax(limit, ourselves); err != nil {
		return true, err
	}
	if in.h.buckets != limit {
		if err := in.setBuckets(limit); err != nil {
			return true, err
		}
	}
	return true, in.h.tell(&record.Action{What: record.ActionUndo, Result: record.ResultApplied, From: from, To: limit, Why: "\"root\" ran `ctwatch limit undo`"})
}

// act records an action for the incident's namespace, and the hook that it gives rise to; one in eight fails.
func (in *incident) act(what, result string, from, to uint64, why string) error {
	a := &record.Action{What: what, Result: result, From: from, To: to, Why: why, NS: in.n.NS, Cookie: in.n.Cookie, Name: in.n.Name}
	if result == record.ResultApplied || result == record.ResultFailed {
		a.Latency, a.Took = int64(time.Millisecond)+in.h.rand.Int64N(int64(time.Millisecond)), 40_000
	}
	if what == record.ActionRaiseBuckets {
		a.Took = int64(31 * time.Millisecond)
	}
	if err := in.h.tell(a); err != nil {
		return err
	}
	hook := &record.Action{What: record.ActionHook, Result: record.ResultApplied, Latency: int64(12 * time.Millisecond), NS: in.n.NS, Cookie: in.n.Cookie, Name: in.n.Name}
	if in.h.rand.IntN(8) == 0 {
		hook.Result, hook.Why, hook.Latency = record.ResultFailed, "it took longer than 10s, and was killed", int64(10*time.Second)
	}
	return in.h.tell(hook)
}

// setMax is somebody who sets the limit.
func (in *incident) setMax(to uint64, by record.Writer) error {
	from := in.h.max
	in.h.max, in.touched = to, true
	for _, n := range in.h.netns {
		n.set(min(*n.Count, to), to)
	}
	if err := in.h.tell(&record.Limit{Key: conntrack.KeyMax, From: from, To: to, Writer: by}); err != nil {
		return err
	}
	in.r.Limits.After = to
	in.r.Changes = append(in.r.Changes, record.Change{Time: in.h.now(0), Key: conntrack.KeyMax, From: from, To: to, InUse: *in.n.Count, Writer: by})
	return nil
}

// setBuckets is ctwatch that sets the number of buckets.
func (in *incident) setBuckets(to uint64) error {
	from := in.h.buckets
	in.h.buckets = to
	return in.h.tell(&record.Limit{Key: conntrack.KeyBuckets, From: from, To: to, Writer: ourselves})
}
