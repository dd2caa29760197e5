package metrics

import (
	"slices"
	"testing"

	"github.com/ctwatch/ctwatch/internal/record"
)

func TestWriterOf(t *testing.T) {
	for _, c := range []struct{ comm, unit, want string }{
		{"ctwatch", "ctwatch.service", "self"},
		{"ctwatch", "session-3.scope", "self"}, // ctwatch limit set
		{"kube-proxy", "pod:2a4e9d2c-8d3c-4c4b-9c53-0d6a1f1c7d11", "kube-proxy"},
		{"kube-proxy", "", "kube-proxy"},
		{"k3s-server", "k3s.service", "kube-proxy"},
		{"kubelite", "snap.microk8s.daemon-kubelite.service", "kube-proxy"},
		{"tuned", "tuned.service", "tuned"},
		{"python3", "tuned.service", "tuned"},
		{"firewalld", "firewalld.service", "firewalld"},
		{"sysctl", "firewalld.service", "firewalld"}, // its install line of modprobe.d
		{"pve-firewall", "pve-firewall.service", "pve-firewall"},
		{"sysctl", "ufw.service", "ufw"},
		{"ufw", "session-1.scope", "ufw"},
		{"bash", "session-1.scope", "shell"},
		{"sysctl", "docker:3f4e5d6c7b8a", "shell"},
		{"tee", "", "shell"},
		{"python3", "session-1.scope", "shell"},
		{"python3", "ssh.service", "shell"},
		{"systemd-sysctl", "systemd-sysctl.service", "other"},
		{"python3", "session-1.scope.service", "other"},
		{"x\x1b[31m\"\n\xff", "<script>", "other"},
		{"", "", "other"},
	} {
		got := writerOf(record.Writer{PID: 1, Comm: c.comm, Unit: c.unit})
		if got != c.want {
			t.Errorf("%q in %q: %s, want %s", c.comm, c.unit, got, c.want)
		}
		if !slices.Contains(writers(), got) {
			t.Errorf("%q in %q: %s is no value of the label", c.comm, c.unit, got)
		}
	}
}
