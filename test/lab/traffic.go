package lab

import (
	"errors"
	"runtime"
	"sync"
)

// Traffic is what to send. The zero value of each field but Packets is a good choice.
type Traffic struct {
	// Packets is their number, all CPUs together.
	Packets int
	// Kinds come in turn. Default: UDP4.
	Kinds []Kind
	// OneFlow has all packets of a kind belong to one new connection. Default: each begins its own, one that no
	// packet of the link has belonged to, until 2 billion are used up.
	OneFlow bool
	// Spread has [End.Inject] send from all the addresses of the end, not from its main one.
	Spread bool
	// Port is the destination port of UDP and TCP. Default: 9, discard.
	Port uint16
	// CPUs are those to send from, a thread pinned to each. Default: all this thread may run on.
	CPUs []int
	// To is the end whose addresses the packets are for, beyond a router that [Lab.Route] made. Default: the peer.
	To *End
	// Flow is the Flow of an earlier Sent whose connections to use again. Default: new ones.
	Flow uint32
}

// Sent says what became of a Traffic.
type Sent struct {
	// Packets is how many were sent: what was asked for, unless there is an error.
	Packets uint64
	// Refused is how many of them the kernel did not let pass.
	Refused uint64
	// Flow is the number of the first connection.
	Flow uint32
}

// share is one CPU's part of a Traffic.
type share struct {
	Traffic
	cpu   int
	first flow
	step  flow // 0 for one flow
}

// flow is the flow of the share's i-th packet.
func (s share) flow(i int) flow { return s.first + flow(i)*s.step }

// shares splits what e is to send among CPUs, and numbers the flows.
func (e *End) shares(t Traffic) ([]share, error) {
	if len(t.Kinds) == 0 {
		t.Kinds = []Kind{UDP4}
	}
	if t.Port == 0 {
		t.Port = 9
	}
	if t.To == nil {
		t.To = e.peer
	}
	if len(t.CPUs) == 0 {
		cpus, err := CPUs()
		if err != nil {
			return nil, err
		}
		t.CPUs = cpus
	}
	step, flows := flow(1), t.Packets
	if t.OneFlow {
		step, flows = 0, 1
	}
	first := flow(t.Flow)
	if first == 0 {
		first = e.link.take(flows)
	}
	all := make([]share, 0, len(t.CPUs))
	for i, cpu := range t.CPUs {
		s := share{Traffic: t, cpu: cpu, first: first, step: step}
		from, to := t.Packets*i/len(t.CPUs), t.Packets*(i+1)/len(t.CPUs)
		s.Packets = to - from
		s.first += flow(from) * step
		all = append(all, s)
	}
	return all, nil
}

// run has each share sent by a thread of its own in e's namespace, pinned to the share's CPU, and waits until
// what was sent has arrived.
func (e *End) run(shares []share, send func(share) (Sent, error)) (Sent, error) {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		total Sent
		errs  error
	)
	for _, s := range shares {
		group.Go(func() {
			// The thread is not given back: it ends, and its affinity with it.
			runtime.LockOSThread()
			var sent Sent
			err := e.Namespace.Do(func() (err error) {
				if err := pin(s.cpu); err != nil {
					return err
				}
				sent, err = send(s)
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			total.Packets += sent.Packets
			total.Refused += sent.Refused
			errs = errors.Join(errs, err)
		})
	}
	group.Wait()
	total.Flow = uint32(shares[0].first)
	return total, errors.Join(errs, quiesce())
}
