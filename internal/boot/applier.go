package boot

import (
	"path"
	"strconv"
	"strings"
)

// applier is what applies sysctl.d at boot.
type applier int

const (
	appliedByNobody  applier = iota // that is known
	appliedBySystemd                // systemd-sysctl.service, after systemd-modules-load.service
	appliedByProcps                 // Debian's /etc/init.d/procps: sysctl --system
	appliedByRC                     // rc.sysinit of EL 5 and 6, and their network script again after iptables
)

func readApplier(t *tree) applier {
	number := elNumber(t.text("/etc/redhat-release"))
	switch {
	case t.exists("/run/systemd/system"): // sd_booted(3)
		return appliedBySystemd
	case number == 5 || number == 6:
		return appliedByRC
	case t.text("/proc/1/comm") == "init\n" && t.startsProcps():
		return appliedByProcps
	case t.root == "/":
		return appliedByNobody // what is installed does not run here: a container
	}
	// The tree is an image, a chroot or a mounted disk. What is installed tells what will run when it boots.
	init, err := t.resolve("/sbin/init")
	switch {
	case err != nil:
		return appliedByNobody
	case path.Base(init) == "systemd" && t.executable(init):
		return appliedBySystemd
	case number >= 7 && t.executable("/usr/lib/systemd/systemd"):
		return appliedBySystemd
	case t.executable(init) && t.startsProcps(): // sysvinit's init is no link
		return appliedByProcps
	}
	return appliedByNobody
}

func (t *tree) startsProcps() bool { return len(t.glob("/etc/rcS.d", "S*procps")) > 0 }

// elNumber is the major number of a Red Hat system, of whatever brand, by /etc/redhat-release: "CentOS release 6.10
// (Final)". It is 0 for others.
func elNumber(release string) int {
	_, rest, _ := strings.Cut(release, " release ")
	digits, _, _ := strings.Cut(strings.TrimSpace(rest), ".")
	digits, _, _ = strings.Cut(digits, " ")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || strings.HasPrefix(release, "Fedora") {
		return 0
	}
	return n
}

// readsRunFirst reports whether something that applies sysctl.d here has files of /run go before those of /etc: procps up
// to 3.3.16, by the number of its library, and tuned. Where procps is not found it may be any.
func readsRunFirst(t *tree) (program string, is bool) {
	if t.exists("/usr/lib/tuned") || t.exists("/etc/tuned") {
		return "tuned", true
	}
	for _, dir := range libraryDirs {
		if len(t.glob(dir, "libproc2.so.*")) > 0 || len(t.glob(dir, "libprocps.so.8.0.[3-9]")) > 0 {
			return "", false
		}
	}
	return "sysctl --system of procps 3.3.16 or older", true
}

// libraryDirs are where the distributions have procps' library.
var libraryDirs = [...]string{
	"/usr/lib64", "/lib64", "/usr/lib", "/lib",
	"/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib/aarch64-linux-gnu",
	"/usr/lib/arm-linux-gnueabihf", "/lib/arm-linux-gnueabihf", "/usr/lib/i386-linux-gnu", "/lib/i386-linux-gnu",
}
