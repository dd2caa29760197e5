package main

import (
	"context"
	"debug/elf"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed guest.sh
var guest string

const (
	testBinary = "tests"
	testRoot   = "ctwatch" // of the guest, where the project's directories are
)

// baseFiles are what every guest has: a shell and its tools, and the first process.
func baseFiles(ctx context.Context) ([]file, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	if err := checkStatic(busybox); err != nil {
		return nil, err
	}
	applets, err := output(exec.CommandContext(ctx, busybox, "--list-full"))
	if err != nil {
		return nil, err
	}
	files := []file{
		{name: "bin/busybox", mode: 0o755, source: busybox},
		text("init", guest, 0o755),
		// Before anything is mounted, init speaks here.
		{name: "dev/console", mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, major: 5, minor: 1},
	}
	for _, d := range []string{"proc", "sys", "run", "tmp", "etc"} {
		files = append(files, file{name: d, mode: fs.ModeDir})
	}
	for applet := range strings.FieldsSeq(applets) {
		if applet != "bin/busybox" {
			files = append(files, file{name: applet, mode: fs.ModeSymlink | 0o777, contents: "/bin/busybox"})
		}
	}
	more, err := withLibraries(ctx, "conntrack", "nft") // which the tests compare with
	return append(files, more...), err
}

var library = regexp.MustCompile(`(?m)^\s*(?:\S+ => )?/(\S+) \(0x`)

// withLibraries are programs of this machine and what they are linked with.
func withLibraries(ctx context.Context, programs ...string) ([]file, error) {
	var files []file
	seen := map[string]bool{}
	for _, program := range programs {
		found, err := exec.LookPath(program)
		if err != nil {
			return nil, err
		}
		linked, err := output(exec.CommandContext(ctx, "ldd", found))
		if err != nil {
			return nil, err
		}
		files = append(files, file{name: "usr/sbin/" + program, mode: 0o755, source: found})
		for _, m := range library.FindAllStringSubmatch(linked, -1) {
			if name := m[1]; !seen[name] {
				seen[name] = true
				files = append(files, file{name: name, mode: 0o755, source: "/" + name})
			}
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

// buildTests compiles the test binaries of these scenarios, each once.
func buildTests(ctx context.Context, work string, all []scenario) ([]file, error) {
	var files []file
	built := map[string]bool{}
	for _, s := range all {
		for _, step := range s.steps {
			if built[step.pkg] {
				continue
			}
			built[step.pkg] = true
			binary := filepath.Join(work, strings.ReplaceAll(step.pkg, "/", "-")+".test")
			cmd := exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", binary, "./"+step.pkg)
			cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
			if _, err := output(cmd); err != nil {
				return nil, err
			}
			dir := path.Join(testRoot, step.pkg)
			files = append(files, file{name: path.Join(dir, testBinary), mode: 0o755, source: binary})
			data, err := tree(filepath.Join(filepath.FromSlash(step.pkg), "testdata"), path.Join(dir, "testdata"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			files = append(files, data...)
		}
	}
	return files, nil
}

// writeInitramfs writes one for a scenario. It is not compressed: unpacking would be emulated.
func writeInitramfs(name string, files []file) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return writeCPIO(f, files)
}
