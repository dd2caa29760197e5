package census

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

func TestNetwork(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.77":          "192.0.2.0/24",
		"0.0.0.0":             "0.0.0.0/24",
		"2001:db8:1:2:3::4":   "2001:db8:1:2::/64",
		"2001:DB8:0:0:1:0::1": "2001:db8::/64",
		"::ffff:192.0.2.77":   "::/64", // an IPv6 entry: what is mapped in it is another's
		"fe80::1":             "fe80::/64",
	} {
		if got := networkText(network(netip.MustParseAddr(addr))); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestTexts(t *testing.T) {
	tests := []struct {
		entry        Entry
		proto, state string
		dport        string // "" where there is none
	}{
		{Entry{Proto: unix.IPPROTO_TCP, State: 1, DstPort: 443}, "tcp", "tcp/SYN_SENT", "tcp/443"},
		{Entry{Proto: unix.IPPROTO_TCP, State: 3, Status: ipsSeenReply}, "tcp", "tcp/ESTABLISHED", "tcp/0"},
		{Entry{Proto: unix.IPPROTO_TCP, State: 9}, "tcp", "tcp/SYN_SENT2", "tcp/0"},
		{Entry{Proto: unix.IPPROTO_TCP, State: 10}, "tcp", "tcp/10", "tcp/0"},
		{Entry{Proto: unix.IPPROTO_TCP}, "tcp", "tcp/NONE", "tcp/0"},
		{Entry{Proto: unix.IPPROTO_TCP, Status: ipsOffload | ipsAssured | ipsSeenReply}, "tcp", "tcp/OFFLOAD", "tcp/0"},
		{Entry{Proto: unix.IPPROTO_SCTP, State: 4}, "sctp", "sctp/ESTABLISHED", "sctp/0"},
		{Entry{Proto: unix.IPPROTO_UDP, DstPort: 53}, "udp", "udp/unreplied", "udp/53"},
		{Entry{Proto: unix.IPPROTO_UDP, Status: ipsSeenReply | ipsOffload}, "udp", "udp/replied", "udp/0"},
		{Entry{Proto: unix.IPPROTO_ICMP, Status: ipsSeenReply}, "icmp", "icmp/replied", ""},
		{Entry{Proto: unix.IPPROTO_ICMPV6}, "icmpv6", "icmpv6/unreplied", ""},
		{Entry{Proto: unix.IPPROTO_GRE, SrcPort: 5, DstPort: 6}, "gre", "gre/unreplied", ""},
		{Entry{Proto: unix.IPPROTO_DCCP}, "dccp", "dccp/unreplied", ""},
		{Entry{Proto: unix.IPPROTO_UDPLITE, DstPort: 65535}, "udplite", "udplite/unreplied", "udplite/65535"},
		{Entry{Proto: 89}, "89", "89/unreplied", ""},
	}
	for _, tt := range tests {
		e := tt.entry
		var dport string
		if hasPorts(e.Proto) {
			dport = service{e.DstPort, e.Proto}.String()
		}
		if proto, state := conntrack.ProtoName(e.Proto), stateOf(&e).String(); proto != tt.proto || state != tt.state || dport != tt.dport {
			t.Errorf("%+v: %s %s %s, want %s %s %s", e, proto, state, dport, tt.proto, tt.state, tt.dport)
		}
	}
}
