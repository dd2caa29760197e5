package lab

import (
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// SeqAdjust has connection tracking refuse n packets with nothing but its drop counter to show for it: TCP packets
// of an established connection whose sequence numbers are to be adjusted, which cannot be done because an option
// in them is cut short (nf_ct_sack_adjust, called by nf_confirm). Refused is as in [End.Send].
func (e *End) SeqAdjust(ctx context.Context, n int) (sent Sent, err error) {
	f := e.link.take(1)
	frame := e.newFrame(e.peer, SYN4, 9)
	frame.breakOption()
	frame.set(f)
	if err := e.Namespace.establish(frame); err != nil {
		return sent, fmt.Errorf("establish connection in %s: %w", e.Namespace.Name, err)
	}
	err = e.Namespace.Do(func() error {
		s, err := e.newRawSender(e.peer, SYN4, 9)
		if err != nil {
			return err
		}
		defer s.Close()
		s.(*rawSender).frame = frame
		for ; sent.Packets < uint64(n); sent.Packets++ {
			if sent.Packets%batch == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			refused, err := sendOne(s, f)
			if err != nil {
				return err
			}
			if refused {
				sent.Refused++
			}
		}
		return nil
	})
	if err != nil {
		return sent, fmt.Errorf("send from %s: %w", e.Namespace.Name, err)
	}
	return sent, quiesce()
}

// breakOption makes a SYN into an acknowledgement with an option of length 0.
func (f *frame) breakOption() {
	const ack, unknownOption = 0x10, 254
	f.bytes = append(f.bytes, unknownOption, 0, 0, 0)
	ip, tcp := f.bytes[ethernetLen:], f.bytes[f.l4:]
	f.ipSum += 4
	f.sum += 4 // the length in the pseudo header
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	f.sum -= sum16(tcp[12:14])
	tcp[12], tcp[13] = 24/4<<4, ack
	f.sum += sum16(tcp[12:14]) + sum16(tcp[20:])
}

// establish makes the entry of a frame's TCP connection, with sequence numbers to adjust.
func (n *Namespace) establish(f *frame) error {
	const (
		ctaProtoInfo     = 4
		ctaSeqAdjOrig    = 15
		ctaProtoInfoTCP  = 1
		ctaTCPState      = 1
		ctaTCPFlagsOrig  = 4
		ctaTCPFlagsReply = 5
		tcpEstablished   = 3
		beLiberal        = 8 // IP_CT_TCP_FLAG_BE_LIBERAL: any sequence number will do
		ctaSeqAdjPos     = 1
		ctaSeqAdjBefore  = 2
		ctaSeqAdjAfter   = 3
	)
	ip, tcp := f.bytes[ethernetLen:], f.bytes[f.l4:]
	src, dst := binary.BigEndian.Uint32(ip[12:]), binary.BigEndian.Uint32(ip[16:])
	srcPort, dstPort := binary.BigEndian.Uint16(tcp), binary.BigEndian.Uint16(tcp[2:])
	m := newMessage(ctNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.AF_INET, 0)
	m.tuple(ctaTupleOrig, unix.IPPROTO_TCP, src, dst, srcPort, dstPort)
	m.tuple(ctaTupleReply, unix.IPPROTO_TCP, dst, src, dstPort, srcPort)
	m.be32(ctaStatus, ipsSeenReply|ipsAssured|ipsConfirmed)
	m.be32(ctaTimeout, uint32(fillTimeout.Seconds()))
	info := m.nest(ctaProtoInfo)
	state := m.nest(ctaProtoInfoTCP)
	m.bytes(ctaTCPState, tcpEstablished)
	m.bytes(ctaTCPFlagsOrig, beLiberal, beLiberal)
	m.bytes(ctaTCPFlagsReply, beLiberal, beLiberal)
	m.end(state)
	m.end(info)
	adjust := m.nest(ctaSeqAdjOrig)
	m.be32(ctaSeqAdjPos, 0)
	m.be32(ctaSeqAdjBefore, 0)
	m.be32(ctaSeqAdjAfter, 0)
	m.end(adjust)
	conn, err := n.dialNetfilter()
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.add(m)
	return conn.flush()
}
