package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// machine boots kernels, one at a time.
type machine struct {
	cache   *cache
	work    string
	files   []file // of every guest
	timeout time.Duration
	verbose bool
}

// commandLine is the kernel's. An oops ends the machine instead of leaving it half dead; nothing emulated can be attacked
// by speculation; an emulated clock is never so wrong that it must be watched.
var commandLine = []string{
	"console=ttyS0", "quiet", "loglevel=4", "panic=-1", "oops=panic", "mitigations=off", "cryptomgr.notests",
	"tsc=reliable", "no_timer_check", "random.trust_cpu=on",
}

// boot runs a scenario in a kernel.
func (m *machine) boot(ctx context.Context, k kernel, files *kernelFiles, s scenario) result {
	r := result{kernel: k, scenario: s}
	name := k.name
	if s.name != "" {
		name += "-" + s.name
	}
	r.path = filepath.Join(m.cache.dir, "console-"+name+".txt")
	initramfs := filepath.Join(m.work, "initramfs")
	all := slices.Concat(m.files, files.modules, []file{text("plan", s.plan(k), 0o644)})
	if r.err = writeInitramfs(initramfs, all); r.err != nil {
		return r
	}
	out, err := os.Create(r.path)
	if err != nil {
		r.err = err
		return r
	}
	var show io.Writer = out
	if m.verbose {
		show = io.MultiWriter(out, os.Stdout)
	}
	r.err = errors.Join(m.run(ctx, &r, show, files.image, initramfs), out.Close())
	return r
}

// run is one machine's life. Its error is one of this program or QEMU; what the guest did is in r.
func (m *machine) run(ctx context.Context, r *result, show io.Writer, image, initramfs string) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	// One thread for both CPUs. With a thread each, QEMU before 8.1 may translate code that the other CPU changes at that
	// moment, as kernels do for kprobes and static keys: then the guest dies of a breakpoint that nobody set ("Oops: int3").
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=single", "-machine", "q35", "-cpu", "max,la57=off", "-smp", "2", "-m", "2048",
		"-nodefaults", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", image, "-initrd", initramfs, "-append", strings.Join(append(commandLine, r.scenario.cmdline...), " "))
	cmd.Stderr = show
	// However this process ends, the machine ends too. The signal comes when the thread ends that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	serial, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(serial)
	for !r.done {
		line, err := lines.ReadString('\n')
		if _, err := io.WriteString(show, strings.ReplaceAll(line, mark, "")); err != nil {
			cancel()
			return errors.Join(err, cmd.Wait())
		}
		if line != "" {
			r.line(line)
		}
		if r.release != "" && r.boot == 0 {
			r.boot = time.Since(begun)
		}
		if err != nil {
			break // the machine has ended
		}
	}
	r.total = time.Since(begun)
	r.hung = errors.Is(ctx.Err(), context.DeadlineExceeded)
	cancel() // done: nothing is waited for
	if err := cmd.Wait(); err != nil && !r.done && !r.hung && ctx.Err() == nil {
		return fmt.Errorf("qemu: %w", err)
	}
	return nil
}
