package report

import (
	"cmp"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// What the plan for a limit goes by: busy servers are seeded with 524,288, and a table more than a fifth full is a worry.
const (
	leastLimit    = 524288
	mostLimit     = 1 << 30 // the largest power of two that nf_conntrack_max, an int, can hold
	calmFill      = 0.2
	bytesPerEntry = 376 // of kernel memory that no cgroup counts: 256 and 128, less what pages round (6.18)
	bytesPerHash  = 8
)

// plan is what the limit should be.
type plan struct {
	limit   uint64
	buckets uint64 // 0: as they are
	why     string
	cost    string
}

// planFor derives the limit from the peak.
func planFor(i *Incident) plan {
	peak := max(i.PeakCount, 1)
	power := powerOfTwo(5 * peak)
	p := plan{limit: min(max(power, leastLimit), mostLimit)}
	p.why = fmt.Sprintf("the peak of %s divided by %s is %s; the next power of two is %s", several(peak, "entry"), percent(calmFill), number(5*peak), number(power))
	switch {
	case power < leastLimit:
		p.why += fmt.Sprintf(", and %s is the least for a busy machine", number(leastLimit))
	case power > mostLimit:
		p.why += fmt.Sprintf(", and the kernel takes %s at most", number(mostLimit))
	}
	// Each entry is in two chains: with limit/4 buckets a full table has chains of 8.
	if buckets := p.limit / 4; i.Buckets > 0 && i.Buckets < buckets {
		p.buckets = buckets
	}
	p.cost = fmt.Sprintf("about %s of kernel memory when the table is full (%d bytes an entry, for each namespace that fills its own)",
		size(p.limit*bytesPerEntry), bytesPerEntry)
	if p.buckets > 0 {
		p.cost += fmt.Sprintf(", and %s for the buckets (%d bytes each)", size(p.buckets*bytesPerHash), bytesPerHash)
	}
	return p
}

func powerOfTwo(n uint64) uint64 {
	if n <= 1 {
		return 1
	}
	return 1 << min(bits.Len64(n-1), 62)
}

// stepsFor says what to do next, in the order in which to do it.
func stepsFor(i *Incident) []step {
	switch i.VerdictKind {
	case record.VerdictLimitTooSmall:
		return append(raise(i), proof(i)...)
	case record.VerdictLimitLowered:
		return append(restore(i), proof(i)...)
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
		return append(append([]step{lookInto(i), {say("Where few addresses lead, or most entries are marked UNREPLIED, it is a flood: then do %s raise the limit. Else:", stressed("not")), nil}},
			raise(i)...), proof(i)...)
	}
	return append([]step{
		{say("See which protocol trackers and helpers are loaded, and remove those that nobody needs:"),
			[]string{"grep -E '^nf_(conntrack|nat)_' /proc/modules"}},
	}, proof(i)...)
}

// raise is for a limit that is too small, as the machine stands now.
func raise(i *Incident) []step {
	p := planFor(i)
	if after := i.limitNow(); after >= p.limit || after == 0 && i.Limits.Before != 0 {
		if i.Limits.NextBoot != nil && *i.Limits.NextBoot >= p.limit {
			return []step{{say("The limit is %s now, and will be %s after the next boot. The plan was %s (%s): nothing is left to do.",
				stressed(limit(after)), number(*i.Limits.NextBoot), number(p.limit), p.why), nil}}
		}
		return []step{{say("The limit is %s already, which is enough (%s). Have it survive the next boot:", stressed(limit(after)), p.why), persist(cmp.Or(after, p.limit), 0)}}
	}
	verb := "Raise the limit"
	if i.limitNow() > i.Limits.Before {
		verb = "The limit is " + number(i.limitNow()) + " now. Raise it further,"
	}
	steps := []step{{say("%s to %s: %s. It costs %s. This takes effect at once and delays no packet. On the machine itself, not in a container:",
		verb, stressed(number(p.limit)), p.why, p.cost), []string{fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", p.limit)}}}
	if p.buckets > 0 {
		steps = append(steps, step{say("In a calm minute, raise the buckets from %s to %s, so that chains stay short. All tracked traffic waits while the kernel rebuilds its table, for a moment that grows with the number of entries:",
			i.Buckets, p.buckets), []string{setBuckets(p.buckets)}})
	}
	return append(steps, step{say("Have it survive the next boot. The module has to be loaded before the setting is applied, or it is lost:"), persist(p.limit, p.buckets)},
		otherFiles())
}

// persist are commands that write what is not 0 where the next boot finds it, each in a file of its own: one can be written
// again without the other. The files' names sort after 99-sysctl.conf.
func persist(limit, buckets uint64) []string {
	var c []string
	if limit > 0 {
		c = append(c, fmt.Sprintf("echo 'net.netfilter.nf_conntrack_max = %d' > /etc/sysctl.d/99-zz-conntrack-max.conf", limit))
	}
	if buckets > 0 {
		c = append(c, fmt.Sprintf("echo 'net.netfilter.nf_conntrack_buckets = %d' > /etc/sysctl.d/99-zz-conntrack-buckets.conf", buckets))
	}
	return append(c, "echo nf_conntrack > /etc/modules-load.d/conntrack.conf")
}

// otherFiles finds settings that would win.
func otherFiles() step {
	return step{say("See that no other file sets it, too: the last one wins, and %s is read last by %s, not at all by systemd:",
		typed("/etc/sysctl.conf"), typed("sysctl --system")),
		[]string{"grep -rsnE 'nf_conntrack(_max|[*])' /etc/sysctl.conf /etc/sysctl.d /run/sysctl.d /usr/lib/sysctl.d /etc/ufw/sysctl.conf"}}
}

func setBuckets(n uint64) string {
	return fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_buckets=%d || echo %d > /sys/module/nf_conntrack/parameters/hashsize", n, n)
}

// restore is for a limit that somebody lowered.
func restore(i *Incident) []step {
	var steps []step
	to := max(i.Limits.Before, planFor(i).limit)
	for _, c := range i.Changes {
		if c.To < c.From && c.Key == conntrack.KeyMax {
			steps = append(steps, step{sentences(say("Have %s leave the limit alone: it set %s from %s to %s.", who(c.Writer), typed(c.Key), c.From, c.To), knob(c.Writer)), nil})
			to = max(to, c.From)
			break
		}
	}
	if len(steps) == 0 {
		steps = append(steps, step{say("Find what lowered the limit: kube-proxy, tuned, a firewall's scripts and configuration management are known to."), []string{
			"grep -rsnE 'conntrack_max|hashsize' /etc/sysctl.conf /etc/sysctl.d /run/sysctl.d /usr/lib/sysctl.d /etc/tuned /usr/lib/tuned /etc/modprobe.d /etc/ufw"}})
	}
	if i.limitNow() >= to {
		return append(steps, step{say("The limit is %s again. Have it survive the next boot:", i.limitNow()), persist(i.limitNow(), 0)})
	}
	return append(steps,
		step{say("Set it back to %s. On the machine itself, not in a container:", to), []string{fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", to)}},
		step{say("Have it survive the next boot:"), persist(to, 0)}, otherFiles())
}

// knob is how those who are known to set the limit are told not to.
func knob(w record.Writer) line {
	switch comm := strings.ToLower(w.Comm); {
	case strings.HasPrefix(comm, "kube-proxy"):
		return say("Its flag %s sets none at all, %s sets a least one.", typed("--conntrack-max-per-core=0"), typed("--conntrack-min"))
	case strings.HasPrefix(comm, "tuned"):
		return say("%s says which profile it applies; %s in its configuration keeps the limit out.", typed("tuned-adm active"), typed("reapply_sysctl_exclude"))
	case strings.HasPrefix(comm, "pve-firewall"):
		return say("Its option %s in %s is what it sets.", typed("nf_conntrack_max"), typed("host.fw"))
	case strings.HasPrefix(comm, "ufw"):
		return say("It applies %s.", typed("/etc/ufw/sysctl.conf"))
	}
	return nil
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

func moreBuckets(i *Incident) []step {
	want := powerOfTwo(max(i.Limits.After, i.PeakCount, 65536))
	if want <= i.Buckets {
		want = powerOfTwo(2 * i.Buckets)
	}
	want = min(want, 1<<27)
	return []step{
		{say("In a calm minute, raise the buckets from %s to %s: then a table as full as the limit allows has chains of two entries on average. They cost %s (%s bytes each). All tracked traffic waits while the kernel rebuilds its table, for a moment that grows with the number of entries. On the machine itself, not in a container:",
			i.Buckets, want, size(want*bytesPerHash), uint64(bytesPerHash)), []string{setBuckets(want)}},
		{say("Have it survive the next boot, together with the limit as it is. (Never set %s as an option of the module alone: it multiplies the limit by 8.)", typed("hashsize")), persist(i.limitNow(), want)},
		otherFiles(),
	}
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

// limit writes a value of nf_conntrack_max.
func limit(n uint64) string {
	if n == 0 {
		return "0 (none)"
	}
	return number(n)
}
