package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ctwatch/ctwatch/test/daemon"
	"github.com/ctwatch/ctwatch/test/lab"
)

const (
	smallMax  = 16_384 // the limit that the acts are played under
	atFirst   = smallMax / 4
	rate      = (smallMax - atFirst) / 2 // new connections a second: the limit is overrun after 2 s
	rampFor   = 5                        // seconds
	storm     = 500_000                  // packets
	floodRate = 20_000                   // a second
	floodFor  = 3                        // seconds
)

// stage is what the acts are played on.
type stage struct {
	ctx     context.Context
	ctwatch string
	lab     *lab.Lab
	path    *lab.Path
	buckets uint64 // as they were
}

// begin sets the stage, a table a quarter full of connections under the small limit, and starts ctwatch.
func (s *stage) begin(title string, args ...string) (*audience, *daemon.Daemon, error) {
	fmt.Println()
	say("%s", title)
	router := s.path.Router
	if err := errors.Join(router.Flush(), s.lab.SetLimit(lab.Max, smallMax), s.lab.SetLimit(lab.Buckets, s.buckets)); err != nil {
		return nil, nil, err
	}
	if err := router.Fill(s.ctx, atFirst); err != nil {
		return nil, nil, err
	}
	a := &audience{}
	d, err := daemon.Start(s.ctx, s.ctwatch, a.hear, args...)
	if err != nil {
		return nil, nil, err
	}
	say("ctwatch counts with probe %s; limit %d, a quarter of it used", d.Start.Probe, smallMax)
	return a, d, nil
}

// ramp is the load of the first two acts: real connections, answered, to more than the table holds.
func (s *stage) ramp() (lab.Ramped, error) {
	say("%d new connections a second, each answered, for %d s: the limit is reached after 2 s", rate, rampFor)
	return s.path.Ramp(s.ctx, lab.Ramp{From: atFirst, To: atFirst + rate*rampFor, Rate: rate})
}

// without shows what is lost, and that it is counted exactly. It returns the incident.
func (s *stage) without() (incident string, err error) {
	a, d, err := s.begin("ACT 1, without remediation")
	if err != nil {
		return "", err
	}
	defer d.Kill()
	before, err := s.path.Router.Kernel()
	if err != nil {
		return "", err
	}
	ramped, err := s.ramp()
	if err != nil {
		return "", err
	}
	say("and %d packets of new connections at once: UDP, TCP SYN and ICMP, IPv4 and IPv6", storm)
	begun := time.Now()
	sent, err := s.path.Client.Inject(s.ctx, lab.Traffic{Packets: storm, Kinds: lab.Kinds()})
	if err != nil {
		return "", err
	}
	took := time.Since(begun)
	after, err := s.path.Router.Kernel()
	if err != nil {
		return "", err
	}
	if err := d.Stop(); err != nil {
		return "", err
	}
	if a.stop == nil || a.incident == nil {
		return "", errors.New("ctwatch ended without a stop record, or closed no incident")
	}
	refused, kernel, counted := ramped.Refused+sent.Refused, uint64(after.Total.Sub(before.Total).Drop), a.stop.Totals.Total()
	fmt.Printf("\n  refused by the kernel      %9d: %d of %d on the ramp, then %d of %d, %.0f a second\n", refused,
		ramped.Refused, ramped.Sent, sent.Refused, sent.Packets, float64(sent.Packets)/took.Seconds())
	fmt.Printf("  counted by ctwatch         %9d table_full, %d unattributed\n", counted, a.stop.Unattributed)
	fmt.Printf("  the kernel's drop counter  %9d\n\n", kernel)
	switch {
	case refused != counted || refused != kernel || ramped.Refused == 0:
		return "", errors.New("the three numbers differ")
	case a.incident.Drops.Total() != kernel:
		return "", fmt.Errorf("the incident has %d refused packets", a.incident.Drops.Total())
	case a.applied > 0:
		return "", errors.New("ctwatch changed a limit that it was not allowed to")
	}
	say("three equal numbers")
	return a.incident.ID, nil
}

// with shows the same load with remediation.
func (s *stage) with() error {
	a, d, err := s.begin("ACT 2, the same ramp with --remediate on", "--remediate", "on")
	if err != nil {
		return err
	}
	defer d.Kill()
	ramped, err := s.ramp()
	if err != nil {
		return err
	}
	limit, err := s.lab.Limit(lab.Max)
	if err != nil {
		return err
	}
	if err := d.Stop(); err != nil {
		return err
	}
	fmt.Printf("\n  refused by the kernel      %9d of %d, %d answered\n", ramped.Refused, ramped.Sent, ramped.Answered)
	fmt.Printf("  nf_conntrack_max           %9d, was %d\n\n", limit, smallMax)
	if ramped.Refused > 0 || ramped.Answered != ramped.Sent {
		return errors.New("packets were lost all the same")
	}
	if a.applied == 0 || limit <= smallMax {
		return errors.New("ctwatch did not raise the limit")
	}
	say("none lost")
	return nil
}

// flood shows that a flood is no reason to raise the limit.
func (s *stage) flood() error {
	a, d, err := s.begin("ACT 3, a flood, with --remediate on", "--remediate", "on")
	if err != nil {
		return err
	}
	defer d.Kill()
	say("%d connections a second from made-up addresses, which nobody answers, for %d s", floodRate, floodFor)
	ramped, err := s.path.Ramp(s.ctx, lab.Ramp{
		From: atFirst, To: atFirst + floodRate*floodFor, Rate: floodRate, Unanswered: true, Kinds: []lab.Kind{lab.SYN4, lab.UDP4},
	})
	if err != nil {
		return err
	}
	limit, err := s.lab.Limit(lab.Max)
	if err != nil {
		return err
	}
	if err := d.Stop(); err != nil {
		return err
	}
	fmt.Printf("\n  refused by the kernel      %9d of %d\n", ramped.Refused, ramped.Sent)
	fmt.Printf("  nf_conntrack_max           %9d, was %d\n\n", limit, smallMax)
	if a.applied > 0 || limit != smallMax {
		return errors.New("ctwatch raised the limit for a flood")
	}
	if a.declined == 0 {
		return errors.New("ctwatch did not say why it raised nothing")
	}
	say("nothing raised: more entries would be more of the flood")
	return nil
}
