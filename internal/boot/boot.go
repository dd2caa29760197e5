// Package boot finds out what limits the machine's files give at the next boot.
package boot

import (
	"cmp"
	"fmt"
	"os"
	"strings"
)

// Outlook is what the files of a machine do to the limits of conntrack.
type Outlook struct {
	// Persisted is what the files set, whether or not it comes into effect; nil where none does, or where they disagree
	// and nobody knows which is read last.
	Persisted Limits
	// NextBoot is what will hold after the next boot, when conntrack is loaded; nil where that cannot be known. What
	// programs set later, when they start (kube-proxy, tuned), is not in it.
	NextBoot Limits
	// Why is in words how NextBoot comes about, or why it is not known.
	Why string
	// Files are the lines that set a limit, in the order in which their files are read.
	Files []Line
}

// Limits are the limits that files can set; nil is not set, or not known.
type Limits struct {
	Max     *uint64 // entries that each namespace may hold; 0 is no limit (kernels before 7.0)
	Buckets *uint64 // of the hash table
}

// Line is a line of a file that sets a limit.
type Line struct {
	File  string // as the machine names it, without the root it was read below
	Line  int    // from 1; 0 for the kernel's command line
	Key   string // as it is written there; hashsize for the option of the module
	Value string
	Wins  bool   // it is what Persisted comes from
	Note  string // why it sets nothing, if so
}

// Read reads the files below root ("" is the machine's own) and changes nothing. It takes for granted that the same
// kernel is booted again. It fails if there is a file that may not be read: what it sets is then unknown.
func Read(root string) (Outlook, error) {
	t := &tree{root: cmp.Or(root, "/")}
	in := readInputs(t)
	if t.err != nil {
		return Outlook{}, fmt.Errorf("read limits of the next boot: %w", t.err)
	}
	return decide(in), nil
}

// inputs are what decide needs to know of a machine.
type inputs struct {
	applier  applier
	kernel   kernel
	memTotal uint64 // bytes; 0 is unknown
	pageSize uint64

	sysctlD    [][]assignment // by file, in the order in which they are read
	sysctlConf []assignment   // of /etc/sysctl.conf
	ufw        []assignment   // of ufw's file, if ufw is enabled
	module     module
	unclear    []unclear
}

// applier is what applies sysctl.d at boot.
type applier int

const (
	appliedByNobody  applier = iota // that is known
	appliedBySystemd                // systemd-sysctl.service, after systemd-modules-load.service
	appliedByProcps                 // Debian's /etc/init.d/procps: sysctl --system
	appliedByRC                     // rc.sysinit of EL 5 and 6, and their network script again after iptables
)

// place is where something is written.
type place struct {
	file string
	line int
}

func (p place) String() string {
	if p.line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s:%d", p.file, p.line)
}

// readInputs reads what there is. What cannot be read is in t.err.
func readInputs(t *tree) inputs {
	in := inputs{
		applier:  readApplier(t),
		kernel:   parseKernel(t.text("/proc/sys/kernel/osrelease")),
		memTotal: parseMemTotal(t.text("/proc/meminfo")),
		pageSize: uint64(os.Getpagesize()),
	}
	const conf = "/etc/sysctl.conf"
	in.sysctlConf = parseSysctl(conf, t.text(conf))
	files := t.confFiles("sysctl.d", ".conf")
	if in.applier == appliedByRC {
		files = t.rcFiles("/etc/sysctl.d")
	}
	for _, f := range files {
		if t.same(f, conf) {
			f = conf // 99-sysctl.conf, where there is that link
		}
		in.sysctlD = append(in.sysctlD, parseSysctl(f, t.text(f)))
	}
	if ufwEnabled(t.text("/etc/ufw/ufw.conf")) {
		file := ufwSysctl(t.text("/etc/default/ufw"))
		in.ufw = parseSysctl(file, t.text(file))
	}
	in.module, in.unclear = readModule(t, in.kernel, in.applier)
	for _, file := range []string{"/etc/rc.local", "/etc/rc.d/rc.local"} {
		if t.executable(file) {
			in.unclear = append(in.unclear, mentions(file, t.text(file))...)
		}
	}
	return in
}

func readApplier(t *tree) applier {
	switch {
	case t.exists("/run/systemd/system"): // sd_booted(3)
		return appliedBySystemd
	case isOldEL(t.text("/etc/redhat-release")):
		return appliedByRC
	case t.text("/proc/1/comm") == "init\n" && len(t.glob("/etc/rcS.d", "S*procps")) > 0:
		return appliedByProcps
	}
	return appliedByNobody
}

// isOldEL tells EL 5 and 6, of whatever brand, by /etc/redhat-release: "CentOS release 6.10 (Final)".
func isOldEL(release string) bool {
	_, number, _ := strings.Cut(release, " release ")
	return strings.HasPrefix(number, "5.") || strings.HasPrefix(number, "6.")
}
