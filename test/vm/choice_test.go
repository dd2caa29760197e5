package main

import (
	"strings"
	"testing"
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
			got = append(got, k.name)
			if k.gating != (k.name != newest) {
				t.Errorf("%s: gating is %v", k.name, k.gating)
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

func TestModules(t *testing.T) {
	const deps = `kernel/net/netfilter/nf_conntrack.ko: kernel/net/ipv4/netfilter/nf_defrag_ipv4.ko kernel/lib/libcrc32c.ko
kernel/drivers/net/veth.ko.xz: kernel/drivers/odd.ko
kernel/drivers/net/e1000.ko:
kernel/lib/libcrc32c.ko:
`
	equal(t, "modules", []string{
		"kernel/net/netfilter/nf_conntrack.ko", "kernel/net/ipv4/netfilter/nf_defrag_ipv4.ko", "kernel/lib/libcrc32c.ko",
		"kernel/drivers/net/veth.ko.xz", "kernel/drivers/odd.ko",
	}, withNeeded(deps, wantedModule))
}

func TestSources(t *testing.T) {
	const targets = "Debian\tDebian\tmain\tPackages\thttp://mirror.example/debian/\t/keys\n" +
		"Debian\tDebian\tmain\tDEP-11\thttp://mirror.example/other/\t\n" +
		"\tOther\tmain\tPackages\thttp://other.example/\t\n" +
		"Debian\tDebian-Security\tmain\tPackages\thttp://mirror.example/security/\t\n"
	found := parseTargets(targets)
	for suite, want := range map[string]string{
		"trixie-backports":  "deb [target=Packages signed-by=/keys] http://mirror.example/debian/ trixie-backports main\n",
		"bookworm-security": "deb [target=Packages] http://mirror.example/security/ bookworm-security main\n",
	} {
		got, err := sources(found, suite)
		must(t, err)
		equal(t, suite, want, got)
	}
	if _, err := sources(found[:1], "bookworm-security"); err == nil {
		t.Error("a security archive was found that is not there")
	}
}

func TestMadison(t *testing.T) {
	equal(t, "versions", map[string][]string{"linux-image-6.1": {"6.1.192-2", "6.1.190-1"}}, parseMadison(
		"linux-image-6.1 |  6.1.192-2 | http://mirror.example/debian-security bookworm-security/main amd64 Packages\n"+
			"linux-image-6.1 |  6.1.190-1 | http://mirror.example/debian-security bookworm-security/main amd64 Packages\n"))
}

func TestNewestPackages(t *testing.T) {
	equal(t, "packages", map[string][]string{
		"linux-image-6.12.9-cloud-amd64": {"linux-image-6.12.9-cloud-amd64"},
		"linux-binary-7.3.4-cloud-amd64": {"linux-binary-7.3.4-cloud-amd64", "linux-modules-7.3.4-cloud-amd64"},
	}, newestPackages([]string{
		"linux-image-cloud-amd64", "linux-image-6.12.9-cloud-amd64", "linux-image-6.12.9-amd64", "linux-image-6.12.9-cloud-amd64-dbg",
		"linux-image-7.3.4-cloud-amd64", "linux-modules-7.3.4-cloud-amd64", "linux-binary-7.3.4-cloud-amd64",
	}))
}
