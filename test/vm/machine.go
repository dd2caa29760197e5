package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/test/qemu"
)

// machine boots kernels, one at a time.
type machine struct {
	cache   *qemu.Cache
	work    string
	files   []qemu.File // of every guest
	timeout time.Duration
	verbose bool
}

// boot runs a scenario in a kernel.
func (m *machine) boot(ctx context.Context, k kernel, files *qemu.KernelFiles, s scenario) result {
	r := result{kernel: k, scenario: s}
	name := k.Name
	if s.name != "" {
		name += "-" + s.name
	}
	r.path = m.cache.Path("console-" + name + ".txt")
	initramfs := filepath.Join(m.work, "initramfs")
	all := slices.Concat(m.files, files.Modules, []qemu.File{qemu.Text("plan", s.plan(k), 0o644)})
	if r.err = qemu.WriteInitramfs(initramfs, all); r.err != nil {
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
	r.err = errors.Join(m.run(ctx, &r, show, files.Image, initramfs), out.Close())
	return r
}

// run is one machine's life. Its error is one of this program or QEMU; what the guest did is in r.
func (m *machine) run(ctx context.Context, r *result, show io.Writer, image, initramfs string) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	begun := time.Now()
	guest, err := qemu.Start(ctx, qemu.Machine{
		Image: image, Initramfs: initramfs, CPUs: 2, Memory: 2048, CommandLine: r.scenario.cmdline,
		Devices: []string{"-serial", "stdio"}, Complaints: show,
	})
	if err != nil {
		return err
	}
	for !r.done {
		line, err := guest.Out.ReadString('\n')
		if _, err := io.WriteString(show, strings.ReplaceAll(line, mark, "")); err != nil {
			cancel()
			return errors.Join(err, guest.Wait())
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
	if err := guest.Wait(); err != nil && !r.done && !r.hung && ctx.Err() == nil {
		return err
	}
	return nil
}
