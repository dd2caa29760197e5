package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// stepsFor says what to do next, in the order in which to do it.
func (r *Report) stepsFor(i *Incident) []step {
	switch i.VerdictKind {
	case record.VerdictLimitTooSmall:
		return slices.Concat(r.settle(i), raise(i), r.heal(i), proof(i))
	case record.VerdictLimitLowered:
		return slices.Concat(restore(i), r.heal(i), proof(i))
	case record.VerdictFloodFew, record.VerdictFloodMany:
		return append(flood(i), proof(i)...)
	case record.VerdictNoAnswer:
		return append(unanswered(i), proof(i)...)
	case record.VerdictIdleEntries:
		return append(idle(i), proof(i)...)
	case record.VerdictFewBuckets:
		return append(moreBuckets(i), proof(i)...)
	case record.VerdictPortCollision:
		return append(collisions(i), proof(i)...)
	case record.VerdictMemoryShort:
		return append(memory(), proof(i)...)
	case record.VerdictInsertRace:
		return append([]step{
			{say("Find what flushes the table, or removes entries, while traffic flows, and have it stop:"),
				[]string{"grep -rsnE 'conntrack +(-F|-D|--flush|--delete)' /etc/cron* /etc/systemd /usr/local/bin /usr/local/sbin"}},
		}, proof(i)...)
	case record.VerdictUnseen:
		return append([]step{
			{say("See whether Open vSwitch or tc's act_ct run conntrack here. They free the packets that it refuses by themselves:"),
				[]string{"grep -E '^(openvswitch|act_ct) ' /proc/modules", "conntrack -S"}},
			{say("Where they do, the kernel's counters are right, and who suffered can be seen at Open vSwitch:"),
				[]string{"ovs-appctl dpctl/ct-stats-show"}},
		}, proof(i)...)
	case record.VerdictFull:
		return slices.Concat(r.settle(i), []step{lookInto(i), {say("Where few addresses lead, or most entries are marked UNREPLIED, it is a flood: then do %s raise the limit. Else:", stressed("not")), nil}},
			raise(i), r.heal(i), proof(i))
	}
	return append([]step{
		{say("See which protocol trackers and helpers are loaded, and remove those that nobody needs:"),
			[]string{"grep -E '^nf_(conntrack|nat)_' /proc/modules"}},
	}, proof(i)...)
}

// flood is for a table full of what nobody answers.
func flood(i *Incident) []step {
	steps := []step{{say("Do %s raise the limit for this: a higher one is filled with more of the flood.", stressed("not")), nil}}
	proto, port := service(i)
	source := topNet(i)
	if i.VerdictKind == record.VerdictFloodFew && source != "" {
		family := "ip"
		if strings.Contains(source, ":") {
			family = "ip6"
		}
		steps = append(steps,
			step{say("See what the entries of the largest source, %s, are:", named(source)), []string{fmt.Sprintf("conntrack -L -s %s | head -n 20", source)}},
			step{say("If nobody needs it, drop it before conntrack sees it (%s). Look twice, for this cuts the source off; the last command takes it back:", inside(i)), []string{
				"nft add table inet ctshield",
				"nft 'add chain inet ctshield pre { type filter hook prerouting priority raw; }'",
				"nft add rule inet ctshield pre " + family + " saddr " + source + " counter drop",
				"nft delete table inet ctshield   # takes it back"}},
			step{say("If the source is a program of your own, it runs on the machine that has this address: find and mend it there."), nil})
	} else {
		steps = append(steps, lookInto(i))
		if port != "" {
			steps = append(steps, step{say("If %s is a service that needs no state (such as a public DNS server), keep it out of conntrack, both ways (%s). Not where NAT or a stateful rule depends on it; the last command takes it back:",
				typed(proto+"/"+port), inside(i)), []string{
				"nft add table inet ctshield",
				"nft 'add chain inet ctshield pre { type filter hook prerouting priority raw; }'",
				"nft 'add chain inet ctshield out { type filter hook output priority raw; }'",
				"nft add rule inet ctshield pre " + proto + " dport " + port + " notrack",
				"nft add rule inet ctshield pre " + proto + " sport " + port + " notrack",
				"nft add rule inet ctshield out " + proto + " dport " + port + " notrack",
				"nft add rule inet ctshield out " + proto + " sport " + port + " notrack",
				"nft delete table inet ctshield   # takes it back"}})
		}
	}
	return append(steps, step{say("Have entries that nobody answers end sooner (%s). These are seconds; the kernel's own values are %s:", inside(i), defaults(proto)), timeouts(proto)})
}

// unanswered is for own clients that ask one destination in vain.
func unanswered(i *Incident) []step {
	proto, port := service(i)
	to := ""
	if i.Fillers != nil && len(i.Fillers.Dst) > 0 && isAddress(i.Fillers.Dst[0].Key) {
		to = i.Fillers.Dst[0].Key
	}
	var steps []step
	if to != "" {
		look := step{say("See whether %s answers by now, and what is between here and there:", named(to)), []string{"ping -c 3 " + to, "ip route get " + to}}
		if proto == "tcp" && port != "" {
			look.Commands[0] = "timeout 3 bash -c '</dev/tcp/" + to + "/" + port + "' && echo answers"
		}
		steps = append(steps, look, step{say("See who asks (%s):", inside(i)), []string{"conntrack -L -d " + to + " | head -n 20"}})
	}
	return append(steps,
		step{say("Do %s raise the limit for this: retries fill a higher one, too. And the clients are no attackers.", stressed("not")), nil},
		step{say("Have entries that nobody answers end sooner (%s). These are seconds; the kernel's own values are %s:", inside(i), defaults(proto)), timeouts(proto)})
}

func isAddress(text string) bool {
	a, err := netip.ParseAddr(text)
	return err == nil && a.Zone() == ""
}

func timeouts(proto string) []string {
	tcp := []string{"sysctl -w net.netfilter.nf_conntrack_tcp_timeout_syn_sent=20", "sysctl -w net.netfilter.nf_conntrack_tcp_timeout_syn_recv=20"}
	udp := []string{"sysctl -w net.netfilter.nf_conntrack_udp_timeout=10"}
	switch proto {
	case "tcp":
		return tcp
	case "udp":
		return udp
	}
	return append(tcp, udp...)
}

func defaults(proto string) string {
	switch proto {
	case "tcp":
		return "120 and 60"
	case "udp":
		return "30"
	}
	return "120, 60 and 30"
}

// service is the protocol and port that most entries are for, where the walk tells: of TCP and UDP only.
func service(i *Incident) (proto, port string) {
	if i.Fillers == nil || len(i.Fillers.Dport) == 0 {
		return "", ""
	}
	top := i.Fillers.Dport[0]
	proto, port, _ = strings.Cut(top.Key, "/")
	if proto != "tcp" && proto != "udp" {
		return "", ""
	}
	if port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "" || top.Share < 0.5 {
		return proto, ""
	}
	return proto, port
}

// topNet is the network that most entries come from, or the address if it is one alone; "" where the walk does not tell,
// or tells no address.
func topNet(i *Incident) string {
	if i.Fillers == nil {
		return ""
	}
	if len(i.Fillers.Src) > 0 && len(i.Fillers.SrcNet) > 0 && i.Fillers.Src[0].Share > 0.9*i.Fillers.SrcNet[0].Share {
		if safe := address(i.Fillers.Src[0].Key); safe != "" {
			return safe
		}
	}
	if len(i.Fillers.SrcNet) > 0 {
		return address(i.Fillers.SrcNet[0].Key)
	}
	return ""
}

// address is an address or a network that can stand in a command, "" for anything else. A masked one stands for itself.
func address(s string) string {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return a.String()
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.String()
	}
	if isMask(s) {
		return s
	}
	return ""
}

// inside says where a command has to run.
func inside(i *Incident) string {
	if i.Host {
		return "on the machine itself"
	}
	return fmt.Sprintf("in the namespace: nsenter -n -t PID, with a PID that lsns -t net %d shows", i.NS)
}

// idle is for entries that long timeouts keep.
func idle(i *Incident) []step {
	const timeout = 7440 // RFC 5382: not less than 2 hours 4 minutes
	text := say("Have established TCP connections be forgotten after 2 hours and 4 minutes of silence (the least that RFC 5382 allows) instead of the kernel's 5 days (%s). A connection that is silent for longer, and has no keepalive, will be cut:", inside(i))
	steps := []step{{text, []string{fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=%d", timeout)}}}
	steps = append(steps, step{say("Entries that are there keep their old timeout until their next packet. See how many there are; they end by themselves within the old timeout:"),
		[]string{"conntrack -C"}})
	return append(steps, step{say("Have it survive the next boot. The module has to be loaded before the setting is applied, or it is lost:"), []string{
		fmt.Sprintf("echo 'net.netfilter.nf_conntrack_tcp_timeout_established = %d' > /etc/sysctl.d/99-zz-conntrack-timeouts.conf", timeout),
		"echo nf_conntrack > /etc/modules-load.d/conntrack.conf"}})
}

func collisions(i *Incident) []step {
	return []step{
		{say("Find the rules that translate source addresses (%s):", inside(i)), []string{
			"nft list ruleset | grep -nE 'masquerade|snat'", "iptables-save -t nat | grep -nE 'MASQUERADE|SNAT'"}},
		{say("Have them choose ports at random: add %s to a rule of nft, %s to one of iptables. Where a service opens very many connections to one destination, give it more source addresses: each brings some 64,000 ports.",
			typed("fully-random"), typed("--random-fully")), nil},
		{say("If what is refused is DNS over UDP: have resolvers not send A and AAAA at once from one port. In %s:", typed("/etc/resolv.conf")), []string{"options single-request-reopen"}},
	}
}

func memory() []step {
	return []step{
		{say("Do %s raise the limit for this: each entry takes memory. See what takes it, and what the kernel says:", stressed("not")), []string{
			"free -m", "grep -E '^(nf_conntrack|kmalloc-128) ' /proc/slabinfo", "dmesg | grep -iE 'page allocation failure|oom'"}},
		{say("Keep more memory free for what cannot wait, such as packets: twice as much as now. It is taken from everything else:"),
			[]string{"sysctl -w vm.min_free_kbytes=$(($(sysctl -n vm.min_free_kbytes) * 2))"}},
	}
}

// lookInto is for a table of which too little is known.
func lookInto(i *Incident) step {
	return step{say("See who fills the table, by source (%s):", inside(i)), []string{
		"conntrack -L 2>/dev/null | grep -oE '^[^=]*src=[^ ]+' | grep -oE 'src=.*' | sort | uniq -c | sort -rn | head -n 20",
		"conntrack -L 2>/dev/null | grep -c UNREPLIED; conntrack -C"}}
}

// proof is how to see that it helped.
func proof(i *Incident) []step {
	ago := "1h"
	if i.Duration > time.Hour.Nanoseconds() {
		ago = "24h"
	}
	return []step{{say("See that it helped:"), []string{"ctwatch report --since " + ago}}}
}
