// Package loader chooses a probe, loads and attaches it, and reads what the BPF program counted. It alone imports
// cilium/ebpf.
package loader

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
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
	Fresh   bool   // conntrack was loaded since the caller last looked: what its counters hold counts, nothing is history
	Alone   bool   // hooks without the core, as on kernels where the core cannot run
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
	Skipped []Skip   // better probes that do not work here, and Tracepoint if the hooks are alone

	program *program // nil with Counters
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
			for _, s := range skipped {
				if !slices.ContainsFunc(p.Skipped, func(o Skip) bool { return o.Probe == s.Probe }) {
					p.Skipped = append(p.Skipped, s)
				}
			}
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
		if err := checkFexit(o); err != nil {
			return nil, err
		}
		return openHooks(o, Fexit)
	case Kprobe:
		if err := checkKprobe(); err != nil {
			return nil, err
		}
		return openHooks(o, Kprobe)
	case Tracepoint:
		p, err := openProgram(o, parts{core: true})
		if err != nil {
			return nil, err
		}
		return newProbe(Tracepoint, p), nil
	case Counters:
		return &Probe{Name: Counters}, nil
	}
	return nil, fmt.Errorf("no such probe")
}

// openHooks attaches hooks and the core or, where the core cannot run, hooks alone.
func openHooks(o Options, hooks string) (*Probe, error) {
	why := errors.New("left out")
	if !o.Alone {
		var p *program
		if p, why = openProgram(o, parts{core: true, hooks: hooks}); why == nil {
			return newProbe(hooks, p), nil
		}
	}
	p, err := openProgram(o, parts{hooks: hooks})
	if err != nil {
		return nil, err
	}
	probe := newProbe(hooks, p)
	probe.Skipped = []Skip{{Tracepoint, why.Error()}}
	return probe, nil
}

func newProbe(name string, p *program) *Probe { return &Probe{Name: name, Hooks: p.names, program: p} }

// Counts reports whether the probe counts every refusal by itself. Without, the kernel's counters do, and hooks, if there
// are any, tell causes apart.
func (p *Probe) Counts() bool { return p.program != nil && p.program.core }

// Hooked reports whether there are hooks on the functions that refuse packets.
func (p *Probe) Hooked() bool { return p.program != nil && p.program.hooks != "" }

// HoldsModule reports whether the module nf_conntrack cannot be unloaded while the probe is open.
func (p *Probe) HoldsModule() bool {
	return p.program != nil && p.program.hooks == Fexit && p.program.module
}

// Close detaches everything and unblocks a ReadEvent.
func (p *Probe) Close() error {
	if p.program == nil {
		return nil
	}
	return p.program.close()
}
