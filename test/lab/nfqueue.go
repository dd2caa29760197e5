package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// From include/uapi/linux/netfilter/nfnetlink_queue.h.
const (
	nfqPacket  = unix.NFNL_SUBSYS_QUEUE << 8   // NFQNL_MSG_PACKET
	nfqVerdict = unix.NFNL_SUBSYS_QUEUE<<8 | 1 // NFQNL_MSG_VERDICT
	nfqConfig  = unix.NFNL_SUBSYS_QUEUE<<8 | 2 // NFQNL_MSG_CONFIG

	nfqaPacketHeader  = 1
	nfqaVerdictHeader = 2
	nfqaCfgCmd        = 1
	nfqaCfgParams     = 2
	nfqaCfgMaxLen     = 3
	nfqBind           = 1
	nfqCopyMeta       = 1

	nfAccept = 1 // NF_ACCEPT

	holdQueue = 0
	holdMax   = 1 << 16
)

// Held are packets stopped in an nfqueue on their way out of a namespace, behind NAT and before confirm: their
// connections exist and are in no table yet.
type Held struct {
	namespace *Namespace
	conn      *netfilterConn
	ids       []uint32 // in the order in which they came
}

// Hold stops the lab's packets that leave the namespace, at most 65536, until [Held.Release]. There can be one
// Held in a namespace at a time.
//
// The rule needs nft_queue or, through nft_compat, the xtables target NFQUEUE.
func (n *Namespace) Hold() (*Held, error) {
	h, err := n.hold()
	if err != nil {
		return nil, fmt.Errorf("hold packets in %s: %w", n.Name, err)
	}
	return h, nil
}

func (n *Namespace) hold() (*Held, error) {
	conn, err := n.dialNetfilter()
	if err != nil {
		return nil, err
	}
	bind := newMessage(nfqConfig, 0, unix.AF_UNSPEC, holdQueue)
	bind.bytes(nfqaCfgCmd, nfqBind, 0, 0, 0)
	conn.add(bind)
	params := newMessage(nfqConfig, 0, unix.AF_UNSPEC, holdQueue)
	params.bytes(nfqaCfgParams, 0, 0, 0, 0, nfqCopyMeta)
	params.be32(nfqaCfgMaxLen, holdMax)
	conn.add(params)
	if err := conn.flush(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("bind queue: %w", err)
	}
	// struct xt_NFQ_info_v1: queue number and how many queues, padded to 8 bytes.
	info := xt.Unknown(make([]byte, 8))
	binary.NativeEndian.PutUint16(info[2:], 1)
	native := n.holdRule(&expr.Queue{Num: holdQueue, Total: 1})
	if native == nil {
		return &Held{namespace: n, conn: conn}, nil
	}
	if err := n.holdRule(&expr.Target{Name: "NFQUEUE", Rev: 1, Info: &info}); err != nil {
		return nil, errors.Join(native, err, conn.Close())
	}
	return &Held{namespace: n, conn: conn}, nil
}

// holdRule sends the lab's packets to a queue, behind NAT, which has priority 100.
func (n *Namespace) holdRule(queue expr.Any) error {
	return n.rules("queue packets", func(r *ruleset) {
		c := r.chain("hold", nftables.ChainHookPostrouting, 200, nftables.ChainPolicyAccept)
		for _, m := range labPackets() {
			r.rule(c, append(m, queue)...)
		}
	})
}

// Wait waits until count packets are held.
func (h *Held) Wait(ctx context.Context, count int) error {
	for len(h.ids) < count {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for held packets: %w", err)
		}
		err := h.conn.receive(func(kind uint16, _ uint32, body []byte) {
			if kind != nfqPacket {
				return
			}
			attributes(body[4:], func(kind uint16, value []byte) {
				if kind == nfqaPacketHeader && len(value) >= 4 {
					h.ids = append(h.ids, binary.BigEndian.Uint32(value))
				}
			})
		})
		if err != nil {
			return fmt.Errorf("wait for held packets: %d of %d: %w", len(h.ids), count, err)
		}
	}
	return nil
}

// Release lets the packets that were waited for go on, in the order in which they came, and returns when all have
// been confirmed or refused, and the former have arrived.
func (h *Held) Release() error {
	for i, id := range h.ids {
		verdict := newMessage(nfqVerdict, 0, unix.AF_UNSPEC, holdQueue)
		verdict.attr(nfqaVerdictHeader, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, nfAccept), id))
		h.conn.add(verdict)
		if (i+1)%fillBatch != 0 && i < len(h.ids)-1 {
			continue
		}
		if err := h.conn.flush(); err != nil {
			return fmt.Errorf("release packets: %w", err)
		}
		// A backlog takes 1000 packets (net.core.netdev_max_backlog) and loses the others without a word. Before 6.4 the kernel
		// may put off emptying it for long.
		if err := await(context.Background(), "empty backlogs", backlogsEmpty); err != nil {
			return err
		}
	}
	h.ids = h.ids[:0]
	return quiesce()
}

// Close ends the holding. Packets still held are lost.
func (h *Held) Close() error {
	err := h.namespace.rules("stop holding", func(r *ruleset) {
		c := r.chain("hold", nftables.ChainHookPostrouting, 200, nftables.ChainPolicyAccept)
		r.conn.FlushChain(c)
		r.conn.DelChain(c)
	})
	if closeErr := h.conn.Close(); err == nil {
		err = closeErr
	}
	return err
}
