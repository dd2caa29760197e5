package loader

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// attachCore attaches what looks at each packet that is freed and, where conntrack is a module, what learns that it is
// being unloaded.
func (p *program) attachCore() error {
	if p.module {
		l, err := link.AttachTracing(link.TracingOptions{Program: p.coll.Programs[programProgModuleFree]})
		if err != nil {
			return fmt.Errorf("attach to module_free: %w", err)
		}
		p.links = append(p.links, l)
	}
	if err := p.attachKfree(); err != nil {
		return err
	}
	p.names = append(p.names, "tp_btf/kfree_skb")
	return nil
}

func (p *program) attachKfree() (err error) {
	if p.kfree, err = link.AttachTracing(link.TracingOptions{Program: p.coll.Programs[programProgKfreeSkb]}); err != nil {
		return fmt.Errorf("attach to kfree_skb: %w", err)
	}
	return nil
}

// reattach leaves out nothing and counts nothing twice: the program goes on from the counters it saw last.
func (p *program) reattach() error {
	if err := p.kfree.Close(); err != nil {
		return fmt.Errorf("detach from kfree_skb: %w", err)
	}
	return p.attachKfree()
}

// givesReason reports whether the kernel says why it frees a packet (an argument of its tracepoint since 5.17, EL 8.10 and
// EL 9.0), and has netfilter among the reasons (5.18, EL 9.2). Without, the program looks at every packet that is dropped.
func givesReason(kernel *btf.Spec) bool {
	var trace *btf.Typedef
	if err := kernel.TypeByName("btf_trace_kfree_skb", &trace); err != nil {
		return false
	}
	pointer, ok := btf.UnderlyingType(trace).(*btf.Pointer)
	if !ok {
		return false
	}
	const data, skb, location, reason = 0, 1, 2, 3
	if proto, ok := btf.UnderlyingType(pointer.Target).(*btf.FuncProto); !ok || len(proto.Params) <= reason {
		return false
	}
	var reasons *btf.Enum
	if err := kernel.TypeByName("skb_drop_reason", &reasons); err != nil {
		return false
	}
	for _, name := range []string{"SKB_DROP_REASON_NETFILTER_DROP", "SKB_DROP_REASON_NOT_SPECIFIED"} {
		if !slices.ContainsFunc(reasons.Values, func(v btf.EnumValue) bool { return v.Name == name }) {
			return false
		}
	}
	return true
}
