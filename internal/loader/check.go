package loader

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// errNotBuilt is for a probe that the machine would allow.
var errNotBuilt = errors.New("this machine allows it, but this version of ctwatch does not have it yet")

// checkFexit tries the smallest fexit program on the function that the probe is for.
func checkFexit(module bool) error {
	spec := &ebpf.ProgramSpec{
		Name:         "try_fexit",
		Type:         ebpf.Tracing,
		AttachType:   ebpf.AttachTraceFExit,
		AttachTo:     "early_drop",
		License:      "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	}
	if err := checkBTF(); err != nil {
		return err
	}
	needs := []capability{capBPF, capPerfmon}
	if module {
		needs = []capability{capSysAdmin} // to find the module's BTF
	}
	if err := checkCapabilities(needs); err != nil {
		return err
	}
	p, err := ebpf.NewProgramWithOptions(spec, ebpf.ProgramOptions{LogDisabled: true})
	switch {
	case err == nil:
		_ = p.Close()
		return errNotBuilt
	case errors.Is(err, unix.EPERM):
		return errors.New("the host's policy refuses fexit programs (EPERM, although we have the capabilities)")
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, btf.ErrNotFound):
		return errors.New("this kernel cannot attach fexit to early_drop (function or its BTF missing, or kernel before 5.5)")
	}
	return fmt.Errorf("load a fexit program: %w", err)
}

func checkKprobe() error {
	const pmu = "/sys/bus/event_source/devices/kprobe"
	if _, err := os.Stat(pmu); err != nil {
		return errors.New("this kernel has no kprobes (CONFIG_KPROBE_EVENTS; " + pmu + " is missing)")
	}
	if lockdown() == "confidentiality" {
		return errors.New("lockdown=confidentiality refuses kprobes")
	}
	if err := checkCapabilities([]capability{capBPF, capPerfmon}); err != nil {
		return err
	}
	return errNotBuilt
}

// checkBTF reports whether the kernel describes its own types.
func checkBTF() error {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return errors.New("the kernel has no BTF (CONFIG_DEBUG_INFO_BTF; /sys/kernel/btf/vmlinux is missing)")
	}
	return nil
}

// checkKernel reports whether the kernel has what the core is built on: it says why it frees a packet, knows netfilter as
// a reason (5.18, EL 9.2), and numbers its network namespaces.
func checkKernel(kernel *btf.Spec) error {
	var reason *btf.Enum
	if err := kernel.TypeByName("skb_drop_reason", &reason); err != nil {
		return errors.New("the kernel gives no reason when it frees a packet (needs 5.18 or EL 9.2)")
	}
	if !slices.ContainsFunc(reason.Values, func(v btf.EnumValue) bool { return v.Name == "SKB_DROP_REASON_NETFILTER_DROP" }) {
		return errors.New("the kernel does not name netfilter as a reason for freeing a packet (needs 5.18 or EL 9.2)")
	}
	var net *btf.Struct
	if err := kernel.TypeByName("net", &net); err != nil {
		return fmt.Errorf("find struct net in the kernel's BTF: %w", err)
	}
	for _, m := range net.Members {
		if m.Name == "net_cookie" {
			if _, number := btf.UnderlyingType(m.Type).(*btf.Int); number {
				return nil
			}
		}
	}
	return errors.New("the kernel does not number its network namespaces (net_cookie as a number; needs 5.12 or EL 9.0)")
}

// A capability is a bit of CapEff, include/uapi/linux/capability.h.
type capability uint

const (
	capSysAdmin capability = unix.CAP_SYS_ADMIN
	capPerfmon  capability = unix.CAP_PERFMON
	capBPF      capability = unix.CAP_BPF
)

func (c capability) String() string {
	switch c {
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
