package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// From include/uapi/linux/netfilter/nfnetlink_conntrack.h and nf_conntrack_common.h.
const (
	ctNew    = unix.NFNL_SUBSYS_CTNETLINK << 8 // IPCTNL_MSG_CT_NEW
	ctGet    = ctNew | 1                       // IPCTNL_MSG_CT_GET
	ctDelete = ctNew | 2                       // IPCTNL_MSG_CT_DELETE

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaProtoInfo  = 4
	ctaTimeout    = 7

	ctaProtoInfoTCP      = 1
	ctaProtoInfoTCPState = 1
	tcpEstablished       = 3 // TCP_CONNTRACK_ESTABLISHED

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaIPv4Src    = 1
	ctaIPv4Dst    = 2
	ctaProtoNum   = 1
	ctaProtoSrc   = 2
	ctaProtoDst   = 3

	ipsSeenReply = 1 << 1
	ipsAssured   = 1 << 2
	ipsConfirmed = 1 << 3
)

const (
	fillTimeout = 24 * time.Hour
	fillBatch   = 512 // messages a system call
	// fillNet, 100.64.0.0/10, is where the sources of made-up entries are: no link has addresses there.
	fillNet   = 100<<24 | 64<<16
	fillHosts = 1 << 22
	// fillDst, 192.0.2.1, is their destination.
	fillDst = 192<<24 | 2<<8 | 1
)

// Fill adds count entries to the namespace's table that nothing evicts: UDP, replied to, assured, good for a
// day. It returns when the kernel's count has risen by as many. The table must have room: see [Namespace.FillUp].
//
// Entries come by netlink, as conntrack(8) makes them: they count in the kernel's insert counter.
func (n *Namespace) Fill(ctx context.Context, count int) error {
	return n.fill(ctx, count, newUDPEntry(ipsSeenReply|ipsAssured|ipsConfirmed))
}

// FillEvictable is Fill with entries that early_drop may evict: not replied to, not assured.
func (n *Namespace) FillEvictable(ctx context.Context, count int) error {
	return n.fill(ctx, count, newUDPEntry(ipsConfirmed))
}

// FillIdle is Fill with TCP connections that are established, and had their last packet so long ago: less than the
// namespace's nf_conntrack_tcp_timeout_established.
func (n *Namespace) FillIdle(ctx context.Context, count int, idle time.Duration) error {
	var timeout uint64
	err := n.Do(func() (err error) {
		timeout, err = readLimit("nf_conntrack_tcp_timeout_established")
		return err
	})
	if err != nil {
		return err
	}
	return n.fill(ctx, count, newTCPEntry(time.Duration(timeout)*time.Second-idle))
}

// FillUp is [Namespace.Fill] with as many entries as there is room for under the max: the next new connection is
// refused, unless something that may be evicted was there before (see [Namespace.Flush]).
func (n *Namespace) FillUp(ctx context.Context) error {
	room, err := n.room()
	if err != nil {
		return err
	}
	return n.Fill(ctx, room)
}

// FillUpEvictable is [Namespace.FillEvictable] with as many entries as there is room for: the next new
// connection evicts some. But early_drop looks into 8 buckets only: if [Buckets] is more than [Max], it finds
// nothing in many cases, and refuses the packet as if nothing were to be had.
func (n *Namespace) FillUpEvictable(ctx context.Context) error {
	room, err := n.room()
	if err != nil {
		return err
	}
	return n.FillEvictable(ctx, room)
}

func (n *Namespace) room() (int, error) {
	limit, err := readLimit(Max)
	if err != nil {
		return 0, err
	}
	count, err := n.Count()
	return max(0, int(limit)-int(count)), err
}

func (n *Namespace) fill(ctx context.Context, count int, e *entry) error {
	if err := n.insert(ctx, count, e); err != nil {
		return fmt.Errorf("fill table of %s: %w", n.Name, err)
	}
	return nil
}

func (n *Namespace) insert(ctx context.Context, count int, entry *entry) error {
	before, err := n.Count()
	if err != nil {
		return err
	}
	conn, err := n.dialNetfilter()
	if err != nil {
		return err
	}
	defer conn.Close()
	first := n.filled.Add(uint32(count)) - uint32(count)
	for done := 0; done < count; done += fillBatch {
		if err := ctx.Err(); err != nil {
			return err
		}
		size := min(fillBatch, count-done)
		for i := range size {
			entry.set(first + uint32(done+i))
			conn.add(entry.message)
		}
		if err := conn.flush(); err != nil {
			return fmt.Errorf("after %d to %d entries: %w", done, done+size, err)
		}
	}
	return await(ctx, fmt.Sprintf("%d entries", count), func() (bool, error) {
		now, err := n.Count()
		return now >= before+uint64(count), err
	})
}

// entry is a netlink message that makes an entry, whose tuple can be changed cheaply.
type entry struct {
	message message
	addr    [2]int // where the made-up address is, in both tuples
	port    [2]int // where its port is
}

func newUDPEntry(status uint32) *entry {
	return newEntry(unix.IPPROTO_UDP, status, fillTimeout)
}

// newTCPEntry is of a connection that is established, and expires after a timeout.
func newTCPEntry(timeout time.Duration) *entry {
	e := newEntry(unix.IPPROTO_TCP, ipsSeenReply|ipsAssured|ipsConfirmed, timeout)
	info := e.message.nest(ctaProtoInfo)
	tcp := e.message.nest(ctaProtoInfoTCP)
	e.message.bytes(ctaProtoInfoTCPState, tcpEstablished)
	e.message.end(tcp)
	e.message.end(info)
	return e
}

func newEntry(proto byte, status uint32, timeout time.Duration) *entry {
	e := &entry{message: newMessage(ctNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.AF_INET, 0)}
	orig := e.message.tuple(ctaTupleOrig, proto, fillNet, fillDst, 1, 1)
	reply := e.message.tuple(ctaTupleReply, proto, fillDst, fillNet, 1, 1)
	e.addr, e.port = [2]int{orig.src, reply.dst}, [2]int{orig.srcPort, reply.dstPort}
	e.message.be32(ctaStatus, status)
	e.message.be32(ctaTimeout, uint32(timeout.Seconds()))
	return e
}

// tupleAt is where the parts of a tuple are in a message.
type tupleAt struct{ src, dst, srcPort, dstPort int }

// tuple appends an IPv4 tuple.
func (m *message) tuple(kind uint16, proto byte, src, dst uint32, srcPort, dstPort uint16) (at tupleAt) {
	tuple := m.nest(kind)
	ip := m.nest(ctaTupleIP)
	at.src = m.be32(ctaIPv4Src, src)
	at.dst = m.be32(ctaIPv4Dst, dst)
	m.end(ip)
	transport := m.nest(ctaTupleProto)
	m.bytes(ctaProtoNum, proto)
	at.srcPort = m.be16(ctaProtoSrc, srcPort)
	at.dstPort = m.be16(ctaProtoDst, dstPort)
	m.end(transport)
	m.end(tuple)
	return at
}

// set makes it the i-th entry of the namespace.
func (e *entry) set(i uint32) {
	for side := range e.addr {
		binary.BigEndian.PutUint32(e.message[e.addr[side]:], fillNet|i%fillHosts)
		binary.BigEndian.PutUint16(e.message[e.port[side]:], uint16(1+i/fillHosts))
	}
}
