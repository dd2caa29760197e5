package census

import (
	"errors"
	"fmt"
	"net/netip"
)

// Entry is what of a conntrack entry is counted. The rest of what the kernel tells of one is passed over.
type Entry struct {
	Proto    uint8 // IPPROTO_*
	Src, Dst netip.Addr
	// SrcPort and DstPort are of the original direction, as Src and Dst are. For protocols without ports they are 0, or
	// what the kernel has in their place, such as the keys of GRE.
	SrcPort, DstPort uint16
	Status           uint32 // IPS_* bits of nf_conntrack_common.h
	// Timeout is how many seconds from now the entry expires unless a packet comes.
	Timeout uint32
	// State is that of the protocol's own tracker, by the numbers of nf_conntrack_tcp.h and nf_conntrack_sctp.h; 0 (NONE)
	// for protocols that have none. Of an entry with IPS_OFFLOAD the kernel (5.x and later) tells neither this nor Timeout.
	State uint8
}

// Bits of enum ip_conntrack_status, nf_conntrack_common.h.
const (
	ipsSeenReply = 1 << 1  // IPS_SEEN_REPLY
	ipsAssured   = 1 << 2  // IPS_ASSURED: early_drop may not evict it
	ipsNAT       = 3 << 4  // IPS_SRC_NAT and IPS_DST_NAT: either
	ipsOffload   = 1 << 14 // IPS_OFFLOAD: packets pass by conntrack, through a flowtable (4.16)
)

// Replied reports whether packets came both ways.
func (e *Entry) Replied() bool { return e.Status&ipsSeenReply != 0 }

// Assured reports whether the entry may not be evicted when the table is full.
func (e *Entry) Assured() bool { return e.Status&ipsAssured != 0 }

// Translated reports whether NAT changes an address or port of its packets.
func (e *Entry) Translated() bool { return e.Status&ipsNAT != 0 }

func (e *Entry) offloaded() bool { return e.Status&ipsOffload != 0 }

// Attributes of nfnetlink_conntrack.h. Entries carry many more.
const (
	attrTupleOrig = 1 // CTA_TUPLE_ORIG
	attrStatus    = 3 // CTA_STATUS
	attrProtoInfo = 4 // CTA_PROTOINFO
	attrTimeout   = 7 // CTA_TIMEOUT

	attrTupleIP    = 1 // CTA_TUPLE_IP
	attrTupleProto = 2 // CTA_TUPLE_PROTO

	attrIPv4Src = 1 // CTA_IP_V4_SRC
	attrIPv4Dst = 2 // CTA_IP_V4_DST
	attrIPv6Src = 3 // CTA_IP_V6_SRC
	attrIPv6Dst = 4 // CTA_IP_V6_DST

	attrProtoNum = 1 // CTA_PROTO_NUM
	attrSrcPort  = 2 // CTA_PROTO_SRC_PORT
	attrDstPort  = 3 // CTA_PROTO_DST_PORT

	attrProtoInfoTCP  = 1 // CTA_PROTOINFO_TCP
	attrProtoInfoSCTP = 3 // CTA_PROTOINFO_SCTP
	attrState         = 1 // CTA_PROTOINFO_TCP_STATE and CTA_PROTOINFO_SCTP_STATE
)

var errNoTuple = errors.New("entry has no tuple")

// parse reads the attributes of an IPCTNL_MSG_CT_NEW message, and allocates nothing unless it fails.
func (e *Entry) parse(b []byte) error {
	*e = Entry{}
	for len(b) > 0 {
		kind, value, rest, err := cut(b)
		if err == nil {
			switch kind {
			case attrTupleOrig:
				err = e.parseTuple(value)
			case attrStatus:
				err = be32(value, &e.Status)
			case attrTimeout:
				err = be32(value, &e.Timeout)
			case attrProtoInfo:
				err = e.parseProtoInfo(value)
			}
		}
		if err != nil {
			return fmt.Errorf("attribute %d: %w", kind, err)
		}
		b = rest
	}
	if e.Proto == 0 || !e.Src.IsValid() || e.Src.BitLen() != e.Dst.BitLen() {
		return errNoTuple
	}
	return nil
}

func (e *Entry) parseTuple(b []byte) error {
	for len(b) > 0 {
		kind, value, rest, err := cut(b)
		if err == nil {
			switch kind {
			case attrTupleIP:
				err = e.parseAddrs(value)
			case attrTupleProto:
				err = e.parseProto(value)
			}
		}
		if err != nil {
			return err
		}
		b = rest
	}
	return nil
}

func (e *Entry) parseAddrs(b []byte) error {
	for len(b) > 0 {
		kind, value, rest, err := cut(b)
		if err == nil {
			switch kind {
			case attrIPv4Src:
				err = addr4(value, &e.Src)
			case attrIPv4Dst:
				err = addr4(value, &e.Dst)
			case attrIPv6Src:
				err = addr6(value, &e.Src)
			case attrIPv6Dst:
				err = addr6(value, &e.Dst)
			}
		}
		if err != nil {
			return err
		}
		b = rest
	}
	return nil
}

func (e *Entry) parseProto(b []byte) error {
	for len(b) > 0 {
		kind, value, rest, err := cut(b)
		if err == nil {
			switch kind {
			case attrProtoNum:
				err = u8(value, &e.Proto)
			case attrSrcPort:
				err = be16(value, &e.SrcPort)
			case attrDstPort:
				err = be16(value, &e.DstPort)
			}
		}
		if err != nil {
			return err
		}
		b = rest
	}
	return nil
}

func (e *Entry) parseProtoInfo(b []byte) error {
	for len(b) > 0 {
		kind, value, rest, err := cut(b)
		if err != nil {
			return err
		}
		if kind == attrProtoInfoTCP || kind == attrProtoInfoSCTP {
			if err := e.parseState(value); err != nil {
				return err
			}
		}
		b = rest
	}
	return nil
}

func (e *Entry) parseState(b []byte) error {
	for len(b) > 0 {
		kind, value, rest, err := cut(b)
		if err == nil && kind == attrState {
			err = u8(value, &e.State)
		}
		if err != nil {
			return err
		}
		b = rest
	}
	return nil
}
