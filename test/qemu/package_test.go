package qemu

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func equal(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
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
