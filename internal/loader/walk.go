package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// testRunOnCPU is BPF_F_TEST_RUN_ON_CPU, include/uapi/linux/bpf.h, since 5.10.
const testRunOnCPU = 1

// begin makes the first walk, which separates history from what is counted.
func (p *program) begin() error {
	if _, err := p.coll.Programs[programProgWalkNamespaces].Run(&ebpf.RunOptions{Context: [1]uint64{1}}); err != nil {
		return fmt.Errorf("walk network namespaces: %w", err)
	}
	ready := 0
	for cpu := range ebpf.MustPossibleCPU() {
		switch err := p.walkOn(uint32(cpu)); {
		case errors.Is(err, unix.ENXIO): // offline
		case err != nil:
			return fmt.Errorf("walk network namespaces: %w", err)
		default:
			p.walkCPU = uint32(cpu)
			ready++
		}
	}
	if ready == 0 {
		return errors.New("walk network namespaces: no CPU is online")
	}
	return nil
}

// catchUp counts what was refused before anything was attached, where nothing is history.
func (p *program) catchUp() error {
	if err := p.readSlots(); err != nil {
		return err
	}
	for cookie := range p.slots {
		if err := p.settle(cookie); err != nil {
			return err
		}
	}
	return nil
}

// Walk meets every namespace there is, also those that no process is in and no file names. Namespaces that it no
// longer meets are gone: some time later Tables forgets them. It also begins to count on CPUs that came online.
func (p *Probe) Walk() error {
	if !p.Counts() {
		return nil
	}
	return p.program.walk()
}

func (p *program) walk() error {
	var walk uint32
	if err := p.vars.CurrentWalk.Get(&walk); err != nil {
		return fmt.Errorf("walk network namespaces: %w", err)
	}
	if err := p.vars.CurrentWalk.Set(walk + 1); err != nil {
		return fmt.Errorf("walk network namespaces: %w", err)
	}
	cpus, err := p.cpus()
	if err != nil {
		return err
	}
	for cpu := range cpus {
		if cpus[cpu].Ready != 0 {
			continue
		}
		if err := p.walkOn(uint32(cpu)); err != nil && !errors.Is(err, unix.ENXIO) {
			return fmt.Errorf("walk network namespaces: %w", err)
		}
	}
	err = p.walkOn(p.walkCPU)
	for cpu := 0; cpu < len(cpus) && errors.Is(err, unix.ENXIO); cpu++ { // it went offline
		p.walkCPU = uint32(cpu)
		err = p.walkOn(p.walkCPU)
	}
	if err != nil {
		return fmt.Errorf("walk network namespaces: %w", err)
	}
	return nil
}

// walkOn runs the walk on one CPU to its end. The program stops after some steps, lest it keep the CPU from its
// interrupts.
func (p *program) walkOn(cpu uint32) error {
	for {
		more, err := p.coll.Programs[programProgWalkNamespaces].Run(&ebpf.RunOptions{Context: [1]uint64{0}, CPU: cpu, Flags: testRunOnCPU})
		if err != nil {
			return err
		}
		switch more {
		case 0:
			return nil
		case 1:
		default:
			return errors.New("this CPU's per-CPU offset cannot be found")
		}
	}
}
