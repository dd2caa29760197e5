package main

import (
	"context"
	_ "embed"
	"errors"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/ctwatch/ctwatch/test/qemu"
)

//go:embed guest.sh
var guest string

const (
	testBinary = "tests"
	testRoot   = "ctwatch" // of the guest, where the project's directories are
)

// baseFiles are what every guest has: a shell and its tools, and the first process.
func baseFiles(ctx context.Context) ([]qemu.File, error) {
	files, err := qemu.Busybox(ctx)
	if err != nil {
		return nil, err
	}
	files = append(files, qemu.Text("init", guest, 0o755))
	for _, d := range []string{"proc", "sys", "run", "tmp", "etc"} {
		files = append(files, qemu.File{Name: d, Mode: fs.ModeDir})
	}
	more, err := withLibraries(ctx, "conntrack", "nft") // which the tests compare with
	return append(files, more...), err
}

var library = regexp.MustCompile(`(?m)^\s*(?:\S+ => )?/(\S+) \(0x`)

// withLibraries are programs of this machine and what they are linked with.
func withLibraries(ctx context.Context, programs ...string) ([]qemu.File, error) {
	var files []qemu.File
	seen := map[string]bool{}
	for _, program := range programs {
		found, err := exec.LookPath(program)
		if err != nil {
			return nil, err
		}
		linked, err := qemu.Output(exec.CommandContext(ctx, "ldd", found))
		if err != nil {
			return nil, err
		}
		files = append(files, qemu.File{Name: "usr/sbin/" + program, Mode: 0o755, Source: found})
		for _, m := range library.FindAllStringSubmatch(linked, -1) {
			if name := m[1]; !seen[name] {
				seen[name] = true
				files = append(files, qemu.File{Name: name, Mode: 0o755, Source: "/" + name})
			}
		}
	}
	return files, nil
}

// buildTests compiles the test binaries of these scenarios, each once.
func buildTests(ctx context.Context, work string, all []scenario) ([]qemu.File, error) {
	var files []qemu.File
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
			if _, err := qemu.Output(cmd); err != nil {
				return nil, err
			}
			dir := path.Join(testRoot, step.pkg)
			files = append(files, qemu.File{Name: path.Join(dir, testBinary), Mode: 0o755, Source: binary})
			data, err := qemu.Tree(filepath.Join(filepath.FromSlash(step.pkg), "testdata"), path.Join(dir, "testdata"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			files = append(files, data...)
		}
	}
	return files, nil
}
