// Package rival knows the programs that set conntrack's limits, and the setting of each that ends the quarrel.
package rival

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ctwatch/ctwatch/internal/record"
)

// Whom Rival.By tells apart: the values of the metrics' label "by".
const (
	BySelf      = "self"
	ByKubeProxy = "kube-proxy"
	ByTuned     = "tuned"
	ByFirewalld = "firewalld"
	ByPVE       = "pve-firewall"
	ByUFW       = "ufw"
	ByShell     = "shell" // a person, or a script
	ByOther     = "other"
)

// Groups are all values of Rival.By.
func Groups() []string {
	return []string{BySelf, ByKubeProxy, ByTuned, ByFirewalld, ByPVE, ByUFW, ByShell, ByOther}
}

// Rival is who changed a limit, as far as the names of its task and unit tell. A task can call itself anything: this is
// what to tell a person, and nothing to decide by.
type Rival struct {
	By   string // one of Groups
	Name string // such as "kube-proxy in k3s"; of a program that is not known its task's name, which is untrusted text
	// Setting is what ends the quarrel: which setting, in which file or flag. It is a sentence without its capital and its
	// full stop; what can be typed is in backquotes. It holds no text of others.
	Setting string
	// Why is when and why it writes, in the same form; "" is not known.
	Why string
}

// Of tells who a writer is. Names have to match as a whole. The unit comes before the task: what tuned and firewalld start
// to write for them is called sysctl.
func Of(w record.Writer) Rival {
	unit, service := strings.CutSuffix(w.Unit, ".service")
	rivals := known()
	if service {
		for _, k := range rivals {
			if slices.Contains(k.units, unit) {
				return k.Rival
			}
		}
	}
	for _, k := range rivals {
		if slices.Contains(k.comms, w.Comm) {
			return k.Rival
		}
	}
	return stranger(w)
}

// Who names a writer for people: who it is, its process, and in quotes, for they are untrusted text, the names of its task
// and unit: firewalld (pid 9, "sysctl", "firewalld.service").
func Who(w record.Writer) string {
	r := Of(w)
	if w.PID == 0 {
		return r.Name
	}
	text := r.Name
	if r.Name == w.Comm && !slices.ContainsFunc(known(), func(k rival) bool { return k.Name == r.Name }) {
		text = strconv.Quote(r.Name)
	}
	text += fmt.Sprintf(" (pid %d", w.PID)
	for _, name := range []string{w.Comm, w.Unit} {
		if name != "" && name != r.Name {
			text += ", " + strconv.Quote(name)
		}
	}
	return text + ")"
}

// stranger is who has no setting of its own: a person, a script, a program that is not known.
func stranger(w record.Writer) Rival {
	switch {
	case w.PID == 0 && w.Comm == "":
		return Rival{By: ByOther, Name: "somebody who was not seen",
			Setting: "kube-proxy, tuned, firewalls' scripts and configuration management are known to set it; `ctwatch limit show` names the files that do"}
	case isSession(w.Unit):
		return Rival{By: ByShell, Name: "a person",
			Setting: "it was set by hand, in a login: there is no setting to change, but somebody to ask"}
	case isTool(w.Comm) && strings.Contains(w.Unit, ":"): // a pod or a container, as netns.Owner writes it
		return Rival{By: ByShell, Name: "a script in a container",
			Setting: "the pod or container runs privileged, with a script or an init container that sets nf_conntrack_max: take that out of its definition"}
	case isTool(w.Comm) && strings.HasSuffix(w.Unit, ".service"):
		return Rival{By: ByShell, Name: "a script of a service",
			Setting: "the script that this service starts sets it: `systemctl cat` of the service leads to it"}
	case w.Comm == "sysctl":
		return Rival{By: ByShell, Name: "sysctl",
			Setting: "it was set by hand, by a script, or as the module was loaded, from a sysctl.d file: `ctwatch limit show` names the files that set it"}
	case isTool(w.Comm):
		return Rival{By: ByShell, Name: "a shell",
			Setting: "it was set by hand or by a script: there is no setting to change, but somebody to ask"}
	}
	return Rival{By: ByOther, Name: cmp.Or(w.Comm, "a program without a name"),
		Setting: "which setting of it ends this is not known: look for nf_conntrack_max in its configuration"}
}

// isTool reports whether the task is a shell, or what people and scripts use in one to set a limit.
func isTool(comm string) bool {
	return slices.Contains([]string{"sh", "bash", "dash", "zsh", "fish", "ksh", "ash", "busybox", "sysctl", "tee"}, comm)
}

// isSession reports whether the unit is a login.
func isSession(unit string) bool {
	return strings.HasPrefix(unit, "session-") && strings.HasSuffix(unit, ".scope") || unit == "ssh.service" || unit == "sshd.service"
}
