package loader

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// CountRuns has the kernel count how often the program runs, or no longer. It costs some time at every run of every
// program on the machine, so it is for moments of doubt.
func (p *Probe) CountRuns(on bool) error {
	if !p.Counts() || on == (p.program.stats != nil) {
		return nil
	}
	if !on {
		err := p.program.stats.Close()
		p.program.stats = nil
		return err
	}
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return fmt.Errorf("count program runs: %w", err)
	}
	p.program.stats = stats
	return nil
}

// Runs is how often the program ran, and how long all its runs took, while CountRuns was on.
func (p *Probe) Runs() (n uint64, took time.Duration, err error) {
	if !p.Counts() {
		return 0, 0, nil
	}
	stats, err := p.program.coll.Programs[programProgKfreeSkb].Stats()
	if err != nil {
		return 0, 0, fmt.Errorf("read program runs: %w", err)
	}
	return stats.RunCount, stats.Runtime, nil
}

// SkippedLooks is how often the program was not run, or did not look, because it was at work on that CPU already: in an
// interrupt. What it did not see then it finds at the next refusal, or Settle does.
func (p *Probe) SkippedLooks() (uint64, error) {
	t, err := p.Tally()
	if err != nil || !p.Counts() {
		return 0, err
	}
	stats, err := p.program.coll.Programs[programProgKfreeSkb].Stats()
	if err != nil {
		return 0, fmt.Errorf("read program statistics: %w", err)
	}
	return t.Skipped + stats.RecursionMisses, nil
}

// Settle counts, by the kernel's counters, what was refused in a namespace and no run of the program has found.
func (p *Probe) Settle(cookie uint64) error {
	if !p.Counts() {
		return nil
	}
	return p.program.settle(cookie)
}

func (p *program) settle(cookie uint64) error {
	settle := p.coll.Programs[programProgSettle]
	for cpu := range ebpf.MustPossibleCPU() {
		_, err := settle.Run(&ebpf.RunOptions{Context: [1]uint64{cookie}, CPU: uint32(cpu), Flags: testRunOnCPU})
		if err != nil && !errors.Is(err, unix.ENXIO) { // ENXIO: offline
			return fmt.Errorf("settle: %w", err)
		}
	}
	return nil
}

// Reattach attaches the program anew. What was counted stays.
func (p *Probe) Reattach() error {
	if !p.Counts() {
		return nil
	}
	return p.program.reattach()
}
