package lab

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFill(t *testing.T) {
	l := openLab(t)
	n := newNamespace(t, l, "fill")
	check(t, l.raise(Max, 101_000)) // a machine with little memory has less
	begin := time.Now()
	check(t, n.Fill(t.Context(), 100_000))
	took := time.Since(begin)
	t.Logf("%.0f entries a second", 100_000/took.Seconds())
	check(t, n.FillEvictable(t.Context(), 1000))
	got, err := n.Entries()
	check(t, err)
	equalOrFail(t, "entries", Entries{Total: 101_000, Replied: 100_000, Assured: 100_000}, got)
	check(t, n.Flush())
	count, err := n.Count()
	check(t, err)
	equalOrFail(t, "count after Flush", 0, count)
}

func TestFillBeyondMax(t *testing.T) {
	l := openLab(t)
	n := newNamespace(t, l, "fill")
	check(t, l.SetLimit(Max, 1000))
	check(t, n.Fill(t.Context(), 1000))
	if err := n.Fill(t.Context(), 1); err == nil {
		t.Error("a full table took another entry")
	}
}

func TestExchange(t *testing.T) {
	l := openLab(t)
	link := linked(t, l)
	n := link.A.Namespace
	check(t, n.Track())
	r, err := link.B.Namespace.Respond(7)
	check(t, err)
	defer r.Close()
	traffic := Traffic{Packets: 20_000, Kinds: []Kind{UDP4, UDP6}, Port: 7}
	sent, err := link.A.Exchange(t.Context(), traffic)
	check(t, err)
	equalOrFail(t, "sent", Sent{20_000, 0, 0}, counts(sent))
	got, err := n.Entries()
	check(t, err)
	got.Assured = 0 // on a slow machine it may be two seconds already
	equalOrFail(t, "entries", Entries{Total: 20_000, Replied: 20_000}, got)

	// Packets of the same connections, until the kernel takes them for streams.
	traffic.Flow = sent.Flow
	err = await(t.Context(), "assured connections", func() (bool, error) {
		if _, err := link.A.Exchange(t.Context(), traffic); err != nil {
			return false, err
		}
		got, err = n.Entries()
		return got.Assured == 20_000, err
	})
	check(t, err)
	equalOrFail(t, "entries", Entries{Total: 20_000, Replied: 20_000, Assured: 20_000}, got)
}

func TestRoute(t *testing.T) {
	l := openLab(t)
	client, router, server := newNamespace(t, l, "client"), newNamespace(t, l, "router"), newNamespace(t, l, "server")
	near, err := l.Link(client, router)
	check(t, err)
	far, err := l.Link(router, server)
	check(t, err)
	check(t, l.Route(near.A, far.B))
	check(t, server.Mute())
	check(t, l.SetLimit(Max, 1000))
	check(t, router.Track())
	check(t, router.Masquerade())

	r, err := server.Respond(7)
	check(t, err)
	defer r.Close()
	sent, err := near.A.Exchange(t.Context(), Traffic{Packets: 500, Kinds: []Kind{UDP4, UDP6}, Port: 7, To: far.B})
	check(t, err)
	equalOrFail(t, "exchanged", Sent{500, 0, 0}, counts(sent))
	entries, err := router.Entries()
	check(t, err)
	equalOrFail(t, "replied in the router", 500, entries.Replied)

	check(t, router.Flush())
	check(t, router.FillUp(t.Context()))
	before, err := server.Counts()
	check(t, err)
	got := counted(t, router, func() {
		sent, err = near.A.Send(t.Context(), Traffic{Packets: 10_000, Kinds: Kinds(), To: far.B})
		check(t, err)
	})
	equalOrFail(t, "sent, as the client sees it", Sent{10_000, 0, 0}, counts(sent))
	equalOrFail(t, "kernel", Counters{Drop: 10_000}, got)
	after, err := server.Counts()
	check(t, err)
	equalOrFail(t, "at the server", Counts{}, after.Sub(before))
}

func TestFramesAreValid(t *testing.T) {
	l := &Link{}
	a, b := newEnd(l, &Namespace{}, 3, 0), newEnd(l, &Namespace{}, 3, 1)
	a.peer, b.peer = b, a
	for i, kind := range slices.Concat(Kinds(), Kinds()) {
		t.Run(kind.String(), func(t *testing.T) {
			f := a.newFrame(b, kind, 53)
			if i >= len(Kinds()) {
				f.spread()
			}
			for _, n := range []flow{0, 1, hosts - 1, hosts, 123456789, hosts*ports - 1} {
				f.set(n)
				ip, l4 := f.bytes[ethernetLen:f.l4], f.bytes[f.l4:]
				pseudo := uint32(kind.proto()) + uint32(len(l4))
				if kind.v6() {
					pseudo += sum16(ip[8:40])
				} else {
					equalOrFail(t, "IPv4 header's sum", 0, fold(sum16(ip)))
					pseudo += sum16(ip[12:20])
				}
				if kind.proto() == unix.IPPROTO_ICMP {
					pseudo = 0
				}
				equalOrFail(t, "transport sum", 0, fold(pseudo+sum16(l4)))
			}
		})
	}
}

func TestFlowsDiffer(t *testing.T) {
	l := &Link{}
	a, b := newEnd(l, &Namespace{}, 0, 0), newEnd(l, &Namespace{}, 0, 1)
	a.peer, b.peer = b, a
	f := a.newFrame(b, UDP4, 9)
	seen := map[uint32]bool{}
	const count = 3 * hosts
	for n := range flow(count) {
		f.set(n)
		seen[uint32(binary.BigEndian.Uint16(f.bytes[f.dstLow:]))<<16|uint32(binary.BigEndian.Uint16(f.bytes[f.srcPort:]))] = true
		dst, _ := netip.AddrFromSlice(f.bytes[f.dstLow-2 : f.dstLow+2])
		if !b.half4.Contains(dst) {
			t.Fatalf("flow %d is for %s, not in %s", n, dst, b.half4)
		}
	}
	equalOrFail(t, "different flows", count, len(seen))

	f.spread()
	sources := map[netip.Addr]bool{}
	for n := range flow(hosts) {
		f.set(n)
		src, _ := netip.AddrFromSlice(f.bytes[f.srcLow-2 : f.srcLow+2])
		if !a.half4.Contains(src) {
			t.Fatalf("flow %d is from %s, not in %s", n, src, a.half4)
		}
		sources[src] = true
	}
	equalOrFail(t, "different sources", hosts, len(sources))

	f.narrow()
	networks := map[netip.Prefix]bool{}
	clear(sources)
	for n := range flow(hosts) {
		f.set(n)
		src, _ := netip.AddrFromSlice(f.bytes[f.srcLow-2 : f.srcLow+2])
		sources[src] = true
		networks[netip.PrefixFrom(src, 24).Masked()] = true
	}
	equalOrFail(t, "different sources in one network", 256, len(sources))
	equalOrFail(t, "networks", 1, len(networks))
}
