package lab

import (
	"fmt"
	"math"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// labTTL is the TTL or hop limit of the lab's packets, by which counters tell them from what else is sent: one
// router on the way still leaves them labTTL-1, and labTTL is odd, so that one mask fits both.
const labTTL = 61

// Counts are the lab's packets that one namespace has seen, counted by firewall rules, which know nothing of
// connection tracking. Kernel-made answers are not among them.
type Counts struct {
	Arrived   uint64 // at PREROUTING, before connection tracking and the firewall
	Passed    uint64 // at PREROUTING, after connection tracking's lookup, which refuses when the table is full
	Delivered uint64 // at INPUT, after confirm, which refuses for clashes and long chains
	Left      uint64 // at POSTROUTING, after confirm: forwarded, or sent from here
}

// Sub returns what was counted since old.
func (c Counts) Sub(old Counts) Counts {
	return Counts{
		Arrived:   c.Arrived - old.Arrived,
		Passed:    c.Passed - old.Passed,
		Delivered: c.Delivered - old.Delivered,
		Left:      c.Left - old.Left,
	}
}

// countPackets installs the counters, once. It must come before the namespace tracks: of hooks with the same
// priority, the one registered last is called first (nf_hook_entries_grow), and confirm is to come before ours.
func (n *Namespace) countPackets() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.counted {
		return nil
	}
	err := n.rules("count packets", func(r *ruleset) {
		for _, at := range []struct {
			name     string
			hook     *nftables.ChainHook
			priority nftables.ChainPriority
		}{
			{"arrived", nftables.ChainHookPrerouting, -350},
			{"passed", nftables.ChainHookPrerouting, -199},
			{"delivered", nftables.ChainHookInput, math.MaxInt32},
			{"left", nftables.ChainHookPostrouting, math.MaxInt32},
		} {
			c := r.chain(at.name, at.hook, at.priority, nftables.ChainPolicyAccept)
			for _, m := range labPackets() {
				r.rule(c, append(m, &expr.Counter{})...)
			}
		}
	})
	n.counted = err == nil
	return err
}

// Counts reads the counters. Only a namespace that tracks or has a [Link] has them.
func (n *Namespace) Counts() (c Counts, err error) {
	for name, v := range map[string]*uint64{
		"arrived": &c.Arrived, "passed": &c.Passed, "delivered": &c.Delivered, "left": &c.Left,
	} {
		if *v, err = n.count(name); err != nil {
			return Counts{}, err
		}
	}
	return c, nil
}

// labPackets are matches for the lab's packets, one for IPv4 and one for IPv6.
func labPackets() [][]expr.Any {
	ours := []expr.Any{mask8(^byte(1)), equal([]byte{labTTL &^ 1})}
	return [][]expr.Any{
		slices.Concat(family(unix.NFPROTO_IPV4), []expr.Any{network(8, 1)}, ours),
		slices.Concat(family(unix.NFPROTO_IPV6), []expr.Any{network(7, 1)}, ours),
	}
}

// count is the sum of the counters in a chain.
func (n *Namespace) count(chain string) (uint64, error) {
	var sum uint64
	err := n.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		rules, err := conn.GetRules(labTable(), &nftables.Chain{Name: chain, Table: labTable()})
		if err != nil {
			return err
		}
		for _, rule := range rules {
			for _, e := range rule.Exprs {
				if c, ok := e.(*expr.Counter); ok {
					sum += c.Packets
				}
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read counters of chain %s in %s: %w", chain, n.Name, err)
	}
	return sum, nil
}
