package qemu

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Machine is what a guest runs on.
type Machine struct {
	Image, Initramfs string
	CPUs             int
	Memory           int      // MiB
	CommandLine      []string // more of the kernel's
	// Devices are QEMU's arguments for whatever the machine has beside CPUs and memory. One of them speaks with Guest.
	Devices    []string
	Complaints io.Writer // what QEMU itself says
}

// commandLine is the kernel's. An oops ends the machine instead of leaving it half dead; nothing emulated can be attacked
// by speculation; an emulated clock is never so wrong that it must be watched.
var commandLine = []string{
	"console=ttyS0", "quiet", "loglevel=4", "panic=-1", "oops=panic", "mitigations=off", "cryptomgr.notests",
	"tsc=reliable", "no_timer_check", "random.trust_cpu=on",
}

// Guest is a machine that runs. Where the machine would boot again it ends.
type Guest struct {
	In  io.WriteCloser // of the device that is connected to stdio
	Out *bufio.Reader
	cmd *exec.Cmd
}

// Start starts a machine, which is killed when ctx is done. However this process ends, the machine ends too: so it is
// bound to the calling goroutine's thread until Wait, which must be called there.
func Start(ctx context.Context, m Machine) (*Guest, error) {
	// One thread for all CPUs. With a thread each, QEMU before 8.1 may translate code that the other CPU changes at that
	// moment, as kernels do for kprobes and static keys: then the guest dies of a breakpoint that nobody set ("Oops: int3").
	args := []string{
		"-accel", "tcg,thread=single", "-machine", "q35", "-cpu", "max,la57=off", "-smp", strconv.Itoa(m.CPUs), "-m", strconv.Itoa(m.Memory),
		"-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot",
		"-kernel", m.Image, "-initrd", m.Initramfs, "-append", strings.Join(append(commandLine, m.CommandLine...), " "),
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(args, m.Devices...)...)
	cmd.Stderr = m.Complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	// The signal comes when the thread ends that started it.
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("start qemu: %w", err)
	}
	return &Guest{in, bufio.NewReader(out), cmd}, nil
}

// Kill ends the machine as a power cut does, but for what it gave to its disk: that survives if QEMU wrote it.
func (g *Guest) Kill() { _ = g.cmd.Process.Kill() }

// Wait waits until the machine has ended; all of Out must have been read before.
func (g *Guest) Wait() error {
	defer runtime.UnlockOSThread()
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	return nil
}
