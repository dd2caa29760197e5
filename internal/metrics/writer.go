package metrics

import (
	"slices"
	"strings"

	"github.com/ctwatch/ctwatch/internal/record"
)

// writers are who is told apart of those that change a limit, the values of the label "by".
func writers() []string {
	return []string{"self", "kube-proxy", "tuned", "firewalld", "pve-firewall", "ufw", "shell", "other"}
}

// writerOf tells who changed a limit, by the unit first: what tuned and firewalld start to write for them has names such as
// sysctl. A task can call itself anything, so this is for orientation only.
func writerOf(w record.Writer) string {
	unit := strings.TrimSuffix(w.Unit, ".service")
	switch unit {
	case "ctwatch":
		return "self"
	case "tuned", "firewalld", "pve-firewall", "ufw", "kube-proxy":
		return unit
	}
	switch w.Comm {
	case "ctwatch":
		return "self"
	case "tuned", "firewalld", "pve-firewall", "ufw", "kube-proxy":
		return w.Comm
	case "k3s", "k3s-server", "k3s-agent", "rke2", "kubelite": // kube-proxy is one of their threads
		return "kube-proxy"
	}
	if byHand(w.Comm) || isSession(w.Unit) {
		return "shell"
	}
	return "other"
}

// byHand reports whether the task is a shell, or what people and scripts use in one to set a limit.
func byHand(comm string) bool {
	return slices.Contains([]string{"sh", "bash", "dash", "zsh", "fish", "ksh", "ash", "busybox", "sysctl", "tee"}, comm)
}

// isSession reports whether the unit is a login.
func isSession(unit string) bool {
	return strings.HasPrefix(unit, "session-") && strings.HasSuffix(unit, ".scope") || unit == "ssh.service" || unit == "sshd.service"
}
