// Package loader chooses a probe, loads and attaches it, and reads what the BPF program counted. It alone imports
// cilium/ebpf.
package loader

import (
	"fmt"
	"runtime/debug"
)

// The probes: the ways to learn of refused packets. docs/architecture.md says what each attaches and sees.
const (
	Auto       = "auto"       // the best that works here
	Fexit      = "fexit"      // early_drop and nf_ct_resolve_clash, plus the core
	Kprobe     = "kprobe"     // the same functions, by kretprobe
	Tracepoint = "tracepoint" // the core: tp_btf/kfree_skb joined with the kernel's counters
	Counters   = "counters"   // no program: the kernel's counters alone
)

// Names lists what Options.Probe may hold.
func Names() []string { return []string{Auto, Fexit, Kprobe, Tracepoint, Counters} }

// Options says what to open.
type Options struct {
	Probe   string // one of Names; "" is Auto
	Samples int    // refused packets to look at closely, per second over all CPUs; 0 is none
	Module  bool   // conntrack is a module that can be unloaded: prefer probes that do not hold it
}

// Skip is a probe that was passed over.
type Skip struct {
	Probe string `json:"probe"`
	Why   string `json:"why"`
}

// UnavailableError is a named probe that cannot work on this machine.
type UnavailableError struct {
	Skip
	Works string // the probe that would work here
}

func (e *UnavailableError) Error() string { return fmt.Sprintf("probe %s: %s", e.Probe, e.Why) }

// Probe is an attached probe. With Counters it holds nothing and counts nothing.
type Probe struct {
	Name    string
	Hooks   []string // what programs are attached to
	Skipped []Skip   // better probes that do not work here

	core *core // nil with Counters
}

// Open attaches the probe that o names, or the best that works. It fails with an *UnavailableError when the named one
// does not work here; Auto never fails, for Counters needs nothing.
func Open(o Options) (*Probe, error) {
	// Parsed BTF takes tens of MiB, and a daemon at rest would keep them until the next collection.
	defer debug.FreeOSMemory()

	if o.Probe != "" && o.Probe != Auto {
		p, err := open(o.Probe, o)
		if err == nil {
			return p, nil
		}
		return nil, &UnavailableError{Skip{o.Probe, err.Error()}, works(o)}
	}
	var skipped []Skip
	for _, name := range order(o.Module) {
		p, err := open(name, o)
		if err == nil {
			p.Skipped = skipped
			return p, nil
		}
		skipped = append(skipped, Skip{name, err.Error()})
	}
	return &Probe{Name: Counters, Skipped: skipped}, nil
}

// order is how Auto tries the probes. A fexit program holds the module it is attached to, so that it cannot be
// unloaded; a kprobe does not.
func order(module bool) []string {
	if module {
		return []string{Kprobe, Tracepoint, Fexit}
	}
	return []string{Fexit, Tracepoint, Kprobe}
}

// works names the probe that Auto would take.
func works(o Options) string {
	o.Probe, o.Samples = Auto, 0
	p, err := Open(o)
	if err != nil {
		return Counters
	}
	_ = p.Close()
	return p.Name
}

func open(name string, o Options) (*Probe, error) {
	switch name {
	case Fexit:
		return nil, checkFexit(o.Module)
	case Kprobe:
		return nil, checkKprobe()
	case Tracepoint:
		c, err := openCore(o)
		if err != nil {
			return nil, err
		}
		return &Probe{Name: Tracepoint, Hooks: []string{"tp_btf/kfree_skb"}, core: c}, nil
	case Counters:
		return &Probe{Name: Counters}, nil
	}
	return nil, fmt.Errorf("no such probe")
}

// Counts reports whether the probe counts by itself; without, there are the kernel's counters alone.
func (p *Probe) Counts() bool { return p.core != nil }

// Close detaches everything and unblocks a ReadSample.
func (p *Probe) Close() error {
	if p.core == nil {
		return nil
	}
	return p.core.close()
}
