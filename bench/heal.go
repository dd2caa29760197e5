package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/test/daemon"
	"github.com/ctwatch/ctwatch/test/lab"
)

const (
	healMax  = 16_384
	healFrom = healMax / 4
	healRate = (healMax - healFrom) / 2 // new connections a second: the limit is overrun after 2 s
	healTo   = 200_000
)

// heal measures what raising the limit saves on a ramp and on a cliff, and that a flood does not make it rise.
func heal(ctx context.Context, l *lab.Lab, ctwatch string) (ok bool, err error) {
	h := &healer{l: l, ctwatch: ctwatch, quarter: table{max: healMax, entries: healFrom}}
	if h.quarter.buckets, err = l.Limit(lab.Buckets); err != nil {
		return false, err
	}
	if h.path, err = l.Path("router"); err != nil {
		return false, err
	}
	ok = true
	for _, part := range []func(context.Context) (bool, error){h.ramp, h.cliff, h.flood} {
		wanted, err := part(ctx)
		if err != nil {
			return false, err
		}
		ok = ok && wanted
	}
	return ok, nil
}

// healer is a path whose router's table is filled again and again.
type healer struct {
	l       *lab.Lab
	ctwatch string
	path    *lab.Path
	quarter table // a quarter full, in as many buckets as the machine has
}

// table is what a run begins with.
type table struct {
	max, buckets uint64
	entries      int
}

// outcome is a ramp, and what ctwatch did meanwhile.
type outcome struct {
	lab.Ramped
	max     uint64 // at the end
	actions []*record.Action
}

// applied are the actions that raised the limit.
func (o outcome) applied() (all []*record.Action) {
	for _, a := range o.actions {
		if a.What == record.ActionRaiseMax && a.Result == record.ResultApplied {
			all = append(all, a)
		}
	}
	return all
}

// run sends a ramp into a table, while a ctwatch runs that has just been started.
func (h *healer) run(ctx context.Context, t table, r lab.Ramp, mode string) (o outcome, err error) {
	err = errors.Join(h.path.Router.Flush(), h.l.SetLimit(lab.Max, t.max), h.l.SetLimit(lab.Buckets, t.buckets),
		h.path.Router.Fill(ctx, t.entries))
	if err != nil {
		return o, err
	}
	var actions []*record.Action
	d, err := daemon.Start(ctx, h.ctwatch, func(r record.Record) {
		if a, ok := r.(*record.Action); ok {
			actions = append(actions, a)
		}
	}, "--journal", "", "--remediate", mode)
	if err != nil {
		return o, err
	}
	defer d.Kill()
	before, err := h.path.Router.Kernel()
	if err != nil {
		return o, err
	}
	if o.Ramped, err = h.path.Ramp(ctx, r); err != nil {
		return o, err
	}
	after, err := h.path.Router.Kernel()
	if err != nil {
		return o, err
	}
	if o.max, err = h.l.Limit(lab.Max); err != nil {
		return o, err
	}
	if drop := uint64(after.Total.Sub(before.Total).Drop); drop != o.Refused {
		return o, fmt.Errorf("the kernel's drop counter says %d, the router's firewall %d", drop, o.Refused)
	}
	err = d.Stop()
	o.actions = actions
	return o, err
}

// ramp compares what is lost on a ramp with and without remediation.
func (h *healer) ramp(ctx context.Context) (ok bool, err error) {
	ramp := lab.Ramp{From: healFrom, To: healTo, Rate: healRate}
	fmt.Printf("a ramp of real, replied connections: %d new ones a second, from %d entries to %d, under a limit of %d\n",
		healRate, healFrom, healTo, healMax)
	without, err := h.run(ctx, h.quarter, ramp, "off")
	if err != nil {
		return false, err
	}
	with, err := h.run(ctx, h.quarter, ramp, "on")
	if err != nil {
		return false, err
	}
	fmt.Printf("  %-22s %12s %12s\n", "remediation", "off", "on")
	for _, row := range []struct {
		name, wanted string
		of           func(outcome) any
	}{
		{"connections begun", "", func(o outcome) any { return o.Sent }},
		{"answered", "", func(o outcome) any { return o.Answered }},
		{"packets refused", "    wanted 0", func(o outcome) any { return o.Refused }},
		{"the limit at the end", "", func(o outcome) any { return o.max }},
	} {
		fmt.Printf("  %-22s %12d %12d%s\n", row.name, row.of(without), row.of(with), row.wanted)
	}
	raises := with.applied()
	if len(raises) == 0 {
		fmt.Printf("  the limit was not raised%s\n\n", reasons(with))
		return false, nil
	}
	// What is known of when and at what fill: the record's time, and the rate.
	begun, first := with.Begun, raises[0]
	at := first.Time.Sub(begun)
	entries := healFrom + int(at.Seconds()*healRate)
	full := time.Duration(healMax-healFrom) * time.Second / healRate
	fmt.Printf("  raised from %d to %d at %.0f %% of the limit, %.2f s before it would have been overrun\n  why: %s\n\n",
		first.From, first.To, 100*float64(entries)/healMax, (full - at).Seconds(), first.Why)
	return with.Refused == 0 && without.Refused > 0 && with.Answered == with.Sent, nil
}

// flood shows that a flood does not make the limit rise.
func (h *healer) flood(ctx context.Context) (ok bool, err error) {
	const rate, seconds = 20_000, 3
	fmt.Printf("a flood: %d connections a second that nobody answers, for %d s, into a table a quarter full under a limit of %d\n",
		rate, seconds, healMax)
	ok = true
	for _, sources := range []struct {
		name string
		one  bool
	}{{"sources in 128 networks", false}, {"sources in one /24", true}} {
		o, err := h.run(ctx, h.quarter, lab.Ramp{
			From: healFrom, To: healFrom + rate*seconds, Rate: rate, Unanswered: true, OneNet: sources.one,
			Kinds: []lab.Kind{lab.SYN4, lab.UDP4},
		}, "on")
		if err != nil {
			return false, err
		}
		raised := len(o.applied())
		fmt.Printf("  %-24s packets refused %7d, limit raised %d times    wanted 0%s\n", sources.name, o.Refused, raised, reasons(o))
		ok = ok && raised == 0 && o.max == healMax && o.Refused > 0
	}
	fmt.Println()
	return ok, nil
}

// reasons is what ctwatch gave as reasons for what it did and did not, each once, as lines to add.
func reasons(o outcome) (text string) {
	told := map[string]bool{}
	for _, a := range o.actions {
		if !told[a.Why] {
			told[a.Why] = true
			text += fmt.Sprintf("\n    %s %s: %s", a.What, a.Result, a.Why)
		}
	}
	return text
}
