package main

import (
	"fmt"
	"slices"
	"strings"
)

// scenario is what is run in a kernel.
type scenario struct {
	name    string   // empty for the default one
	kernel  string   // the name of the only kernel it is for; empty for all
	cmdline []string // more of the kernel's command line
	env     []string
	steps   []step
}

// step is a test binary and its arguments, none of which may have a space in it: the guest splits there.
type step struct {
	pkg  string // its directory below the project's
	args []string
}

// testedPackages are those whose tests need a kernel.
var testedPackages = []string{"internal/watch", "internal/loader", "internal/conntrack", "internal/census", "internal/kmsg",
	"internal/netns", "internal/limits", "test/lab"}

// defaultScenario is for every kernel: the tests in which kernels differ most. long: all tests.
func defaultScenario(probe string, long bool) scenario {
	s := scenario{steps: []step{
		tests("internal/watch", "^TestUnreadDatagrams$"),
		tests("internal/watch", "^(TestAuto|TestProbes|TestReload|TestAbsent|TestVerdicts|TestWriterOfALimit|TestLoggedLines)$"),
		tests("internal/watch", "^(TestRaisedAtFirstLoss|TestFloodIsNotFed|TestBucketsWithTheLimit)$"),
		tests("internal/limits", "^TestKernel$"),
		tests("internal/loader", "^(TestKilled|TestBegins|TestHooksAreIdle|TestSettle|TestWalkKnowsEveryNamespace|TestLimit.*|TestNoCgroupRoot)$"),
		tests("internal/conntrack", ""),
		tests("internal/census", "^TestAgainstLab$"),
		tests("internal/kmsg", "^TestAgainstDmesg$"),
	}}
	if long {
		s.steps, s.env = nil, []string{"CTWATCH_TEST_ALONE=1"}
		for _, pkg := range testedPackages {
			s.steps = append(s.steps, tests(pkg, ""))
		}
	}
	if probe != "" {
		s.env = append(s.env, "CTWATCH_TEST_PROBE="+probe)
	}
	return s
}

// scenarios are run beside the default one.
func scenarios() []scenario {
	return []scenario{
		lockdown("integrity", "fexit,kprobe,tracepoint,counters", "kprobe"),
		lockdown("confidentiality", "fexit,counters", "fexit"),
	}
}

// lockdown is a kernel that trusts root less, as with Secure Boot, the probes that must work there nevertheless, and the
// one that is tested. Such a kernel takes signed modules only, which the distribution's are.
func lockdown(level, probes, probe string) scenario {
	return scenario{
		name:    "lockdown-" + level,
		kernel:  "6.12",
		cmdline: []string{"lockdown=" + level},
		env:     []string{"CTWATCH_TEST_PROBES=" + probes, "CTWATCH_TEST_PROBE=" + probe},
		steps:   []step{tests("internal/watch", "^(TestAuto|TestProbes)$")},
	}
}

// tests runs those of a package that match, or all. With test2json a subtest tells its outcome when it ends, and not
// when its parent does: it is known when the machine dies between.
func tests(pkg, match string) step {
	s := step{pkg, []string{"-test.v=test2json", "-test.short"}}
	if match != "" {
		s.args = append(s.args, "-test.run", match)
	}
	return s
}

// plan is the file that tells the guest what to do in a kernel. The scenario's word counts, where both have one.
func (s scenario) plan(k kernel) string {
	var b strings.Builder
	if k.probes != "" {
		fmt.Fprintf(&b, "env CTWATCH_TEST_PROBES=%s\n", k.probes)
	}
	if k.alone {
		fmt.Fprintln(&b, "env CTWATCH_TEST_ALONE=1")
	}
	for _, e := range s.env {
		fmt.Fprintf(&b, "env %s\n", e)
	}
	for _, p := range s.stepsIn(k) {
		fmt.Fprintf(&b, "run %s ./%s %s\n", p.pkg, testBinary, strings.Join(p.args, " "))
	}
	return b.String()
}

// stepsIn are the steps in a kernel: the default scenario has the kernel's own beside.
func (s scenario) stepsIn(k kernel) []step {
	if s.name != "" {
		return s.steps
	}
	return slices.Concat(s.steps, k.more)
}

// chooseScenarios finds scenarios by name.
func chooseScenarios(names []string) ([]scenario, error) {
	var chosen []scenario
	for _, name := range names {
		found := name == "none"
		for _, s := range scenarios() {
			if s.name == name || name == "all" {
				chosen, found = append(chosen, s), true
			}
		}
		if !found {
			known := []string{"all", "none"}
			for _, s := range scenarios() {
				known = append(known, s.name)
			}
			return nil, fmt.Errorf("no scenario %q: there are %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}
