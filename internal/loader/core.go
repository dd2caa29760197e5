package loader

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// core is the loaded and attached BPF program.
type core struct {
	objs    programObjects
	link    link.Link
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

// openCore loads the program, attaches it, and takes what the counters hold as history, CPU by CPU. What is refused
// after it returns is counted, and nothing from before it was called.
func openCore(o Options) (_ *core, err error) {
	if err := checkBTF(); err != nil {
		return nil, err
	}
	if err := checkCapabilities([]capability{capBPF, capPerfmon}); err != nil {
		return nil, err
	}
	cache := btf.NewCache()
	kernel, err := cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's BTF: %w", err)
	}
	if err := checkKernel(kernel); err != nil {
		return nil, err
	}
	// Kernels before 5.11 charge maps to this limit; without CAP_SYS_RESOURCE we try as we are.
	_ = rlimit.RemoveMemlock()

	spec, err := loadProgram()
	if err != nil {
		return nil, fmt.Errorf("read the program: %w", err)
	}
	if err := spec.Variables[programVarSampleIntervalNs].Set(interval(o.Samples)); err != nil {
		return nil, fmt.Errorf("set the sample interval: %w", err)
	}
	if err := spec.Variables[programVarUnloadable].Set(o.Module); err != nil {
		return nil, fmt.Errorf("set unloadable: %w", err)
	}
	room := rooms(ebpf.MustPossibleCPU())
	for _, m := range []string{programMapSlots, programMapTables, programMapFreeSlots} {
		spec.Maps[m].MaxEntries = room
	}
	c := &core{
		gone: map[uint64]time.Time{}, slots: map[uint64]uint32{},
		keys: make([]uint64, room), values: make([]uint32, room),
	}
	if err := spec.LoadAndAssign(&c.objs, &ebpf.CollectionOptions{Cache: cache}); err != nil {
		return nil, explainLoad(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	for slot := range c.objs.FreeSlots.MaxEntries() {
		if err := c.objs.FreeSlots.Put(nil, slot); err != nil {
			return nil, fmt.Errorf("fill the free slots: %w", err)
		}
	}
	if c.ring, err = ringbuf.NewReader(c.objs.Samples); err != nil {
		return nil, fmt.Errorf("open the ring: %w", err)
	}
	if err := c.attach(); err != nil {
		return nil, err
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *core) attach() (err error) {
	if c.link, err = link.AttachTracing(link.TracingOptions{Program: c.objs.KfreeSkb}); err != nil {
		return fmt.Errorf("attach to kfree_skb: %w", err)
	}
	return nil
}

// reattach leaves out nothing and counts nothing twice: the program goes on from the counters it saw last.
func (c *core) reattach() error {
	if err := c.link.Close(); err != nil {
		return fmt.Errorf("detach from kfree_skb: %w", err)
	}
	return c.attach()
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

// explainLoad says what the kernel's refusal means where its own words mislead.
func explainLoad(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("the host's policy refuses the program (EPERM, although we have the capabilities; in a user namespace they do not count): %w", err)
	}
	if lockdown() == "confidentiality" {
		return fmt.Errorf("lockdown=confidentiality keeps programs from reading kernel memory: %w", err)
	}
	return fmt.Errorf("load the program: %w", err)
}

func (c *core) close() error {
	var errs []error
	if c.link != nil {
		errs = append(errs, c.link.Close())
	}
	if c.ring != nil {
		errs = append(errs, c.ring.Close())
	}
	if c.stats != nil {
		errs = append(errs, c.stats.Close())
	}
	return errors.Join(append(errs, c.objs.Close())...)
}
