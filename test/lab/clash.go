package lab

import (
	"context"
	"fmt"
	"net/netip"
)

// Clash has connection tracking refuse n packets for clashes that it cannot resolve: 2n packets, in pairs that
// differ in their source until masquerading gives both the same, leave e's namespace; all are held between NAT
// and confirm, then let go. The first of each pair is confirmed; the second finds its reply tuple taken and is
// dropped in nf_ct_resolve_clash. Refused is what did not arrive at the peer.
//
// The kind may be any: that UDP may clash (allow_clash) helps only against equal twins, see [End.Twins]. The
// namespace masquerades from then on, and the peer is muted. n entries stay in the table, for which there must be
// room, or early_drop takes part: for very many clashes, [Namespace.Flush] between calls.
func (e *End) Clash(ctx context.Context, k Kind, n int) (sent Sent, err error) {
	if err := e.Namespace.Masquerade(); err != nil {
		return sent, err
	}
	sources := [2]End{*e, *e}
	for i := range sources {
		sources[i].Addr4, sources[i].Addr6 = nth(e.Addr4, i+1), nth(e.Addr6, i+1)
	}
	first := e.link.take(n)
	sent.Flow = uint32(first)
	for done := 0; done < n; done += holdMax / 2 {
		var packets []heldPacket
		for i := range sources {
			for j := done; j < min(n, done+holdMax/2); j++ {
				packets = append(packets, heldPacket{from: &sources[i], flow: first + flow(j)})
			}
		}
		part, err := e.holdAndRelease(ctx, k, packets)
		sent.Packets += part.Packets
		sent.Refused += part.Refused
		if err != nil {
			return sent, fmt.Errorf("provoke clashes in %s: %w", e.Namespace.Name, err)
		}
	}
	return sent, nil
}

// Twins sends n pairs, at most 32768, of equal first packets of a connection from a namespace without NAT, and holds both of a
// pair before either is confirmed. For UDP the kernel resolves the clash (clash_resolve, Linux 5.10) and refuses
// none; of TCP, and of ICMP before Linux 7, it refuses the second of each pair, as in [End.Clash]. Some older
// kernels look a packet up again when it leaves a queue: then the twins share an entry, and nothing clashes.
func (e *End) Twins(ctx context.Context, k Kind, n int) (Sent, error) {
	first := e.link.take(n)
	var packets []heldPacket
	for i := range 2 * n {
		packets = append(packets, heldPacket{from: e, flow: first + flow(i%n)})
	}
	sent, err := e.holdAndRelease(ctx, k, packets)
	if err != nil {
		return sent, fmt.Errorf("send twins from %s: %w", e.Namespace.Name, err)
	}
	return sent, nil
}

// heldPacket is a packet to be held; from has its source address.
type heldPacket struct {
	from *End
	flow flow
}

// holdAndRelease sends packets by raw sockets, holds them until all are held, and lets them go.
func (e *End) holdAndRelease(ctx context.Context, k Kind, packets []heldPacket) (sent Sent, err error) {
	if len(packets) > holdMax {
		return sent, fmt.Errorf("%d packets, at most %d can be held", len(packets), holdMax)
	}
	// An answer would end the connection that is to be clashed with.
	if err := e.peer.Namespace.Mute(); err != nil {
		return sent, err
	}
	before, err := e.peer.Namespace.Counts()
	if err != nil {
		return sent, err
	}
	held, err := e.Namespace.Hold()
	if err != nil {
		return sent, err
	}
	defer held.Close()
	err = e.Namespace.Do(func() error {
		senders := map[*End]sender{}
		for _, p := range packets {
			s := senders[p.from]
			if s == nil {
				if s, err = p.from.newRawSender(e.peer, k, 9); err != nil {
					return err
				}
				defer s.Close()
				senders[p.from] = s
			}
			refused, err := sendOne(s, p.flow)
			if err != nil {
				return err
			}
			if refused {
				return fmt.Errorf("packet %d refused before it was held", sent.Packets)
			}
			sent.Packets++
		}
		if err := held.Wait(ctx, len(packets)); err != nil {
			return err
		}
		return held.Release()
	})
	if err != nil {
		return sent, err
	}
	after, err := e.peer.Namespace.Counts()
	if err != nil {
		return sent, err
	}
	sent.Refused = sent.Packets - after.Sub(before).Arrived
	return sent, nil
}

// take reserves the numbers of n flows and returns the first.
func (l *Link) take(n int) flow { return flow(l.next.Add(uint32(n)) - uint32(n) + 1) }

// nth is the n-th address after a.
func nth(a netip.Addr, n int) netip.Addr {
	for range n {
		a = a.Next()
	}
	return a
}
