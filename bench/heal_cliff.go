package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ctwatch/ctwatch/test/lab"
)

const (
	cliffTrials = 200
	cliffMax    = 4096   // and as many buckets, as kernels since 5.15 have it
	cliffRoom   = 64     // entries, when the connections come
	cliffCount  = 20_000 // connections a trial
)

// cliff measures, in trials with a fresh ctwatch each, how long it takes from the first refused packet to the raised limit
// when new connections come as fast as the lab can send them.
//
// Three clocks say so: ctwatch's own, in its record; the sender's, from before it sent the first connection that did not
// arrive until after the last; and the packets that were lost, at the rate at which they were sent.
func (h *healer) cliff(ctx context.Context) (ok bool, err error) {
	fmt.Printf("a cliff: %d assured entries under a limit of %d, as many buckets, then %d connections at once; %d trials\n",
		cliffMax-cliffRoom, cliffMax, cliffCount, cliffTrials)
	ramp := lab.Ramp{From: cliffMax - cliffRoom, To: cliffMax - cliffRoom + cliffCount}
	var latency, outage, lost, rates []float64 // ms, ms, packets, connections a second
	raised, early, why := 0, 0, ""
	for range cliffTrials {
		// Ramp itself fills the table, just before: there is no time to see it coming.
		o, err := h.run(ctx, table{max: cliffMax, buckets: cliffMax}, ramp, "on")
		if err != nil {
			return false, err
		}
		rates = append(rates, float64(o.Sent)/o.Took.Seconds())
		applied := o.applied()
		switch {
		case len(applied) == 0:
			why = reasons(o)
		case o.Refused == 0:
			raised, early = raised+1, early+1
			continue
		default:
			raised++
			latency = append(latency, ms(time.Duration(applied[0].Latency)))
		}
		outage = append(outage, ms(o.Outage))
		lost = append(lost, float64(o.Refused))
	}
	fmt.Printf("  connections a second    median %8.0f\n", median(rates))
	fmt.Printf("  the limit was raised in %d of %d trials, before a packet was refused in %d%s\n", raised, cliffTrials, early, why)
	if len(latency) == 0 {
		return false, nil
	}
	p99 := quantile(latency, 0.99)
	fmt.Printf("  %-34s %10s %10s %10s\n", "", "median", "p99", "max")
	fmt.Printf("  %-34s %10.3f %10.3f %10.3f    wanted p99 <= 2\n", "first refused to raised limit, ms", median(latency), p99, slices.Max(latency))
	fmt.Printf("  %-34s %10.3f %10.3f %10.3f\n", "the same as the sender saw it, ms", median(outage), quantile(outage, 0.99), slices.Max(outage))
	fmt.Printf("  %-34s %10.0f %10.0f %10.0f\n\n", "packets lost", median(lost), quantile(lost, 0.99), slices.Max(lost))
	return p99 <= 2 && raised == cliffTrials, nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// quantile is the least value that so large a part of all is not above.
func quantile(v []float64, part float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[max(int(math.Ceil(part*float64(len(v)))), 1)-1]
}
