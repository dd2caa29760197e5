package main

import (
	"fmt"
	"slices"
	"strings"
)

// kernel is one that can be booted.
type kernel struct {
	name     string
	suite    string
	packages []pkg
	probes   string // those that must work there; empty where that is not known
	more     []step // what is tested there beside what is tested everywhere
	alone    bool   // hooks without the core are tested
	gating   bool   // its failure is the run's
}

// pkg is a package of one version.
type pkg struct{ name, version string }

func (p pkg) String() string { return p.name + "=" + p.version }

// newest is the name of the newest kernel that the distribution offers for trial, whichever it is today.
const newest = "newest"

// newestSuites are where it is looked for.
var newestSuites = []string{"trixie-backports", "sid"}

// pinned are the kernels of the gate. When one has left the mirror, the one that replaced it there goes here.
func pinned() []kernel {
	const all = "fexit,kprobe,tracepoint,counters"
	return []kernel{
		// No drop reasons (5.17), no cookies (5.12), no BTF of modules (5.11), a limit on locked memory (until 5.11).
		{
			name: "5.10", suite: "bullseye-security", gating: true, probes: "kprobe,tracepoint,counters", alone: true,
			packages: []pkg{{"linux-image-5.10.0-46-cloud-amd64", "5.10.262-1"}},
			more: []step{
				tests("internal/loader", "^TestLacks$"), tests("internal/watch", "^(TestDeletedNamespaceKeepsItsNumbers|TestHistoryIsNotCounted)$"),
			},
		},
		{
			name: "6.1", suite: "bookworm-security", gating: true, probes: all,
			packages: []pkg{{"linux-image-6.1.0-56-cloud-amd64", "6.1.192-2"}},
		},
		{
			name: "6.12", suite: "trixie-security", gating: true, probes: all,
			packages: []pkg{{"linux-image-6.12.118+deb13-cloud-amd64", "6.12.118-1"}},
			more:     []step{tests("internal/loader", "^(TestLacks|TestSwitchedOff|TestTwoTracers)$")},
		},
		{
			name: "7.3", suite: "trixie-backports", gating: true, probes: all,
			packages: []pkg{
				{"linux-binary-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"},
				{"linux-modules-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"},
			},
		},
	}
}

// chooseKernels finds kernels by name: all pinned ones for no name, the newest pinned of its major for such as 7.x.
func chooseKernels(names []string) ([]kernel, error) {
	all := pinned()
	if len(names) == 0 {
		return all, nil
	}
	var chosen []kernel
	for _, name := range names {
		k, found := kernel{name: newest}, name == newest
		for _, p := range all {
			major, any := strings.CutSuffix(name, "x")
			if p.name == name || any && strings.HasSuffix(major, ".") && strings.HasPrefix(p.name, major) {
				k, found = p, true // the last is the newest
			}
		}
		if !found {
			return nil, fmt.Errorf("no kernel %q: there are %s", name, strings.Join(kernelNames(), ", "))
		}
		if !slices.ContainsFunc(chosen, func(c kernel) bool { return c.name == k.name }) {
			chosen = append(chosen, k)
		}
	}
	return chosen, nil
}

func kernelNames() []string {
	var names []string
	for _, k := range pinned() {
		names = append(names, k.name)
	}
	return append(names, "7.x", newest)
}
