package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// Responder answers UDP datagrams, IPv4 and IPv6, each from the address it was sent to.
type Responder struct {
	conns []*net.UDPConn
	group sync.WaitGroup
}

// Respond has a port answer until the [Responder] is closed. A connection whose first packet is answered has
// IPS_SEEN_REPLY; if another packet follows two seconds after the first it gets IPS_ASSURED
// (nf_conntrack_udp_packet), before that it may be evicted.
func (n *Namespace) Respond(port uint16) (*Responder, error) {
	r := &Responder{}
	err := n.Do(func() error {
		for _, network := range []string{"udp4", "udp6"} {
			conn, err := net.ListenUDP(network, &net.UDPAddr{Port: int(port)})
			if err != nil {
				return err
			}
			r.conns = append(r.conns, conn)
			if err := setUpResponder(conn, network); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("respond in %s: %w", n.Name, err), r.Close())
	}
	for _, conn := range r.conns {
		r.group.Go(func() { answer(conn) })
	}
	return r, nil
}

// setUpResponder has the socket say where a datagram was sent to, and mark what it sends as the lab's.
func setUpResponder(conn *net.UDPConn, network string) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	// Freebind, because of an end's addresses only one is an interface's.
	level, info, ttl, freebind := unix.IPPROTO_IP, unix.IP_PKTINFO, unix.IP_TTL, unix.IP_FREEBIND
	if network == "udp6" {
		level, info, ttl, freebind = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, unix.IPV6_UNICAST_HOPS, unix.IPV6_FREEBIND
	}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		optErr = errors.Join(
			unix.SetsockoptInt(int(fd), level, info, 1),
			unix.SetsockoptInt(int(fd), level, ttl, labTTL),
			unix.SetsockoptInt(int(fd), level, freebind, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<25),
		)
	})
	return errors.Join(err, optErr)
}

// answer sends back what arrives until the socket is closed. The control message that says where a datagram was
// sent to also says where the answer is to come from.
func answer(conn *net.UDPConn) {
	payload, control := make([]byte, 2048), make([]byte, 256)
	for {
		n, oob, _, from, err := conn.ReadMsgUDPAddrPort(payload, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			// Whether it arrives is for the other side to see.
			_, _, _ = conn.WriteMsgUDPAddrPort(payload[:n], control[:oob], from)
		}
	}
}

// Close ends the answers.
func (r *Responder) Close() error {
	var err error
	for _, conn := range r.conns {
		err = errors.Join(err, conn.Close())
	}
	r.group.Wait()
	return err
}

// exchangeChunk is how many datagrams may wait for their answer: less than fit into any socket's buffer.
const exchangeChunk = 4096

// Exchange is [End.Send] of UDP to a port for which a [Responder] listens, and waits until every packet that was
// not refused has been answered.
func (e *End) Exchange(ctx context.Context, t Traffic) (sent Sent, err error) {
	if t.Flow == 0 {
		flows := t.Packets
		if t.OneFlow {
			flows = 1
		}
		t.Flow = uint32(e.link.take(flows))
	}
	sent.Flow = t.Flow
	before, err := e.Namespace.Counts()
	if err != nil {
		return sent, err
	}
	for done := 0; done < t.Packets; done += exchangeChunk {
		chunk := t
		chunk.Packets = min(exchangeChunk, t.Packets-done)
		if !t.OneFlow {
			chunk.Flow += uint32(done)
		}
		part, err := e.Send(ctx, chunk)
		sent.Packets += part.Packets
		sent.Refused += part.Refused
		if err != nil {
			return sent, err
		}
		var answers uint64
		err = await(ctx, "answers", func() (bool, error) {
			now, err := e.Namespace.Counts()
			answers = now.Sub(before).Arrived
			return answers >= sent.Packets-sent.Refused, err
		})
		if err != nil {
			return sent, fmt.Errorf("exchange packets with %s: %d of %d answered: %w",
				e.peer.Namespace.Name, answers, sent.Packets-sent.Refused, err)
		}
	}
	return sent, nil
}
