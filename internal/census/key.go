package census

import (
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// The length of the networks that sources are gathered in: what one holder usually has at the least.
const (
	net4 = 24
	net6 = 64
)

// network returns the first address of the network that an address is in.
func network(a netip.Addr) netip.Addr {
	p, _ := a.Prefix(netBits(a)) // fails for a length beyond the address only
	return p.Addr()
}

// networkText writes a network by its first address.
func networkText(first netip.Addr) string {
	return netip.PrefixFrom(first, netBits(first)).String()
}

func netBits(a netip.Addr) int {
	if a.Is4() {
		return net4
	}
	return net6
}

// service is a destination port of a protocol.
type service struct {
	port  uint16
	proto uint8
}

func (s service) String() string {
	return conntrack.ProtoName(s.proto) + "/" + strconv.Itoa(int(s.port))
}

// hasPorts reports whether what stands in the place of ports is ports.
func hasPorts(proto uint8) bool {
	switch proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_UDPLITE, unix.IPPROTO_SCTP:
		return true
	}
	return false
}

// state is what the tracker of a protocol says of an entry, or whether it was replied to, where the tracker has no states.
type state struct {
	proto     uint8
	number    uint8
	replied   bool // not of protocols with states, nor of offloaded entries
	offloaded bool // so that the kernel does not tell the number
}

func stateOf(e *Entry) state {
	s := state{proto: e.Proto}
	switch {
	case statesOf(e.Proto) == nil:
		s.replied = e.Replied()
	case e.State == 0 && e.offloaded():
		s.offloaded = true
	default:
		s.number = e.State
	}
	return s
}

func (s state) String() string {
	text, names := conntrack.ProtoName(s.proto)+"/", statesOf(s.proto)
	switch {
	case s.offloaded:
		return text + "OFFLOAD"
	case int(s.number) < len(names):
		return text + names[s.number]
	case names != nil:
		return text + strconv.Itoa(int(s.number))
	case s.replied:
		return text + "replied"
	}
	return text + "unreplied"
}

// tcpEstablished is TCP_CONNTRACK_ESTABLISHED.
const tcpEstablished = 3

// statesOf returns the names of a protocol's states by their numbers, as in nf_conntrack_proto_tcp.c and
// nf_conntrack_proto_sctp.c; nil where it has none.
func statesOf(proto uint8) []string {
	switch proto {
	case unix.IPPROTO_TCP:
		return tcpStates[:]
	case unix.IPPROTO_SCTP:
		return sctpStates[:]
	}
	return nil
}

var tcpStates = [...]string{
	"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2",
}

var sctpStates = [...]string{
	"NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT",
	"HEARTBEAT_SENT",
}
