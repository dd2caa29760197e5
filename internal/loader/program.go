package loader

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
)

// parts are the parts of the program that a probe is made of.
type parts struct {
	core  bool   // tp_btf/kfree_skb joined with the kernel's counters
	hooks string // on early_drop and nf_ct_resolve_clash: Fexit, Kprobe, or "" for none
}

// program is the loaded and attached BPF program.
type program struct {
	maps programMaps
	vars programVariables
	parts
	module bool // conntrack is a module
	coll   *ebpf.Collection
	links  []io.Closer // of the hooks, and what else lasts as long as the program
	names  []string    // what the links are attached to

	kfree   link.Link // of the core
	ring    *ringbuf.Reader
	record  ringbuf.Record
	walkCPU uint32               // an online CPU, where walks are made
	gone    map[uint64]time.Time // since when a namespace is off the kernel's list, by cookie
	slots   map[uint64]uint32    // by cookie, as of the last Tables
	keys    []uint64             // what readSlots reads into
	values  []uint32
	scratch []programTable // by CPU
	stats   io.Closer      // not nil while the kernel counts program runs
}

// openProgram loads those parts and attaches them. With the core it takes what the counters hold as history, CPU by CPU:
// what is refused after it returns is counted, and nothing from before it was called.
func openProgram(o Options, want parts) (_ *program, err error) {
	if err := checkBTF(); err != nil {
		return nil, err
	}
	if err := checkCapabilities(needs(o, want)); err != nil {
		return nil, err
	}
	cache := btf.NewCache()
	kernel, err := cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's BTF: %w", err)
	}
	p := &program{parts: want, module: o.Module, gone: map[uint64]time.Time{}, slots: map[uint64]uint32{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if err := p.load(o, kernel, cache); err != nil {
		return nil, err
	}
	for slot := range p.maps.FreeSlots.MaxEntries() {
		if err := p.maps.FreeSlots.Put(nil, slot); err != nil {
			return nil, fmt.Errorf("fill the free slots: %w", err)
		}
	}
	if p.ring, err = ringbuf.NewReader(p.maps.Samples); err != nil {
		return nil, fmt.Errorf("open the ring: %w", err)
	}
	// The hooks first: no refusal is looked at whose hook was not there.
	if err := p.attachHooks(); err != nil {
		return nil, err
	}
	if !p.core {
		return p, nil
	}
	if err := p.attachCore(); err != nil {
		return nil, err
	}
	if err := p.begin(); err != nil {
		return nil, err
	}
	if o.Fresh {
		return p, p.catchUp()
	}
	return p, nil
}

func needs(o Options, p parts) []capability {
	needs := []capability{capBPF, capPerfmon}
	if o.Module && p.hooks == Fexit {
		needs = []capability{capSysAdmin} // to find the module's BTF
	}
	return needs
}

// load loads the parts into the kernel.
func (p *program) load(o Options, kernel *btf.Spec, cache *btf.Cache) error {
	spec, err := readProgram()
	if err != nil {
		return fmt.Errorf("read the program: %w", err)
	}
	for name := range spec.Programs {
		if !p.uses(name) {
			delete(spec.Programs, name)
		}
	}
	delete(spec.Maps, programMapLimitWrites)
	for name, value := range map[string]any{
		programVarCore: p.core, programVarGivesReason: givesReason(kernel), programVarUnloadable: o.Module,
		programVarFresh: o.Fresh, programVarSampleIntervalNs: interval(o.Samples),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	room := rooms(ebpf.MustPossibleCPU())
	for _, m := range []string{programMapSlots, programMapTables, programMapFreeSlots} {
		spec.Maps[m].MaxEntries = room
	}
	p.keys, p.values = make([]uint64, room), make([]uint32, room)

	// Kernels before 5.11 charge maps to this limit.
	memlock := rlimit.RemoveMemlock()
	if p.coll, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Cache: cache}); err != nil {
		return explainLoad(err, memlock)
	}
	p.maps = programMaps{
		Cpus:      p.coll.DetachMap(programMapCpus),
		FreeSlots: p.coll.DetachMap(programMapFreeSlots),
		Samples:   p.coll.DetachMap(programMapSamples),
		Slots:     p.coll.DetachMap(programMapSlots),
		Tables:    p.coll.DetachMap(programMapTables),
	}
	return p.coll.Assign(&p.vars)
}

// readProgram reads the compiled program. Without the kernel's compiler of BPF, the kernel cannot call the functions that
// the program would call if there were any: then it is as if there were none.
func readProgram() (*ebpf.CollectionSpec, error) {
	object := _ProgramBytes
	if !jit() {
		object = bytes.ReplaceAll(object, []byte("bpf_rdonly_cast"), []byte("bpf_no_function"))
	}
	return ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
}

// uses reports whether a program of the object belongs to the parts.
func (p *program) uses(name string) bool {
	switch name {
	case programProgKfreeSkb, programProgWalkNamespaces, programProgSettle:
		return p.core
	case programProgModuleFree:
		return p.core && p.module
	case programProgEarlyDropExit, programProgClashExit:
		return p.hooks == Fexit
	case programProgSysctlWrite, programProgSysctlByTask:
		return false // loaded by OpenLimits
	}
	return p.hooks == Kprobe
}

// rooms is for how many network namespaces there is room: the more CPUs, the more memory each takes.
func rooms(cpus int) uint32 { return uint32(min(8192, max(1024, 65536/cpus))) }

// interval is the time between samples in nanoseconds, 0 for none.
func interval(perSecond int) uint64 {
	if perSecond <= 0 {
		return 0
	}
	return max(1, uint64(time.Second)/uint64(perSecond))
}

func (p *program) close() error {
	var errs []error
	if p.kfree != nil {
		errs = append(errs, p.kfree.Close())
	}
	for _, l := range p.links {
		errs = append(errs, l.Close())
	}
	if p.ring != nil {
		errs = append(errs, p.ring.Close())
	}
	if p.stats != nil {
		errs = append(errs, p.stats.Close())
	}
	errs = append(errs, p.maps.Close())
	if p.coll != nil {
		p.coll.Close()
	}
	return errors.Join(errs...)
}
