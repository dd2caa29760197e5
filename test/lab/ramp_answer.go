package lab

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const (
	tcpSYN = 1 << 1
	tcpACK = 1 << 4
)

// packet is a frame of the lab that has been received.
type packet struct {
	frame []byte
	proto byte
	l4    int // where the transport header begins
	addr  int // where the source address is; the destination follows
	size  int // of an address
}

// parseFrame takes only what the lab sends, which has no options or extension headers.
func parseFrame(f []byte) (packet, bool) {
	p := packet{frame: f}
	if len(f) < ethernetLen+20+8 {
		return p, false
	}
	ttl := byte(0)
	switch binary.BigEndian.Uint16(f[12:]) {
	case unix.ETH_P_IP:
		p.proto, p.l4, p.addr, p.size, ttl = f[ethernetLen+9], ethernetLen+20, ethernetLen+12, 4, f[ethernetLen+8]
	case unix.ETH_P_IPV6:
		p.proto, p.l4, p.addr, p.size, ttl = f[ethernetLen+6], ethernetLen+40, ethernetLen+8, 16, f[ethernetLen+7]
	}
	if ttl&^1 != labTTL&^1 || len(f) < p.l4+p.headerLen() {
		return p, false
	}
	return p, p.headerLen() > 0
}

// headerLen is the length of the transport header, 0 if it is none of the lab's.
func (p packet) headerLen() int {
	switch p.proto {
	case unix.IPPROTO_TCP:
		return 20
	case unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		return 8
	}
	return 0
}

func (p packet) echo() bool { return p.proto == unix.IPPROTO_ICMP || p.proto == unix.IPPROTO_ICMPV6 }

func (p packet) at16(i int) uint16 { return binary.BigEndian.Uint16(p.frame[i:]) }

// destination and addressLow are the low 16 bits of the addresses.
func (p packet) destination() uint16 { return p.at16(p.addr + 2*p.size - 2) }
func (p packet) addressLow() uint16  { return p.at16(p.addr + p.size - 2) }

// source and targetPort are the ports; of a ping both are the identifier.
func (p packet) source() uint16 {
	if p.echo() {
		return p.at16(p.l4 + 4)
	}
	return p.at16(p.l4)
}

func (p packet) targetPort() uint16 {
	if p.echo() {
		return p.at16(p.l4 + 4)
	}
	return p.at16(p.l4 + 2)
}

// answer makes the answer to the packet of it, as a server or as a client gives it, if there is one.
func (p packet) answer(serves bool) bool {
	l4 := p.frame[p.l4:]
	switch p.proto {
	case unix.IPPROTO_TCP:
		if !answerTCP(l4, serves) {
			return false
		}
	case unix.IPPROTO_UDP:
		if !serves {
			return false
		}
		swap(l4, 2)
	default:
		if !serves || !answerEcho(l4) {
			return false
		}
	}
	swap(p.frame, 6)
	swap(p.frame[p.addr:], p.size)
	p.finish()
	return true
}

// answerTCP answers a SYN with a SYN and ACK, and that with an ACK.
func answerTCP(l4 []byte, serves bool) bool {
	flags, seq := l4[13], binary.BigEndian.Uint32(l4[4:])
	switch {
	case serves && flags == tcpSYN:
		l4[13] = tcpSYN | tcpACK
	case !serves && flags == tcpSYN|tcpACK:
		l4[13] = tcpACK
		copy(l4[4:8], l4[8:12]) // what the peer expects comes next
	default:
		return false
	}
	binary.BigEndian.PutUint32(l4[8:], seq+1)
	swap(l4, 2)
	return true
}

func answerEcho(l4 []byte) bool {
	switch l4[0] {
	case 8:
		l4[0] = 0
	case 128:
		l4[0] = 129
	default:
		return false
	}
	return true
}

// finish sets the TTL and the checksums.
func (p packet) finish() {
	l4 := p.frame[p.l4:]
	check := l4[2:4] // ICMP
	switch p.proto {
	case unix.IPPROTO_TCP:
		check = l4[16:18]
	case unix.IPPROTO_UDP:
		check = l4[6:8]
	}
	clear(check)
	sum := sum16(l4)
	if p.proto != unix.IPPROTO_ICMP {
		sum += sum16(p.frame[p.addr:p.addr+2*p.size]) + uint32(p.proto) + uint32(len(l4))
	}
	folded := fold(sum)
	if folded == 0 && p.proto == unix.IPPROTO_UDP {
		folded = 0xffff // 0 means that there is none
	}
	binary.BigEndian.PutUint16(check, folded)
	ip := p.frame[ethernetLen:]
	if p.size == 16 {
		ip[7] = labTTL
		return
	}
	ip[8] = labTTL
	clear(ip[10:12])
	binary.BigEndian.PutUint16(ip[10:], fold(sum16(ip[:20])))
}

// swap exchanges two neighbours of the same size.
func swap(b []byte, size int) {
	for i := range size {
		b[i], b[size+i] = b[size+i], b[i]
	}
}
