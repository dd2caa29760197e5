package qemu

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

// Busybox is a shell and its tools for an initramfs: a static busybox of this machine, and where init speaks before anything
// is mounted.
func Busybox(ctx context.Context) ([]File, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	if err := checkStatic(busybox); err != nil {
		return nil, err
	}
	applets, err := Output(exec.CommandContext(ctx, busybox, "--list-full"))
	if err != nil {
		return nil, err
	}
	files := []File{
		{Name: "bin/busybox", Mode: 0o755, Source: busybox},
		{Name: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1},
	}
	for applet := range strings.FieldsSeq(applets) {
		if applet != "bin/busybox" {
			files = append(files, File{Name: applet, Mode: fs.ModeSymlink | 0o777, Contents: "/bin/busybox"})
		}
	}
	return files, nil
}

func checkStatic(name string) error {
	f, err := elf.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s needs shared libraries: install busybox-static", name)
		}
	}
	return nil
}

// WriteInitramfs writes one. It is not compressed: unpacking would be emulated.
func WriteInitramfs(name string, files []File) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return writeCPIO(f, files)
}
