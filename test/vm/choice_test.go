package main

import (
	"strings"
	"testing"

	"github.com/ctwatch/ctwatch/test/qemu"
)

func TestChooseKernels(t *testing.T) {
	for asked, want := range map[string]string{
		"":               "5.10 6.1 6.12 7.3",
		"6.12":           "6.12",
		"6.1,5.10":       "6.1 5.10",
		"7.x 7.3 newest": "7.3 newest",
		"6.x":            "6.12",
	} {
		chosen, err := chooseKernels(words(asked))
		must(t, err)
		var got []string
		for _, k := range chosen {
			got = append(got, k.Name)
			if k.gating != (k.Name != qemu.Newest) {
				t.Errorf("%s: gating is %v", k.Name, k.gating)
			}
		}
		equal(t, asked, want, strings.Join(got, " "))
	}
	for _, asked := range []string{"6.2", "8.x", "x", "6"} {
		if _, err := chooseKernels(words(asked)); err == nil || !strings.Contains(err.Error(), "5.10, 6.1, 6.12, 7.3, 7.x, newest") {
			t.Errorf("%s: error %v does not list the names", asked, err)
		}
	}
}

func TestChooseScenarios(t *testing.T) {
	for asked, want := range map[string]int{"all": len(scenarios()), "none": 0, "lockdown-integrity": 1, "": 0} {
		chosen, err := chooseScenarios(words(asked))
		must(t, err)
		equal(t, asked, want, len(chosen))
	}
	if _, err := chooseScenarios([]string{"locked"}); err == nil || !strings.Contains(err.Error(), "lockdown-integrity") {
		t.Errorf("error %v does not list the names", err)
	}
}

// TestPlans: the guest splits at spaces, and the scenarios' kernels exist.
func TestPlans(t *testing.T) {
	for _, s := range append(scenarios(), defaultScenario("fexit", false)) {
		if s.kernel != "" {
			if _, err := chooseKernels([]string{s.kernel}); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
		}
		for _, p := range s.steps {
			for _, a := range p.args {
				if strings.ContainsAny(a, " \t\n\\") || a == "" {
					t.Errorf("%s: the guest would not take argument %q", s.name, a)
				}
			}
		}
	}
	s := defaultScenario("fexit", false)
	s.steps = []step{tests("test/lab", "^TestFill$")}
	equal(t, "plan", "env CTWATCH_TEST_PROBES=kprobe\nenv CTWATCH_TEST_PROBE=fexit\nrun test/lab ./tests -test.v=test2json -test.short -test.run ^TestFill$\n", s.plan(kernel{probes: "kprobe"}))
}
