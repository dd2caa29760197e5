package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostsPerEnd is the number of addresses that are local to each end of a link: 2^15, so that a link's IPv4
// addresses fill a /16.
const hostsPerEnd = 1 << 15

// firstIndex is above the indexes that the kernel gives by itself in a new namespace.
const firstIndex = 1000

// Link is a veth pair between two namespaces.
//
// Each end owns half of 10.i.0.0/16 and of fd00:i::/32 and answers to every address there, so that packets can
// have 32768 destinations times 64512 ports. Neighbours are static and addresses valid at once: nothing but
// what is asked for crosses the link.
type Link struct {
	// A and B are the ends, in the order in which Lab.Link was given the namespaces.
	A, B *End

	number int           // of the lab's links
	next   atomic.Uint32 // the number of the next flow, so that none comes twice
}

// End is one end of a link.
type End struct {
	// Namespace is where the end is.
	Namespace *Namespace
	// Interface is its name there.
	Interface string
	// Index is the interface's index there.
	Index int
	// Addr4 and Addr6 are its main addresses.
	Addr4, Addr6 netip.Addr

	mac          net.HardwareAddr
	half4, half6 netip.Prefix // all its addresses
	peer         *End
	link         *Link
}

// Peer is the other end.
func (e *End) Peer() *End { return e.peer }

// Link connects two namespaces, which may have other links already.
func (l *Lab) Link(a, b *Namespace) (*Link, error) {
	l.mu.Lock()
	i := l.links
	l.links++
	l.mu.Unlock()
	if i > 255 {
		return nil, errors.New("link: a lab has at most 256 links")
	}
	link := &Link{number: i}
	link.A = newEnd(link, a, i, 0)
	link.B = newEnd(link, b, i, 1)
	link.A.peer, link.B.peer = link.B, link.A
	if err := link.make(); err != nil {
		return nil, fmt.Errorf("link %s to %s: %w", a.Name, b.Name, err)
	}
	return link, nil
}

func newEnd(link *Link, n *Namespace, i, side int) *End {
	four := netip.AddrFrom4([4]byte{10, byte(i), byte(side << 7), 1})
	six := netip.AddrFrom16([16]byte{0: 0xfd, 3: byte(i), 5: byte(side), 15: 1})
	return &End{
		Namespace: n,
		Interface: fmt.Sprintf("lab%d%c", i, 'a'+side),
		Addr4:     four,
		Addr6:     six,
		mac:       net.HardwareAddr{2, 0xc7, 0, 0, byte(i), byte(side)},
		half4:     netip.PrefixFrom(four, 17).Masked(),
		half6:     netip.PrefixFrom(six, 48).Masked(),
		link:      link,
	}
}

// make makes the pair in A's namespace, then moves one end.
func (l *Link) make() error {
	b, err := os.Open(l.B.Namespace.Path)
	if err != nil {
		return err
	}
	defer b.Close()
	err = l.A.Namespace.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			// Not the peer's index: then the kernel looks at once whether the link is up, instead of once a second (before 6.12;
			// linkwatch_urgent_event).
			LinkAttrs:        netlink.LinkAttrs{Name: l.A.Interface, HardwareAddr: l.A.mac, Index: firstIndex + l.number},
			PeerName:         l.B.Interface,
			PeerHardwareAddr: l.B.mac,
			PeerNamespace:    netlink.NsFd(b.Fd()),
		})
	})
	if err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	ends := []*End{l.A, l.B}
	for _, end := range ends {
		if err := end.Namespace.Do(end.bringUp); err != nil {
			return err
		}
	}
	for _, end := range ends {
		if err := end.Namespace.Do(end.setUp); err != nil {
			return err
		}
		if err := end.Namespace.countPackets(); err != nil {
			return err
		}
	}
	return nil
}

func (e *End) bringUp() error {
	link, err := netlink.LinkByName(e.Interface)
	if err != nil {
		return err
	}
	e.Index = link.Attrs().Index
	return netlink.LinkSetUp(link)
}

// setUp gives the end its addresses, the neighbour and the routes, once it can send: until the kernel's linkwatch
// has seen the carrier, the queue is noop_qdisc, which loses packets and does not tell. Linkwatch sets the state
// that is waited for and the queue under the lock that adding an address takes too.
func (e *End) setUp() error {
	var link netlink.Link
	err := await(context.Background(), "carrier of "+e.Interface, func() (up bool, err error) {
		link, err = netlink.LinkByName(e.Interface)
		return err == nil && link.Attrs().OperState == netlink.OperUp, err
	})
	if err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, f := range []struct {
		family        int
		addr, gateway netip.Addr
		own, theirs   netip.Prefix
	}{
		{unix.AF_INET, e.Addr4, e.peer.Addr4, e.half4, e.peer.half4},
		{unix.AF_INET6, e.Addr6, e.peer.Addr6, e.half6, e.peer.half6},
	} {
		host := netip.PrefixFrom(f.addr, f.addr.BitLen())
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(host), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add address %s: %w", host, err)
		}
		neighbour := &netlink.Neigh{
			LinkIndex: e.Index, Family: f.family, State: netlink.NUD_PERMANENT,
			IP: f.gateway.AsSlice(), HardwareAddr: e.peer.mac,
		}
		if err := netlink.NeighSet(neighbour); err != nil {
			return fmt.Errorf("set neighbour %s: %w", f.gateway, err)
		}
		for _, route := range []*netlink.Route{
			{LinkIndex: lo.Attrs().Index, Dst: ipNet(f.own), Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: unix.RT_SCOPE_HOST},
			{LinkIndex: e.Index, Dst: ipNet(netip.PrefixFrom(f.gateway, f.gateway.BitLen())), Scope: unix.RT_SCOPE_LINK},
			{LinkIndex: e.Index, Dst: ipNet(f.theirs), Gw: f.gateway.AsSlice(), Flags: unix.RTNH_F_ONLINK},
		} {
			if err := netlink.RouteAdd(route); err != nil {
				return fmt.Errorf("add route to %s: %w", route.Dst, err)
			}
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
