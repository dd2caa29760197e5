// Package reachable tries the rules of docs/reachable.md: what a server whose table is full still lets in and out.
package reachable

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/test/lab"
	"github.com/ctwatch/ctwatch/test/need"
)

// patience is how long a connection that must work may take.
const patience = 10 * time.Second

// inLab replaces the addresses that stand in the document by those that are here. All are the one neighbour's.
func inLab(text string, neighbour *lab.End) string {
	net4, net6 := netip.PrefixFrom(neighbour.Addr4, 24).Masked().String(), netip.PrefixFrom(neighbour.Addr6, 64).Masked().String()
	return strings.NewReplacer(
		"192.0.2.0/24", net4, "2001:db8:1::/48", net6,
		"198.51.100.7", neighbour.Addr4.String(), "2001:db8:2::7", neighbour.Addr6.String(),
		"198.51.100.53", neighbour.Addr4.String(), "2001:db8:2::53", neighbour.Addr6.String(),
	).Replace(text)
}

// block is what stands in the document between ```kind and ```.
func block(t *testing.T, kind string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/reachable.md")
	check(t, err)
	all := regexp.MustCompile("(?s)\n```"+kind+"\n(.*?)\n```\n").FindAllStringSubmatch(string(text), -1)
	if len(all) != 1 {
		t.Fatalf("there are %d blocks of %s in the document", len(all), kind)
	}
	return all[0][1] + "\n"
}

// withoutNotrack takes away what excepts connections from being tracked, and leaves all that accepts them.
func withoutNotrack(rules string) string {
	var kept []string
	for line := range strings.Lines(rules) {
		if !strings.Contains(line, "notrack") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// plain is the firewall that the document's iptables rules are put in front of: it drops by default.
const plain = `
for ipt in iptables ip6tables; do
	$ipt -F
	$ipt -t raw -F
	$ipt -P INPUT DROP
	$ipt -P OUTPUT DROP
	$ipt -A INPUT -m conntrack --ctstate INVALID -j DROP
	$ipt -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
	$ipt -A INPUT -i lo -j ACCEPT
	$ipt -A INPUT -p tcp --dport 22 -j ACCEPT
	$ipt -A INPUT -p tcp --dport 80 -j ACCEPT
	$ipt -A OUTPUT -m conntrack --ctstate NEW,ESTABLISHED,RELATED -j ACCEPT
done
`

func TestNftables(t *testing.T) {
	need.Root(t)
	need.Tool(t, "nft")
	try(t, func(s scene, rules func(string) string) {
		s.run("flush ruleset\n"+inLab(rules(block(t, "nft")), s.link.A), "nft", "-f", "-")
	})
}

func TestIptables(t *testing.T) {
	need.Root(t)
	need.Tool(t, "iptables-nft")
	try(t, func(s scene, rules func(string) string) {
		s.run("iptables() { iptables-nft \"$@\"; }\nip6tables() { ip6tables-nft \"$@\"; }\n"+
			plain+inLab(rules(block(t, "sh")), s.link.A), "sh", "-eu")
	})
}

// scene is a server and a neighbour that is its administrator, webhook and resolver.
type scene struct {
	*testing.T
	link   *lab.Link
	server *lab.Namespace
}

// try loads the rules, as they are and without what excepts, and looks who gets through while the table has room, and
// while it is full.
func try(t *testing.T, load func(s scene, rules func(string) string)) {
	l, err := lab.Open(t.Context())
	check(t, err)
	t.Cleanup(func() { check(t, l.Close()) })
	neighbour, err := l.Namespace("neighbour")
	check(t, err)
	server, err := l.Namespace("server")
	check(t, err)
	link, err := l.Link(neighbour, server)
	check(t, err)
	check(t, l.SetLimit(lab.Max, 1000))
	s := scene{t, link, server}
	for _, addr := range []netip.Addr{link.B.Addr4, link.B.Addr6, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")} {
		for _, port := range []uint16{22, 80, 10109, 8080} {
			s.listen(server, netip.AddrPortFrom(addr, port))
		}
	}
	for _, addr := range []netip.Addr{link.A.Addr4, link.A.Addr6} {
		for _, port := range []uint16{443, 8443} {
			s.listen(neighbour, netip.AddrPortFrom(addr, port))
		}
		s.echo(netip.AddrPortFrom(addr, 53))
	}

	load(s, func(rules string) string { return rules })
	for _, c := range s.connections() {
		s.works("the table has room", c)
	}
	s.fill()
	for _, c := range s.connections() {
		if c.excepted {
			s.works("the table is full", c)
		} else {
			s.refused("the table is full", c)
		}
	}
	if n, err := server.Count(); err != nil || n != 1000 {
		t.Errorf("%d entries, %v: what is excepted took some", n, err)
	}

	load(s, withoutNotrack)
	check(t, server.Flush())
	for _, c := range s.connections() {
		if c.alsoTracked {
			s.works("nothing is excepted, the table has room", c)
		}
	}
	s.fill()
	for _, c := range s.connections() {
		if c.alsoTracked {
			s.refused("nothing is excepted, the table is full", c)
		}
	}
}

// connection is one that somebody tries.
type connection struct {
	name        string
	network     string // tcp or udp
	from        *lab.Namespace
	to          netip.AddrPort
	excepted    bool // from being tracked
	alsoTracked bool // accepted as well when it is tracked
}

func (s scene) connections() (all []connection) {
	for i, family := range []string{"IPv4", "IPv6"} {
		own := []netip.Addr{s.link.B.Addr4, s.link.B.Addr6}[i]
		theirs := []netip.Addr{s.link.A.Addr4, s.link.A.Addr6}[i]
		lo := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}[i]
		neighbour := s.link.A.Namespace
		for _, c := range []connection{
			{"SSH", "tcp", neighbour, netip.AddrPortFrom(own, 22), true, true},
			{"metrics", "tcp", neighbour, netip.AddrPortFrom(own, 10109), true, false},
			{"a service", "tcp", neighbour, netip.AddrPortFrom(own, 80), false, true},
			{"the webhook", "tcp", s.server, netip.AddrPortFrom(theirs, 443), true, true},
			{"another's port", "tcp", s.server, netip.AddrPortFrom(theirs, 8443), false, true},
			{"the resolver", "udp", s.server, netip.AddrPortFrom(theirs, 53), true, true},
			{"own metrics", "tcp", s.server, netip.AddrPortFrom(lo, 10109), true, true},
			{"own service", "tcp", s.server, netip.AddrPortFrom(lo, 8080), false, true},
		} {
			c.name += " by " + family
			all = append(all, c)
		}
	}
	return all
}

// works holds that a connection comes about, carries data both ways, and that nothing of it was refused.
func (s scene) works(when string, c connection) {
	s.Helper()
	before := s.drops()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	if err := c.exchange(ctx); err != nil {
		s.Errorf("%s: %s: %v", when, c.name, err)
	}
	if n := s.drops() - before; n != 0 {
		s.Errorf("%s: %s: %d packets refused", when, c.name, n)
	}
}

// refused holds that connection tracking refuses a connection's first packet, and that it does not come about.
func (s scene) refused(when string, c connection) {
	s.Helper()
	before := s.drops()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- c.exchange(ctx) }()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for waiting := true; waiting && s.drops() == before; {
		select {
		case err := <-done: // a sender on this host may be told at once
			done <- err
			waiting = false
		case <-poll.C:
		}
	}
	cancel()
	err := <-done
	if err == nil {
		s.Errorf("%s: %s works", when, c.name)
	}
	if s.drops() == before {
		s.Errorf("%s: %s: not refused by connection tracking: %v", when, c.name, err)
	}
}

// exchange sends something and waits for the answer.
func (c connection) exchange(ctx context.Context) error {
	var conn net.Conn
	err := c.from.Do(func() (err error) {
		// On this thread, which is in the namespace; the dialer would use another for a second address.
		conn, err = (&net.Dialer{}).DialContext(ctx, c.network, c.to.String())
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte("?")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// fill fills the table with what is not evicted.
func (s scene) fill() {
	s.Helper()
	check(s.T, s.server.Flush())
	check(s.T, s.server.FillUp(s.Context()))
}

func (s scene) drops() uint32 {
	s.Helper()
	kernel, err := s.server.Kernel()
	check(s.T, err)
	return kernel.Total.Drop
}

// run runs a program in the server's namespace.
func (s scene) run(input, program string, args ...string) {
	s.Helper()
	err := s.server.Do(func() error {
		c := exec.CommandContext(s.Context(), program, args...)
		c.Stdin = strings.NewReader(input)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", program, err, out)
		}
		return nil
	})
	check(s.T, err)
}

// listen answers TCP connections by one byte.
func (s scene) listen(n *lab.Namespace, at netip.AddrPort) {
	s.Helper()
	var listener net.Listener
	check(s.T, n.Do(func() (err error) {
		listener, err = net.Listen("tcp", at.String())
		return err
	}))
	s.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				go func() {
					defer conn.Close()
					if _, err := conn.Read(make([]byte, 1)); err == nil {
						_, _ = conn.Write([]byte("!"))
					}
				}()
			}
		}
	}()
}

// echo answers UDP in the neighbour's namespace.
func (s scene) echo(at netip.AddrPort) {
	s.Helper()
	var conn *net.UDPConn
	check(s.T, s.link.A.Namespace.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	}))
	s.Cleanup(func() { conn.Close() })
	go func() {
		payload := make([]byte, 16)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(payload)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = conn.WriteToUDPAddrPort(payload[:n], from)
			}
		}
	}()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
