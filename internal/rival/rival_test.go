package rival

import (
	"slices"
	"strings"
	"testing"

	"github.com/ctwatch/ctwatch/internal/record"
)

func TestOf(t *testing.T) {
	for _, c := range []struct{ comm, unit, by, name string }{
		{"ctwatch", "ctwatch.service", BySelf, "ctwatch"},
		{"ctwatch", "session-3.scope", BySelf, "ctwatch"}, // ctwatch limit set
		{"kube-proxy", "pod:2a4e9d2c-8d3c-4c4b-9c53-0d6a1f1c7d11", ByKubeProxy, "kube-proxy"},
		{"kube-proxy", "", ByKubeProxy, "kube-proxy"},
		{"k3s-server", "k3s.service", ByKubeProxy, "kube-proxy in k3s"},
		{"k3s-agent", "", ByKubeProxy, "kube-proxy in k3s"},
		{"rke2", "rke2-agent.service", ByKubeProxy, "kube-proxy in rke2"},
		{"kubelite", "snap.microk8s.daemon-kubelite.service", ByKubeProxy, "kube-proxy in microk8s"},
		{"tuned", "tuned.service", ByTuned, "tuned"},
		{"python3", "tuned.service", ByTuned, "tuned"},
		{"firewalld", "firewalld.service", ByFirewalld, "firewalld"},
		{"sysctl", "firewalld.service", ByFirewalld, "firewalld"}, // its install line of modprobe.d
		{"pve-firewall", "pve-firewall.service", ByPVE, "pve-firewall"},
		{"proxmox-firewal", "proxmox-firewall.service", ByPVE, "proxmox-firewall"},
		{"proxmox-firewal", "", ByPVE, "proxmox-firewall"},
		{"sysctl", "ufw.service", ByUFW, "ufw"},
		{"ufw", "session-1.scope", ByUFW, "ufw"},
		{"systemd-sysctl", "systemd-sysctl.service", ByOther, "systemd-sysctl"},
		{"systemd-sysctl", "init.scope", ByOther, "systemd-sysctl"},
		{"sysctl", "procps.service", ByOther, "systemd-sysctl"},
		{"iptables.init", "iptables.service", ByOther, "the iptables script"},
		{"sysctl", "ip6tables.service", ByOther, "the iptables script"},
		{"rc.local", "rc-local.service", ByShell, "rc.local"},
		{"sh", "rc-local.service", ByShell, "rc.local"},
		{"bash", "session-1.scope", ByShell, "a person"},
		{"sysctl", "session-c2.scope", ByShell, "a person"},
		{"python3", "session-1.scope", ByShell, "a person"},
		{"python3", "ssh.service", ByShell, "a person"},
		{"sysctl", "docker:3f4e5d6c7b8a", ByShell, "a script in a container"},
		{"sh", "pod:2a4e9d2c-8d3c-4c4b-9c53-0d6a1f1c7d11", ByShell, "a script in a container"},
		{"sysctl", "tune-my-network.service", ByShell, "a script of a service"},
		{"sysctl", "", ByShell, "sysctl"},
		{"tee", "", ByShell, "a shell"},
		// Not by a part of a name, nor by one that is longer.
		{"not-kube-proxy", "", ByOther, "not-kube-proxy"},
		{"kube-proxy-2", "", ByOther, "kube-proxy-2"},
		{"tune", "tuned.service.d", ByOther, "tune"},
		{"python3", "my-firewalld.service", ByOther, "python3"},
		{"python3", "firewalld.scope", ByOther, "python3"},
		{"python3", "firewalld", ByOther, "python3"},
		{"python3", "session-1.scope.service", ByOther, "python3"},
		{"Tuned", "", ByOther, "Tuned"},
		{"x\x1b[31m\"\n\xff", "<script>", ByOther, "x\x1b[31m\"\n\xff"},
		{"", "x.service", ByOther, "a program without a name"},
		{"", "", ByOther, "somebody who was not seen"},
	} {
		w := record.Writer{Comm: c.comm, Unit: c.unit}
		if c.comm+c.unit != "" {
			w.PID = 1
		}
		got := Of(w)
		if got.By != c.by || got.Name != c.name {
			t.Errorf("%q in %q: %s, %q; want %s, %q", c.comm, c.unit, got.By, got.Name, c.by, c.name)
		}
		checkWords(t, got)
		if c.by == ByOther && got.Name == c.comm && strings.Contains(got.Setting, c.comm) {
			t.Errorf("%q: its setting, %q, has text of others", c.comm, got.Setting)
		}
	}
}

func TestWho(t *testing.T) {
	for _, c := range []struct {
		w    record.Writer
		want string
	}{
		{record.Writer{}, "somebody who was not seen"},
		{record.Writer{PID: 9, Comm: "kube-proxy", Unit: "pod:1"}, `kube-proxy (pid 9, "pod:1")`},
		{record.Writer{PID: 9, Comm: "k3s-server", Unit: "k3s.service"}, `kube-proxy in k3s (pid 9, "k3s-server", "k3s.service")`},
		{record.Writer{PID: 9, Comm: "sysctl", Unit: "firewalld.service"}, `firewalld (pid 9, "sysctl", "firewalld.service")`},
		{record.Writer{PID: 9, Comm: "sysctl", Unit: "session-3.scope"}, `a person (pid 9, "sysctl", "session-3.scope")`},
		{record.Writer{PID: 9, Comm: "puppet"}, `"puppet" (pid 9)`},
		{record.Writer{PID: 9, Comm: "a\x1b)", Unit: "b\n"}, `"a\x1b)" (pid 9, "b\n")`},
		{record.Writer{PID: 9}, "a program without a name (pid 9)"},
	} {
		if got := Who(c.w); got != c.want {
			t.Errorf("%+v: %s, want %s", c.w, got, c.want)
		}
	}
}

// TestSettings: for each program the words that end the quarrel, as its own documentation spells them.
func TestSettings(t *testing.T) {
	for comm, want := range map[string][]string{
		"kube-proxy":      {"conntrack.maxPerCore: 0", "--conntrack-max-per-core=0", "--conntrack-min=N", "KubeProxyConfiguration"},
		"k3s-server":      {"kube-proxy-arg", "conntrack-max-per-core=0", "/etc/rancher/k3s/config.yaml"},
		"rke2":            {"kube-proxy-arg", "conntrack-max-per-core=0", "/etc/rancher/rke2/config.yaml"},
		"kubelite":        {"--conntrack-max-per-core=0", "/var/snap/microk8s/current/args/kube-proxy"},
		"pve-firewall":    {"nf_conntrack_max", "[OPTIONS]", "/etc/pve/nodes/NODE/host.fw"},
		"proxmox-firewal": {"nf_conntrack_max", "[OPTIONS]", "/etc/pve/nodes/NODE/host.fw"},
		"tuned":           {"[sysctl]", "tuned-adm active", "reapply_sysctl", "/etc/tuned/tuned-main.conf"},
		"firewalld":       {"ctwatch limit show", "sysctl.d"},
		"ufw":             {"/etc/ufw/sysctl.conf", "IPT_SYSCTL", "/etc/default/ufw"},
		"systemd-sysctl":  {"ctwatch limit show", "sysctl.d"},
		"sysctl":          {"ctwatch limit show"},
		"iptables.init":   {"/etc/sysconfig/iptables-config", "IPTABLES_MODULES_UNLOAD", "IPTABLES_SYSCTL_LOAD_LIST"},
		"ctwatch":         {"ctwatch limit pause", "ctwatch limit undo"},
		"nginx":           {"not known", "nf_conntrack_max"},
	} {
		r := Of(record.Writer{PID: 1, Comm: comm})
		for _, w := range want {
			if !strings.Contains(r.Setting, w) {
				t.Errorf("%s: no %q in its setting: %s", comm, w, r.Setting)
			}
		}
	}
}

// TestKnown: no name leads to two programs, and each name can be met.
func TestKnown(t *testing.T) {
	const most = 15 // TASK_COMM_LEN of the kernel, less the zero byte
	seen := map[string]string{}
	for _, k := range known() {
		checkWords(t, k.Rival)
		if k.Why == "" || len(k.units) == 0 || len(k.comms) == 0 {
			t.Errorf("%s: when it writes and what it is known by is not told", k.Name)
		}
		for _, c := range k.comms {
			if len(c) > most {
				t.Errorf("%s: no task can be called %q", k.Name, c)
			}
		}
		names := slices.Clone(k.comms)
		for _, u := range k.units {
			names = append(names, u+".service")
		}
		for _, n := range names {
			if other := seen[n]; other != "" {
				t.Errorf("%s is both %s and %s", n, other, k.Name)
			}
			seen[n] = k.Name
		}
	}
}

// checkWords holds a rival's words to their form.
func checkWords(t *testing.T, r Rival) {
	t.Helper()
	if !slices.Contains(Groups(), r.By) {
		t.Errorf("%s is no group", r.By)
	}
	if r.Name == "" || r.Setting == "" {
		t.Errorf("%+v: without a name or a setting", r)
	}
	for _, s := range []string{r.Setting, r.Why} {
		if strings.HasSuffix(s, ".") || strings.Count(s, "`")%2 != 0 {
			t.Errorf("%s: %q ends in a full stop, or in backquotes", r.Name, s)
		}
	}
}
