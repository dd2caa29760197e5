package lab

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"time"
)

// Ramp is how the table of a [Path] fills.
type Ramp struct {
	// From is how many entries the table holds before: what is missing is put there as [Namespace.Fill] does it.
	From int
	// To is how many it holds at the end, if no connection is refused and no entry evicted.
	To int
	// Rate is how many new connections a second come. Default: as many as one thread can send.
	Rate int
	// Kinds come in turn. Default: SYN4, whose entries are assured as soon as the client has acknowledged the server's
	// answer. Those of the other kinds are replied to, and may be evicted.
	Kinds []Kind
	// Unanswered is a flood: the server answers nothing.
	Unanswered bool
	// OneNet has all sources in one /24, or /120. Default: each connection has another of the 32767 of a link's end.
	OneNet bool
}

// Ramped says what became of a Ramp, by means outside connection tracking.
type Ramped struct {
	// Begun is when the first connection's packet was about to be sent, Took how long it was until all had been.
	Begun time.Time
	Took  time.Duration
	// Sent is how many connections were begun, each by one packet.
	Sent uint64
	// Arrived is how many of them a packet of which arrived at the server.
	Arrived uint64
	// Answered is how many of them the client got an answer of.
	Answered uint64
	// Refused is how many packets the router let in and not out again.
	Refused uint64
	// Outage is how long it was from before the first connection that did not arrive until after the last: 0 if all did.
	Outage time.Duration
}

// Ramp opens real connections through the router and returns when the last has been answered or refused. A server
// answers from all its addresses: to a SYN with a SYN and ACK, which the client acknowledges, to a datagram with the
// same, to a ping with a pong. Nobody else may send through the router meanwhile.
//
// Client and server are threads that read from the wire and write to it. So there is no limit but the CPUs to how
// many connections they have, and no socket through which the answers to a flood come back.
func (p *Path) Ramp(ctx context.Context, r Ramp) (Ramped, error) {
	ramped, err := p.ramp(ctx, r)
	if err != nil {
		return ramped, fmt.Errorf("ramp through %s: %w", p.Router.Name, err)
	}
	return ramped, nil
}

func (p *Path) ramp(ctx context.Context, r Ramp) (done Ramped, err error) {
	if r.To < r.From {
		return done, fmt.Errorf("from %d to %d entries: the table grows", r.From, r.To)
	}
	if len(r.Kinds) == 0 {
		r.Kinds = []Kind{SYN4}
	}
	s := newStream(p, r)
	server, err := newTap(p.Server, s.first, s.count)
	if err != nil {
		return done, err
	}
	defer server.Close()
	client, err := newTap(p.Client, s.first, s.count)
	if err != nil {
		return done, err
	}
	defer client.Close()
	server.serves, server.mute = true, r.Unanswered
	if err := s.open(); err != nil {
		return done, err
	}
	defer s.Close()
	before, err := p.Router.Counts()
	if err != nil {
		return done, err
	}

	var (
		group sync.WaitGroup
		errs  = make([]error, 2)
	)
	end := func() error {
		server.stop.Store(true)
		client.stop.Store(true)
		group.Wait()
		return errors.Join(errs...)
	}
	for i, t := range []*tap{server, client} {
		group.Go(func() { errs[i] = t.run() })
	}
	// Last, so that a table that is nearly full from the beginning is so for moments only.
	err = p.fillTo(ctx, r.From)
	if err == nil {
		err = s.run(ctx)
	}
	if err == nil {
		err = settled(ctx, server, client)
	}
	if err := errors.Join(err, end()); err != nil {
		return done, err
	}
	after, err := p.Router.Counts()
	if err != nil {
		return done, err
	}
	passed := after.Sub(before)
	return Ramped{
		Begun:    s.begun,
		Took:     s.took,
		Sent:     uint64(s.count),
		Arrived:  server.seen.count(),
		Answered: client.seen.count(),
		Refused:  passed.Arrived - passed.Left - passed.Delivered,
		Outage:   s.outage(server.seen),
	}, nil
}

// fillTo adds what is missing.
func (p *Path) fillTo(ctx context.Context, count int) error {
	now, err := p.Router.Count()
	if err != nil || int(now) >= count {
		return err
	}
	return p.Router.Fill(ctx, count-int(now))
}

// settled waits until every packet that was on its way has been received, and its answer too.
func settled(ctx context.Context, taps ...*tap) error {
	last := uint64(0)
	return await(ctx, "answers", func() (bool, error) {
		if err := quiesce(); err != nil {
			return false, err
		}
		sum, done := uint64(1), true
		for _, t := range taps {
			idle, err := t.idle()
			if err != nil {
				return false, err
			}
			done = done && idle
			sum += t.handled.Load()
		}
		// What was handled before the second look has been answered before the quiet of the second look.
		done = done && sum == last
		last = sum
		return done, nil
	})
}

// flows is a set of flows, by their place in a ramp.
type flows []uint64

func newFlows(count int) flows { return make(flows, (count+63)/64) }

func (s flows) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s flows) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s flows) count() (n uint64) {
	for _, word := range s {
		n += uint64(bits.OnesCount64(word))
	}
	return n
}
