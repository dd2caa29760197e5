package lab

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Where is a place at which a firewall drops packets.
type Where int

const (
	// BeforeTracking is a rule in raw priority: connection tracking does not see the packet.
	BeforeTracking Where = iota
	// AfterTracking is a rule in filter priority: the packet has passed connection tracking's lookup, and its
	// new entry, if any, is thrown away unconfirmed.
	AfterTracking
	// ByPolicy is BeforeTracking, by the policy of a chain. Since Linux 6.7 the packet is freed in
	// nft_do_chain rather than in nf_hook_slow.
	ByPolicy
)

// hooks are where a packet meets connection tracking first, by the names of their chains.
var hooks = map[string]*nftables.ChainHook{
	"in":  nftables.ChainHookPrerouting,
	"out": nftables.ChainHookOutput,
}

// Track switches connection tracking on, for IPv4 and IPv6, by a rule that looks at a packet's state and does
// nothing.
func (n *Namespace) Track() error {
	if err := n.countPackets(); err != nil {
		return err
	}
	return n.rules("track connections", func(r *ruleset) {
		for name, hook := range hooks {
			c := r.chain("track_"+name, hook, 0, nftables.ChainPolicyAccept)
			r.rule(c,
				&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
				mask32(expr.CtStateBitUNTRACKED), equal(make([]byte, 4)),
				accept())
		}
	})
}

// Drop has the firewall itself drop UDP packets to a port, arriving or sent from here. [Namespace.Dropped]
// says how many.
func (n *Namespace) Drop(port uint16, where Where) error {
	portIs := binaryutil.BigEndian.PutUint16(port)
	rule := append(protocol(unix.IPPROTO_UDP), transport(2, 2), equal(portIs), &expr.Counter{}, drop())
	return n.rules("drop", func(r *ruleset) {
		for name, hook := range hooks {
			name = fmt.Sprintf("drop_%s_%d", name, port)
			switch where {
			case BeforeTracking:
				r.rule(r.chain(name, hook, -300, nftables.ChainPolicyAccept), rule...)
			case AfterTracking:
				r.rule(r.chain(name, hook, 0, nftables.ChainPolicyAccept), rule...)
			case ByPolicy:
				c := r.chain(name, hook, -300, nftables.ChainPolicyDrop)
				r.rule(c, append(protocolNot(unix.IPPROTO_UDP), accept())...)
				r.rule(c, transport(2, 2), differ(portIs), accept())
				r.rule(c, &expr.Counter{})
			}
		}
	})
}

// Dropped is the number of packets that the rule of [Namespace.Drop] for this port has dropped.
func (n *Namespace) Dropped(port uint16) (uint64, error) {
	var sum uint64
	for name := range hooks {
		count, err := n.count(fmt.Sprintf("drop_%s_%d", name, port))
		if err != nil {
			return 0, err
		}
		sum += count
	}
	return sum, nil
}

// Mute has the namespace drop its own TCP resets and ICMP "unreachable" messages before they are tracked, so
// that nothing answers a packet for which there is no socket.
func (n *Namespace) Mute() error {
	return n.rules("mute", func(r *ruleset) {
		c := r.chain("mute", nftables.ChainHookOutput, -300, nftables.ChainPolicyAccept)
		r.conn.FlushChain(c)
		r.rule(c, append(protocol(unix.IPPROTO_ICMP), transport(0, 1), equal([]byte{3}), drop())...)
		r.rule(c, append(protocol(unix.IPPROTO_ICMPV6), transport(0, 1), equal([]byte{1}), drop())...)
		const rst = 4
		r.rule(c, append(protocol(unix.IPPROTO_TCP), transport(13, 1), mask8(rst), equal([]byte{rst}), drop())...)
	})
}

// Masquerade gives what leaves the namespace the address of the interface by which it leaves. The source port
// stays, unless a confirmed entry has it already.
func (n *Namespace) Masquerade() error {
	return n.rules("masquerade", func(r *ruleset) {
		c := r.nat("masquerade", nftables.ChainHookPostrouting, 100)
		r.conn.FlushChain(c)
		r.rule(c, &expr.Masq{})
	})
}

// ruleset is a batch of changes to the namespace's one table.
type ruleset struct {
	conn  *nftables.Conn
	table *nftables.Table
}

func labTable() *nftables.Table {
	return &nftables.Table{Name: "ctwatch_lab", Family: nftables.TableFamilyINet}
}

// rules makes the changes that add asks for, all or none.
func (n *Namespace) rules(what string, add func(*ruleset)) error {
	err := n.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		r := &ruleset{conn: conn, table: conn.AddTable(labTable())}
		add(r)
		return conn.Flush()
	})
	if err != nil {
		return fmt.Errorf("%s in %s: %w", what, n.Name, err)
	}
	return nil
}

func (r *ruleset) chain(name string, hook *nftables.ChainHook, priority nftables.ChainPriority, policy nftables.ChainPolicy) *nftables.Chain {
	return r.conn.AddChain(&nftables.Chain{
		Name: name, Table: r.table, Type: nftables.ChainTypeFilter,
		Hooknum: hook, Priority: &priority, Policy: &policy,
	})
}

func (r *ruleset) nat(name string, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
	return r.conn.AddChain(&nftables.Chain{
		Name: name, Table: r.table, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: &priority,
	})
}

func (r *ruleset) rule(c *nftables.Chain, exprs ...expr.Any) {
	r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: c, Exprs: exprs})
}

// The expressions of which rules are made: a load into register 1, perhaps a mask, a comparison, a verdict.

func protocol(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{proto})}
}

func protocolNot(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, differ([]byte{proto})}
}

func family(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{proto})}
}

func transport(offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length}
}

func network(offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}
}

func mask32(m uint32) expr.Any { return mask(binaryutil.NativeEndian.PutUint32(m)) }
func mask8(m byte) expr.Any    { return mask([]byte{m}) }

func mask(m []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(m)), Mask: m, Xor: make([]byte, len(m))}
}

func equal(data []byte) expr.Any  { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }
func differ(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: data} }
func accept() expr.Any            { return &expr.Verdict{Kind: expr.VerdictAccept} }
func drop() expr.Any              { return &expr.Verdict{Kind: expr.VerdictDrop} }
