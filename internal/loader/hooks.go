package loader

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// The functions that the hooks are on, net/netfilter/nf_conntrack_core.c. Neither runs for a packet that gets through
// without ado: the first only if a namespace's count is over max, the second only if an entry's tuple is there already.
const (
	earlyDrop    = "early_drop"
	resolveClash = "nf_ct_resolve_clash" // a function of its own since 5.6, EL 8.3
)

func (p *program) attachHooks() error {
	switch p.hooks {
	case Fexit:
		return p.attachFexit()
	case Kprobe:
		return p.attachKprobes()
	}
	return nil
}

func (p *program) attachFexit() error {
	for _, h := range []struct{ function, program string }{
		{earlyDrop, programProgEarlyDropExit}, {resolveClash, programProgClashExit},
	} {
		l, err := link.AttachTracing(link.TracingOptions{Program: p.coll.Programs[h.program]})
		if err != nil {
			return explainAttach("fexit", h.function, err)
		}
		p.hooked(l, "fexit/"+h.function)
	}
	return nil
}

// attachKprobes attaches a pair for each function: a kretprobe sees what it returns and not what it was called with. On a
// kernel whose compiler left no function for clashes, they show in the counters alone.
func (p *program) attachKprobes() error {
	for _, h := range []struct {
		function, call, ret string
		must                bool
	}{
		{earlyDrop, programProgEarlyDropCall, programProgEarlyDropRet, true},
		{resolveClash, programProgClashCall, programProgClashRet, false},
	} {
		call, ret, symbol, err := p.attachPair(h.function, p.coll.Programs[h.call], p.coll.Programs[h.ret])
		if !h.must && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return explainAttach("kprobe", h.function, err)
		}
		if symbol != h.function && !p.core {
			// With the core, the program can check that what it was called with is a namespace.
			err := fmt.Errorf("the kernel has %s as %s only, whose arguments cannot be trusted without the core", h.function, symbol)
			return errors.Join(err, ret.Close(), call.Close())
		}
		p.links = append(p.links, call)
		p.hooked(ret, "kretprobe/"+symbol)
	}
	return nil
}

func (p *program) hooked(l io.Closer, name string) {
	p.links, p.names = append(p.links, l), append(p.names, name)
}

// attachPair attaches to the function under its name or, if the compiler made a variant of it, under that one's. A kernel
// before 5.11 says EINVAL of a function that is not there.
func (p *program) attachPair(function string, onCall, onReturn *ebpf.Program) (call, ret link.Link, symbol string, err error) {
	symbol = function
	if call, err = link.Kprobe(symbol, onCall, nil); errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EINVAL) {
		if symbol, err = variant(function); err != nil {
			return nil, nil, "", err
		}
		call, err = link.Kprobe(symbol, onCall, nil)
	}
	if err != nil {
		return nil, nil, "", err
	}
	if ret, err = link.Kretprobe(symbol, onReturn, nil); err != nil {
		return nil, nil, "", errors.Join(err, call.Close())
	}
	return call, ret, symbol, nil
}

// explainAttach says what the kernel's refusal means where its own words mislead.
func explainAttach(how, function string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("this kernel has no function %s that a %s can be attached to", function, how)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("attach %s to %s: another tracer holds it: %w", how, function, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("attach %s to %s: the host's policy refuses it, although we have the capabilities: %w", how, function, err)
	}
	return fmt.Errorf("attach %s to %s: %w", how, function, err)
}

// Missed is how often a hook was kept from seeing a call, as far as the kernel and the program can tell: because it was at
// work on that CPU already, because too many calls were made at once, or because the packet moved to another CPU.
func (p *Probe) Missed() (uint64, error) {
	if p.program == nil || p.program.hooks == "" {
		return 0, nil
	}
	cpus, err := p.program.cpus()
	if err != nil {
		return 0, err
	}
	var n uint64
	for _, c := range cpus {
		n += c.HitsLost + c.Called - min(c.Called, c.Returned)
	}
	for _, name := range []string{programProgEarlyDropExit, programProgClashExit, programProgEarlyDropCall,
		programProgEarlyDropRet, programProgClashCall, programProgClashRet} {
		prog := p.program.coll.Programs[name]
		if prog == nil {
			continue
		}
		stats, err := prog.Stats()
		if err != nil {
			return 0, fmt.Errorf("read program statistics: %w", err)
		}
		n += stats.RecursionMisses
	}
	return n, nil
}
