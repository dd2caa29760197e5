package report

import (
	"fmt"
	"math/bits"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/rival"
)

// What the plan for a limit goes by: busy servers are seeded with 524,288, and a table more than a fifth full is a worry.
const (
	leastLimit    = 524288
	mostLimit     = 1 << 30 // the largest power of two that nf_conntrack_max, an int, can hold
	calmFill      = 0.2
	bytesPerEntry = 376 // of kernel memory that no cgroup counts: 256 and 128, less what pages round (6.18)
	bytesPerHash  = 8
)

// plan is what the limit should be.
type plan struct {
	limit   uint64
	buckets uint64 // 0: as they are
	why     string
	cost    string
}

// planFor derives the limit from the peak.
func planFor(i *Incident) plan {
	peak := max(i.PeakCount, 1)
	power := powerOfTwo(5 * peak)
	p := plan{limit: min(max(power, leastLimit), mostLimit)}
	p.why = fmt.Sprintf("the peak of %s divided by %s is %s; the next power of two is %s", several(peak, "entry"), percent(calmFill), number(5*peak), number(power))
	switch {
	case power < leastLimit:
		p.why += fmt.Sprintf(", and %s is the least for a busy machine", number(leastLimit))
	case power > mostLimit:
		p.why += fmt.Sprintf(", and the kernel takes %s at most", number(mostLimit))
	}
	// Each entry is in two chains: with limit/4 buckets a full table has chains of 8.
	if buckets := p.limit / 4; i.Buckets > 0 && i.Buckets < buckets {
		p.buckets = buckets
	}
	p.cost = fmt.Sprintf("about %s of kernel memory when the table is full (%d bytes an entry, for each namespace that fills its own)",
		size(p.limit*bytesPerEntry), bytesPerEntry)
	if p.buckets > 0 {
		p.cost += fmt.Sprintf(", and %s for the buckets (%d bytes each)", size(p.buckets*bytesPerHash), bytesPerHash)
	}
	return p
}

func powerOfTwo(n uint64) uint64 {
	if n <= 1 {
		return 1
	}
	return 1 << min(bits.Len64(n-1), 62)
}

// raise is for a limit that is too small, as the machine stands now.
func raise(i *Incident) []step {
	p := planFor(i)
	if after := i.limitNow(); after >= p.limit || after == 0 && i.Limits.Before != 0 {
		if boot := i.nextBoot(); boot != nil && *boot >= p.limit {
			return []step{{say("The limit is %s now, and will be %s after the next boot. The plan was %s (%s): nothing is left to do.",
				stressed(limit(after)), number(*boot), number(p.limit), p.why), nil}}
		}
		return []step{{say("The limit is %s already, which is enough (%s). Have it survive the next boot:", stressed(limit(after)), p.why), []string{"ctwatch limit persist"}}, holds()}
	}
	verb := "Raise the limit"
	if i.limitNow() > i.Limits.Before {
		verb = "The limit is " + number(i.limitNow()) + " now. Raise it further,"
	}
	steps := []step{{say("%s to %s: %s. It costs %s; %s reckons with the memory of this machine. This takes effect at once, delays no packet, and survives the next boot. On the machine itself, not in a container; %s takes it back:",
		verb, stressed(number(p.limit)), p.why, p.cost, typed("ctwatch limit plan"), typed("ctwatch limit undo")), []string{set(p.limit, 0)}}}
	if p.buckets > 0 {
		steps = append(steps, step{say("In a calm minute, raise the buckets from %s to %s, so that chains stay short. All tracked traffic waits while the kernel rebuilds its table, for a moment that grows with the number of entries:",
			i.Buckets, p.buckets), []string{set(p.limit, p.buckets)}})
	}
	return append(steps, holds())
}

// set is the command that sets limits, now and for the next boots. A limit of 0 leaves it as it is.
func set(limit, buckets uint64) string {
	c := fmt.Sprintf("ctwatch limit set %d", limit)
	if limit == 0 {
		c = "ctwatch limit set $(sysctl -n net.netfilter.nf_conntrack_max)"
	}
	if buckets > 0 {
		c += fmt.Sprintf(" --buckets %d", buckets)
	}
	return c + " --persist"
}

// holds is how to see that a limit stays.
func holds() step {
	return step{say("See that it holds: what the next boot sets, and which files set the limit, too:"), []string{"ctwatch limit show"}}
}

// settle is for a limit that ctwatch does not raise any more, because somebody lowered it.
func (r *Report) settle(i *Incident) []step {
	d := r.deedsOf(i).find(record.ResultYielded, record.ActionRaiseMax)
	if d == nil {
		return nil
	}
	l := say("Settle who sets the limit, or it is lowered again.")
	if ch := r.lowering(i, d.last.Time); ch != nil {
		l = sentences(l, accuse(*ch))
	}
	return []step{{sentences(l, say("Then have ctwatch raise it again where there is reason to:")), []string{"ctwatch limit resume"}}}
}

// heal is how to have ctwatch raise the limit by itself.
func (r *Report) heal(i *Incident) []step {
	switch d := r.deedsOf(i).raise(); {
	case d == nil:
		return []step{{say("ctwatch can raise the limit by itself, before packets are lost. No action of it is on record here. See first what it would do; %s then has it do so:", typed("--remediate on")),
			[]string{"ctwatch run --remediate dry-run"}}}
	case d.Result == record.ResultDryRun:
		return []step{{say("ctwatch would have raised the limit by itself, but ran on trial. Have it do so:"), []string{"ctwatch run --remediate on"}}}
	}
	return nil
}

// accuse says who lowered the limit, and what keeps it from doing so again.
func accuse(ch record.Change) line {
	return sentences(say("%s set %s from %s to %s.", upper(who(ch.Writer)), typed(ch.Key), ch.From, ch.To),
		say("So that it does not happen again: %s", tail(rival.Of(ch.Writer).Setting)))
}

// restore is for a limit that somebody lowered.
func restore(i *Incident) []step {
	var steps []step
	to := max(i.Limits.Before, planFor(i).limit)
	for _, c := range i.Changes {
		if c.To < c.From && c.Key == conntrack.KeyMax {
			steps = append(steps, step{accuse(c), nil})
			to = max(to, c.From)
			break
		}
	}
	if len(steps) == 0 {
		steps = append(steps, step{say("Find what lowered the limit: kube-proxy, tuned, a firewall's scripts and configuration management are known to."), []string{
			"ctwatch limit show", "grep -rsnE 'conntrack_max|hashsize' /etc/tuned /usr/lib/tuned /etc/modprobe.d /etc/pve/nodes"}})
	}
	if i.limitNow() >= to {
		return append(steps, step{say("The limit is %s again. Have it survive the next boot:", i.limitNow()), []string{"ctwatch limit persist"}}, holds())
	}
	return append(steps,
		step{say("Set it back to %s, for the next boots, too. On the machine itself, not in a container; %s takes it back:", to, typed("ctwatch limit undo")), []string{set(to, 0)}}, holds())
}

// moreBuckets is for chains that are too long.
func moreBuckets(i *Incident) []step {
	want := powerOfTwo(max(i.Limits.After, i.PeakCount, 65536))
	if want <= i.Buckets {
		want = powerOfTwo(2 * i.Buckets)
	}
	want = min(want, 1<<27)
	return []step{
		{say("In a calm minute, raise the buckets from %s to %s, and leave the limit: then a table as full as the limit allows has chains of two entries on average. They cost %s (%s bytes each). All tracked traffic waits while the kernel rebuilds its table, for a moment that grows with the number of entries. On the machine itself, not in a container; %s takes it back:",
			i.Buckets, want, size(want*bytesPerHash), uint64(bytesPerHash), typed("ctwatch limit undo")), []string{set(i.limitNow(), want)}},
		holds(),
	}
}

// limit writes a value of nf_conntrack_max.
func limit(n uint64) string {
	if n == 0 {
		return "0 (none)"
	}
	return number(n)
}
