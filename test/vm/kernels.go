package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ctwatch/ctwatch/test/qemu"
)

// kernel is one that can be booted, and what is expected of it.
type kernel struct {
	qemu.Kernel
	probes string // those that must work there; empty where that is not known
	more   []step // what is tested there beside what is tested everywhere
	alone  bool   // hooks without the core are tested
	gating bool   // its failure is the run's
}

// pinned are the kernels of the gate.
func pinned() []kernel {
	const all = "fexit,kprobe,tracepoint,counters"
	var kernels []kernel
	for _, k := range qemu.Pinned() {
		k := kernel{Kernel: k, gating: true, probes: all}
		switch k.Name {
		case "5.10":
			// No drop reasons (5.17), no cookies (5.12), no BTF of modules (5.11), a limit on locked memory (until 5.11).
			k.probes, k.alone = "kprobe,tracepoint,counters", true
			k.more = []step{
				tests("internal/loader", "^TestLacks$"), tests("internal/watch", "^(TestDeletedNamespaceKeepsItsNumbers|TestHistoryIsNotCounted)$"),
			}
		case "6.12":
			k.more = []step{tests("internal/loader", "^(TestLacks|TestSwitchedOff|TestTwoTracers)$")}
		}
		kernels = append(kernels, k)
	}
	return kernels
}

// chooseKernels finds kernels by name: all pinned ones for no name, the newest pinned of its major for such as 7.x.
func chooseKernels(names []string) ([]kernel, error) {
	all := pinned()
	if len(names) == 0 {
		return all, nil
	}
	var chosen []kernel
	for _, name := range names {
		k, found := kernel{Kernel: qemu.Kernel{Name: qemu.Newest}}, name == qemu.Newest
		for _, p := range all {
			major, any := strings.CutSuffix(name, "x")
			if p.Name == name || any && strings.HasSuffix(major, ".") && strings.HasPrefix(p.Name, major) {
				k, found = p, true // the last is the newest
			}
		}
		if !found {
			return nil, fmt.Errorf("no kernel %q: there are %s", name, strings.Join(kernelNames(), ", "))
		}
		if !slices.ContainsFunc(chosen, func(c kernel) bool { return c.Name == k.Name }) {
			chosen = append(chosen, k)
		}
	}
	return chosen, nil
}

func kernelNames() []string {
	var names []string
	for _, k := range pinned() {
		names = append(names, k.Name)
	}
	return append(names, "7.x", qemu.Newest)
}
