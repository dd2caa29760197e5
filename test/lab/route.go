package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Route makes a router of the namespace that both ends' links lead to: client and server reach each other's
// addresses through it. Send there with [Traffic].To.
func (l *Lab) Route(client, server *End) error {
	router := client.peer.Namespace
	if router != server.peer.Namespace {
		return fmt.Errorf("route %s to %s: no namespace between them", client.Namespace.Name, server.Namespace.Name)
	}
	err := router.Do(func() error {
		if err := sysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
		return sysctl("net/ipv6/conf/all/forwarding", "1")
	})
	if err != nil {
		return fmt.Errorf("make router of %s: %w", router.Name, err)
	}
	if err := client.routeTo(server); err != nil {
		return err
	}
	return server.routeTo(client)
}

// routeTo adds routes to the addresses of a distant end, by the peer.
func (e *End) routeTo(far *End) error {
	err := e.Namespace.Do(func() error {
		for _, r := range []*netlink.Route{
			{LinkIndex: e.Index, Dst: ipNet(far.half4), Gw: e.peer.Addr4.AsSlice(), Flags: unix.RTNH_F_ONLINK},
			{LinkIndex: e.Index, Dst: ipNet(far.half6), Gw: e.peer.Addr6.AsSlice(), Flags: unix.RTNH_F_ONLINK},
		} {
			if err := netlink.RouteAdd(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("add route from %s to %s: %w", e.Namespace.Name, far.Namespace.Name, err)
	}
	return nil
}
