package lab

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Path is a client and a server, each in a namespace, and a router between them that tracks their connections.
type Path struct {
	// Router tracks. Its entries last for a day, replied to or not, so that none expires during a ramp.
	Router *Namespace
	// Client and Server are the ends, linked to the router. The router takes all their addresses for those of machines
	// beyond: nothing that it sends reaches the namespace's own IP, see [Path.Ramp].
	Client, Server *End
}

// Path makes a path: name is the router's, and what the ends' names begin with.
func (l *Lab) Path(name string) (*Path, error) {
	var spaces [3]*Namespace
	for i, n := range []string{name + "-client", name, name + "-server"} {
		var err error
		if spaces[i], err = l.Namespace(n); err != nil {
			return nil, err
		}
	}
	near, err := l.Link(spaces[0], spaces[1])
	if err != nil {
		return nil, err
	}
	far, err := l.Link(spaces[1], spaces[2])
	if err != nil {
		return nil, err
	}
	p := &Path{Router: spaces[1], Client: near.A, Server: far.B}
	if err := l.Route(p.Client, p.Server); err != nil {
		return nil, err
	}
	if err := p.Router.Track(); err != nil {
		return nil, err
	}
	if err := p.Router.Do(p.setUp); err != nil {
		return nil, fmt.Errorf("set up path through %s: %w", p.Router.Name, err)
	}
	return p, nil
}

// setUp makes entries last, and has the router send to the machines beyond.
func (p *Path) setUp() error {
	for _, timeout := range []string{
		"tcp_timeout_syn_sent", "tcp_timeout_syn_recv", "udp_timeout", "udp_timeout_stream", "icmp_timeout", "icmpv6_timeout",
	} {
		if err := sysctl("net/netfilter/nf_conntrack_"+timeout, fmt.Sprint(int(fillTimeout.Seconds()))); err != nil {
			return err
		}
	}
	for _, end := range []*End{p.Client, p.Server} {
		for _, addr := range []netip.Addr{end.Addr4, end.Addr6} {
			family := unix.AF_INET
			if addr.Is6() {
				family = unix.AF_INET6
			}
			neighbour := &netlink.Neigh{
				LinkIndex: end.peer.Index, Family: family, State: netlink.NUD_PERMANENT,
				IP: addr.AsSlice(), HardwareAddr: beyond(end.mac),
			}
			if err := netlink.NeighSet(neighbour); err != nil {
				return fmt.Errorf("set neighbour %s: %w", addr, err)
			}
		}
	}
	return nil
}

// beyond is the address of a machine behind an end. The end's own IP passes over frames for it (PACKET_OTHERHOST), and
// who reads from the wire does not.
func beyond(mac net.HardwareAddr) net.HardwareAddr {
	other := slices.Clone(mac)
	other[2] ^= 1
	return other
}
