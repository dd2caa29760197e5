package netns

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// Owner is whose processes are in a namespace, as their cgroup tells: a pod, a container or a systemd unit.
type Owner struct {
	Kind string // pod, docker, containerd, cri-o, podman, lxc, machine, container (runtime unknown) or unit; "" is nobody
	ID   string // uid of the pod, id of the container, name of the machine or unit. Control characters are replaced
}

// String returns a unit by its name, such as "nginx.service", others by kind and short id, such as "docker:3f4e5d6c7b8a".
func (o Owner) String() string {
	switch o.Kind {
	case "unit", "":
		return o.ID
	case "pod", "lxc", "machine":
		return o.Kind + ":" + o.ID
	}
	return o.Kind + ":" + o.ID[:min(12, len(o.ID))]
}

// ownerOfAll picks from the cgroups of one process, one in each hierarchy: a container before a unit, and from the end,
// where the kernel lists the unified hierarchy and, before it, systemd's own.
func ownerOfAll(cgroups []procfs.Cgroup) Owner {
	var unit Owner
	for _, c := range slices.Backward(cgroups) {
		switch o := ownerOf(c.Path); o.Kind {
		case "":
		case "unit":
			unit = cmp.Or(unit, o)
		default:
			return o
		}
	}
	return unit
}

// ownerOf reads a cgroup path. The innermost container counts, or the pod right around it; a unit only where there is
// no container, for a container may run systemd.
func ownerOf(path string) Owner {
	var container, unit Owner
	elements := strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == ':' })
	for i := len(elements) - 1; i >= 0; i-- {
		parent := ""
		if i > 0 {
			parent = elements[i-1]
		}
		if uid, ok := podUID(elements[i]); ok {
			return Owner{"pod", uid}
		}
		if o := containerOf(elements[i], parent); o.Kind != "" {
			if container.Kind != "" {
				break
			}
			container = o
		} else if unit.Kind == "" && isUnit(elements[i]) {
			unit = Owner{"unit", clean(elements[i])}
		}
	}
	if container.Kind != "" {
		return container
	}
	return unit
}

// podUID reads the kubelet's cgroup of a pod: pod<uid>, or kubepods[-qos]-pod<uid>.slice with _ for - in the uid.
func podUID(element string) (string, bool) {
	s, isSlice := strings.CutSuffix(element, ".slice")
	if isSlice {
		if !strings.HasPrefix(s, "kubepods") {
			return "", false
		}
		_, s, _ = strings.Cut(s, "-pod")
		s = strings.ReplaceAll(s, "_", "-")
	} else if s, isSlice = strings.CutPrefix(s, "pod"); !isSlice {
		return "", false
	}
	// A uid is a UUID, or for a static pod a hash of 32 digits.
	return s, len(s) == 36 && isHex(strings.ReplaceAll(s, "-", "")) || len(s) == 32 && isHex(s)
}

// containerOf reads the cgroup of a container: <runtime>-<id>.scope under systemd, else <id> or <runtime>-<id>.
func containerOf(element, parent string) Owner {
	s, isScope := strings.CutSuffix(element, ".scope")
	if name, ok := strings.CutPrefix(s, "machine-"); ok && isScope {
		return Owner{"machine", unescapeUnit(name)}
	}
	if name, ok := strings.CutPrefix(element, "systemd-nspawn@"); ok {
		return Owner{"machine", unescapeUnit(strings.TrimSuffix(name, ".service"))}
	}
	if name, ok := strings.CutPrefix(element, "lxc.payload."); ok {
		return Owner{"lxc", clean(name)}
	}
	if parent == "lxc" || parent == "lxc.payload" {
		return Owner{"lxc", clean(element)}
	}
	prefix, id := "", s
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		prefix, id = s[:i], s[i+1:]
	}
	if len(id) != 64 || !isHex(id) {
		return Owner{}
	}
	switch prefix {
	case "docker":
		return Owner{"docker", id}
	case "cri-containerd", "nerdctl":
		return Owner{"containerd", id}
	case "crio":
		return Owner{"cri-o", id}
	case "libpod", "libpod-payload":
		return Owner{"podman", id}
	case "":
		if parent == "docker" {
			return Owner{"docker", id}
		}
		return Owner{"container", id}
	}
	return Owner{} // a monitor of it, such as crio-conmon-<id>.scope
}

// isUnit reports whether a cgroup is a unit that runs processes; a slice only groups them, init.scope is systemd.
func isUnit(element string) bool {
	return strings.HasSuffix(element, ".service") || strings.HasSuffix(element, ".scope") && element != "init.scope"
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// unescapeUnit undoes systemd's escapes in a name, such as \x2d for -.
func unescapeUnit(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if i+4 <= len(s) && s[i:i+2] == `\x` {
			if v, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return clean(b.String())
}
