package boot

import (
	"slices"
)

// System is what of a machine decides which files can set its limits.
type System struct {
	Kernel      string // its release; "" is unknown
	Module      string // conntrack's name: nf_conntrack, or ip_conntrack on EL 5
	EL          int    // 5 or 6, whose rc.sysinit applies the files; 0 is any other system
	SysctlD     bool   // what applies the files reads /etc/sysctl.d; initscripts of EL 5 and 6 do so only since 2011
	SetsBuckets bool   // the sysctl of the buckets can be written (Linux 4.8); else only the module's option sets them
	TellsInTime bool   // a udev rule for the module finds its sysctls there (Linux 5.12 and some older ones)
	// Applies is the program that a udev rule runs to apply sysctl.d, systemd-sysctl; "" where there is none.
	Applies string
	Sysctl  string // procps' sysctl; "" where there is none
	// Unloads is the file that has `service iptables restart` unload conntrack; "" where that does not happen.
	Unloads string
	Default Limits // what conntrack begins with if no option is given
	Distro  string // ID of /etc/os-release: debian, nixos; "" if there is none
}

// Inspect finds out which system is below root.
func Inspect(root string) (System, error) {
	t := newTree(root, nil)
	by := readApplier(t)
	k := readKernel(t)
	s := System{
		Kernel:      k.release,
		Module:      k.module(),
		SysctlD:     true,
		SetsBuckets: k.setsBuckets(),
		TellsInTime: k.tellsInTime(),
		Applies:     t.firstExecutable("/usr/lib/systemd/systemd-sysctl", "/lib/systemd/systemd-sysctl"),
		Sysctl:      t.firstExecutable("/sbin/sysctl", "/usr/sbin/sysctl", "/bin/sysctl", "/usr/bin/sysctl"),
	}
	if by == appliedByRC {
		s.EL, s.SysctlD = elNumber(t.text("/etc/redhat-release")), t.readsSysctlD()
	}
	entries, buckets := k.defaults(parseMemTotal(t.text("/proc/meminfo")), 0, pageSize())
	s.Default = Limits{positive(entries), positive(buckets)}
	s.Distro = shellVariable(t.text("/etc/os-release"), "ID")
	const config = "/etc/sysconfig/iptables-config"
	if text := t.text(config); text != "" && shellVariable(text, "IPTABLES_MODULES_UNLOAD") != "no" { // yes where it is not said
		s.Unloads = config
	}
	return s, t.err
}

// readKernel is the kernel that runs there. In an image none does: it is then the newest that is installed, if all that are
// go by the same rules. Where there is none, or they do not, the release stays unknown, and the rules are those of the
// system's own kernel.
func readKernel(t *tree) kernel {
	if k := parseKernel(t.text("/proc/sys/kernel/osrelease")); k.release != "" {
		return k
	}
	var newest kernel
	agreed := true
	for _, release := range t.directories("/lib/modules") {
		k := parseKernel(release)
		if k.release == "" {
			continue
		}
		agreed = agreed && (newest.release == "" || k.rules() == newest.rules())
		if slices.Compare(k.version[:], newest.version[:]) > 0 {
			newest = k
		}
	}
	if newest.release != "" && agreed {
		return newest
	}
	k := kernel{version: version{6, 0, 0}, el: elNumber(t.text("/etc/redhat-release"))}
	switch k.el {
	case 5:
		k.version = version{2, 6, 18}
	case 6:
		k.version = version{2, 6, 32}
	case 7:
		k.version = version{3, 10, 0}
	case 8:
		k.version = version{4, 18, 0}
	case 9:
		k.version = version{5, 14, 0}
	}
	return k
}

func (t *tree) firstExecutable(names ...string) string {
	for _, name := range names {
		if t.executable(name) {
			return name
		}
	}
	return ""
}
