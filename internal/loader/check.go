package loader

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// checkFexit tries the smallest fexit program on the function that the probe is for, so that what is in the way can be
// told by name.
func checkFexit(o Options) error {
	if err := checkBTF(); err != nil {
		return err
	}
	if err := checkFtrace(); err != nil {
		return err
	}
	if err := checkCapabilities(needs(o, parts{hooks: Fexit})); err != nil {
		return err
	}
	p, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
		Name:         "try_fexit",
		Type:         ebpf.Tracing,
		AttachType:   ebpf.AttachTraceFExit,
		AttachTo:     earlyDrop,
		License:      "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	}, ebpf.ProgramOptions{LogDisabled: true})
	switch {
	case err == nil:
		return p.Close()
	case errors.Is(err, unix.EPERM):
		return errors.New("the host's policy refuses fexit programs (EPERM, although we have the capabilities)")
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, btf.ErrNotFound):
		if o.Module && !exists("/sys/kernel/btf/nf_conntrack") {
			return errors.New("the kernel has no BTF of the module nf_conntrack (needs 5.11 or EL 9, CONFIG_DEBUG_INFO_BTF_MODULES)")
		}
		return errors.New("this kernel cannot attach fexit to early_drop (function or its BTF missing, or kernel before 5.5)")
	}
	return fmt.Errorf("load a fexit program: %w", err)
}

// checkKprobe says by name what keeps kprobes from working.
func checkKprobe() error {
	const pmu = "/sys/bus/event_source/devices/kprobe"
	if !exists(pmu) {
		return errors.New("this kernel has no kprobes (CONFIG_KPROBE_EVENTS; " + pmu + " is missing)")
	}
	if lockdown() == "confidentiality" {
		return errors.New("lockdown=confidentiality refuses kprobes")
	}
	if err := checkFtrace(); err != nil {
		return err
	}
	if text, err := os.ReadFile("/sys/kernel/debug/kprobes/enabled"); err == nil && strings.TrimSpace(string(text)) == "0" {
		return errors.New("kprobes are switched off (/sys/kernel/debug/kprobes/enabled is 0)")
	}
	if err := checkCapabilities([]capability{capBPF, capPerfmon}); err != nil {
		return err
	}
	if level := perfEventParanoid(); level > 2 {
		if err := checkCapabilities([]capability{capSysAdmin}); err != nil {
			return fmt.Errorf("%w, for kernel.perf_event_paranoid is %d (with 2 CAP_BPF and CAP_PERFMON are enough)", err, level)
		}
	}
	return nil
}

// perfEventParanoid is kernel.perf_event_paranoid. Debian's and Ubuntu's kernels know a level above 2, and have it by default:
// then nobody but CAP_SYS_ADMIN may open a perf event. Where it cannot be read, it is taken to be 2.
func perfEventParanoid() int {
	text, _ := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
	level, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 2
	}
	return level
}

// checkFtrace reports whether the kernel changes functions for those who trace them. With 0 it takes kprobes and fexit
// programs, and never runs them.
func checkFtrace() error {
	if text, err := os.ReadFile("/proc/sys/kernel/ftrace_enabled"); err == nil && strings.TrimSpace(string(text)) == "0" {
		return errors.New("tracing of functions is switched off (sysctl kernel.ftrace_enabled is 0)")
	}
	return nil
}

// checkBTF reports whether the kernel describes its own types.
func checkBTF() error {
	if !exists("/sys/kernel/btf/vmlinux") {
		return errors.New("the kernel has no BTF (CONFIG_DEBUG_INFO_BTF; /sys/kernel/btf/vmlinux is missing)")
	}
	return nil
}

// A capability is a bit of CapEff, include/uapi/linux/capability.h.
type capability uint

const (
	capNetAdmin capability = unix.CAP_NET_ADMIN
	capSysAdmin capability = unix.CAP_SYS_ADMIN
	capPerfmon  capability = unix.CAP_PERFMON
	capBPF      capability = unix.CAP_BPF
)

func (c capability) String() string {
	switch c {
	case capNetAdmin:
		return "CAP_NET_ADMIN"
	case capSysAdmin:
		return "CAP_SYS_ADMIN"
	case capPerfmon:
		return "CAP_PERFMON"
	case capBPF:
		return "CAP_BPF"
	}
	return fmt.Sprintf("capability %d", uint(c))
}

// checkCapabilities names what this process lacks. CAP_SYS_ADMIN stands for all of them, as before 5.8.
func checkCapabilities(needs []capability) error {
	self, err := procfs.Self()
	if err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	status, err := self.NewStatus()
	if err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	missing := missingCapabilities(status.CapEff, needs)
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("needs %s (run as root)", strings.Join(missing, " and "))
}

func missingCapabilities(effective uint64, needs []capability) []string {
	if effective&(1<<capSysAdmin) != 0 {
		return nil
	}
	var missing []string
	for _, c := range needs {
		if effective&(1<<c) == 0 {
			missing = append(missing, c.String())
		}
	}
	return missing
}

// lockdown is the kernel's lockdown mode: none, integrity or confidentiality.
func lockdown() string {
	text, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return "none"
	}
	_, rest, _ := strings.Cut(string(text), "[")
	mode, _, _ := strings.Cut(rest, "]")
	return mode
}

// jit reports whether the kernel compiles BPF programs. Where it cannot be told, it is taken to.
func jit() bool {
	text, err := os.ReadFile("/proc/sys/net/core/bpf_jit_enable")
	return err != nil || strings.TrimSpace(string(text)) != "0"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// explainLoad says what the kernel's refusal to load the program means where its own words mislead. memlock is why the
// limit on locked memory could not be lifted.
func explainLoad(err, memlock error) error {
	switch {
	case errors.Is(err, unix.EPERM) && memlock != nil:
		return fmt.Errorf("the limit on locked memory is too low, and we may not raise it (before 5.11; ulimit -l, or CAP_SYS_RESOURCE): %w", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("the host's policy refuses the program (EPERM, although we have the capabilities; in a user namespace they do not count): %w", err)
	case lockdown() == "confidentiality":
		return fmt.Errorf("lockdown=confidentiality keeps programs from reading kernel memory: %w", err)
	}
	return fmt.Errorf("load the program: %w", err)
}
