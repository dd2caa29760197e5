package lab

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Kind is a kind of packet that begins a connection.
type Kind int

// The kinds. Every packet carries valid checksums: nf_conntrack_checksum has them verified.
const (
	UDP4  Kind = iota // a UDP datagram over IPv4
	SYN4              // a TCP SYN over IPv4
	Echo4             // an ICMP echo request
	UDP6              // a UDP datagram over IPv6
	SYN6              // a TCP SYN over IPv6
	Echo6             // an ICMPv6 echo request
)

// Kinds are all kinds there are.
func Kinds() []Kind { return []Kind{UDP4, SYN4, Echo4, UDP6, SYN6, Echo6} }

// String returns a name such as "udp4".
func (k Kind) String() string {
	return [...]string{"udp4", "syn4", "echo4", "udp6", "syn6", "echo6"}[k]
}

// v6 says whether the packet is IPv6.
func (k Kind) v6() bool { return k >= UDP6 }

// proto is the transport protocol's number.
func (k Kind) proto() byte {
	return [...]byte{
		unix.IPPROTO_UDP, unix.IPPROTO_TCP, unix.IPPROTO_ICMP,
		unix.IPPROTO_UDP, unix.IPPROTO_TCP, unix.IPPROTO_ICMPV6,
	}[k]
}

const (
	ethernetLen = 14
	payloadLen  = 8
	firstPort   = 1024
	ports       = 1<<16 - firstPort
	hosts       = hostsPerEnd - 1 // less the first, which looks like a network's own address
)

// flow is the number of a connection of a link: consecutive numbers differ in the destination address, and every
// 32767th in the source port or ICMP identifier too.
type flow uint32

func (f flow) host() uint16 { return 1 + uint16(f%hosts) }
func (f flow) port() uint16 { return firstPort + uint16(f/hosts%ports) }

// frame is an Ethernet frame whose flow can be changed cheaply.
type frame struct {
	bytes []byte
	kind  Kind
	l4    int // where the transport header begins

	dstLow  int    // where the low 16 bits of the destination are
	srcPort int    // where the source port or identifier is
	check   int    // where the transport checksum is
	sum     uint32 // of what the checksum covers, but for the flow
	dstBits uint16 // of the destination's low 16 bits, those all its hosts share
	srcLow  int    // where the low 16 bits of the source are, 0 if it stays
	srcBits uint16
	srcMask uint16 // the bits of the source in which flows may differ
	ipSum   uint32 // of the IPv4 header, but for the flow
}

// newFrame is a frame from e to its peer, for the addresses of to; port is the destination port of UDP and TCP.
func (e *End) newFrame(to *End, k Kind, port uint16) *frame {
	f := &frame{kind: k, l4: ethernetLen + 20}
	if k.v6() {
		f.l4 = ethernetLen + 40
	}
	transportLen := 8 + payloadLen
	if k.proto() == unix.IPPROTO_TCP {
		transportLen = 20
	}
	f.bytes = make([]byte, f.l4+transportLen)
	copy(f.bytes, e.peer.mac)
	copy(f.bytes[6:], e.mac)
	if k.v6() {
		e.putIPv6(f, to, transportLen)
	} else {
		e.putIPv4(f, to, transportLen)
	}
	f.putTransport(port)
	return f
}

func (e *End) putIPv4(f *frame, to *End, transportLen int) {
	binary.BigEndian.PutUint16(f.bytes[12:], unix.ETH_P_IP)
	ip := f.bytes[ethernetLen:]
	ip[0] = 4<<4 | 20/4
	binary.BigEndian.PutUint16(ip[2:], uint16(20+transportLen))
	ip[8], ip[9] = labTTL, f.kind.proto()
	copy(ip[12:], e.Addr4.AsSlice())
	copy(ip[16:], to.half4.Addr().AsSlice())
	f.dstLow = ethernetLen + 18
	f.dstBits = binary.BigEndian.Uint16(f.bytes[f.dstLow:])
	clear(ip[18:20])
	f.ipSum = sum16(ip[:20])
	f.sum = sum16(ip[12:20]) + uint32(f.kind.proto()) + uint32(transportLen)
}

func (e *End) putIPv6(f *frame, to *End, transportLen int) {
	binary.BigEndian.PutUint16(f.bytes[12:], unix.ETH_P_IPV6)
	ip := f.bytes[ethernetLen:]
	ip[0] = 6 << 4
	binary.BigEndian.PutUint16(ip[4:], uint16(transportLen))
	ip[6], ip[7] = f.kind.proto(), labTTL
	copy(ip[8:], e.Addr6.AsSlice())
	copy(ip[24:], to.half6.Addr().AsSlice())
	f.dstLow = ethernetLen + 38
	f.sum = sum16(ip[8:40]) + uint32(f.kind.proto()) + uint32(transportLen)
}

// putTransport makes the header. The source port, the low bits of the destination and the checksum are set
// with the flow.
func (f *frame) putTransport(port uint16) {
	l4 := f.bytes[f.l4:]
	f.srcPort = f.l4
	switch f.kind.proto() {
	case unix.IPPROTO_UDP:
		binary.BigEndian.PutUint16(l4[2:], port)
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		f.check = f.l4 + 6
	case unix.IPPROTO_TCP:
		binary.BigEndian.PutUint16(l4[2:], port)
		binary.BigEndian.PutUint32(l4[4:], 1) // sequence number
		const syn = 2
		l4[12], l4[13] = 20/4<<4, syn
		binary.BigEndian.PutUint16(l4[14:], 65535) // window
		f.check = f.l4 + 16
	case unix.IPPROTO_ICMP:
		l4[0] = 8
		f.sum = 0 // no pseudo header
		f.srcPort, f.check = f.l4+4, f.l4+2
	case unix.IPPROTO_ICMPV6:
		l4[0] = 128
		f.srcPort, f.check = f.l4+4, f.l4+2
	}
	f.sum += sum16(l4)
}

// spread has the source address differ from flow to flow as the destination does.
func (f *frame) spread() {
	f.srcLow = ethernetLen + 14
	if f.kind.v6() {
		f.srcLow = ethernetLen + 22
	}
	was := binary.BigEndian.Uint16(f.bytes[f.srcLow:])
	f.srcBits, f.srcMask = was&^(hostsPerEnd-1), hostsPerEnd-1
	f.ipSum -= uint32(was)
	if f.kind != Echo4 { // which has no pseudo header
		f.sum -= uint32(was)
	}
}

// narrow keeps the sources of a frame that is spread in one /24, or /120.
func (f *frame) narrow() { f.srcMask = 0xff }

// set makes the frame the first packet of a flow.
func (f *frame) set(n flow) {
	dst, src := f.dstBits|n.host(), n.port()
	binary.BigEndian.PutUint16(f.bytes[f.dstLow:], dst)
	binary.BigEndian.PutUint16(f.bytes[f.srcPort:], src)
	addresses := uint32(dst)
	if f.srcLow != 0 {
		from := f.srcBits | n.host()&f.srcMask
		binary.BigEndian.PutUint16(f.bytes[f.srcLow:], from)
		addresses += uint32(from)
	}
	sum := f.sum + uint32(src)
	if f.kind != Echo4 {
		sum += addresses
	}
	if !f.kind.v6() {
		binary.BigEndian.PutUint16(f.bytes[ethernetLen+10:], fold(f.ipSum+addresses))
	}
	check := fold(sum)
	if check == 0 && f.kind.proto() == unix.IPPROTO_UDP {
		check = 0xffff // 0 means that there is none
	}
	binary.BigEndian.PutUint16(f.bytes[f.check:], check)
}

// packet is the frame without its Ethernet header.
func (f *frame) packet() []byte { return f.bytes[ethernetLen:] }

// sum16 adds up 16-bit words.
func sum16(b []byte) uint32 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	return sum
}

// fold makes an Internet checksum (RFC 1071) of a sum.
func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
