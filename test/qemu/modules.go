package qemu

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// chooseModules moves the wanted modules and those they need.
func chooseModules(ctx context.Context, whole, dir, release string) error {
	if err := depmod(ctx, whole, release); err != nil {
		return err
	}
	from, to := filepath.Join(whole, "lib/modules", release), filepath.Join(dir, "lib/modules", release)
	deps, err := os.ReadFile(filepath.Join(from, "modules.dep"))
	if err != nil {
		return err
	}
	var packed []string
	for _, m := range withNeeded(string(deps), wantedModule) {
		target := filepath.Join(to, m)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(from, m), target); err != nil {
			return err
		}
		if strings.HasSuffix(m, ".xz") {
			packed = append(packed, target)
		} else if !strings.HasSuffix(m, ".ko") {
			return fmt.Errorf("module %s is compressed in a way that is not known here", m)
		}
	}
	// The guest's modprobe takes modules as they are.
	if len(packed) > 0 {
		if _, err := Output(exec.CommandContext(ctx, "xz", append([]string{"-d", "--"}, packed...)...)); err != nil {
			return err
		}
	}
	for _, name := range []string{"modules.builtin", "modules.builtin.modinfo", "modules.order"} {
		if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return depmod(ctx, dir, release)
}

func depmod(ctx context.Context, base, release string) error {
	_, err := Output(exec.CommandContext(ctx, "depmod", "-b", base, release))
	return err
}

// wantedDirs are where the modules are that tests may need, all but the last parts of their paths.
var wantedDirs = []string{
	"kernel/net/netfilter", "kernel/net/ipv4", "kernel/net/ipv6", "kernel/net/bridge", "kernel/net/sched",
	"kernel/net/openvswitch", "kernel/net/core", "kernel/net/802", "kernel/net/8021q", "kernel/net/llc",
	"kernel/net/sctp", "kernel/net/nsh", "kernel/lib", "kernel/crypto", "kernel/arch/x86/crypto",
}

// wantedNames are modules elsewhere.
var wantedNames = []string{"veth", "dummy", "ifb", "virtio_blk"}

func wantedModule(name string) bool {
	for _, d := range wantedDirs {
		if strings.HasPrefix(name, d+"/") {
			return true
		}
	}
	base, _, _ := strings.Cut(path.Base(name), ".")
	for _, w := range wantedNames {
		if base == w {
			return true
		}
	}
	return false
}

// withNeeded lists the wanted modules of a modules.dep and, each once, those they need.
func withNeeded(deps string, wanted func(string) bool) []string {
	var names []string
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	for line := range strings.Lines(deps) {
		// A module's line has all that it needs, not only what it needs itself.
		name, needed, ok := strings.Cut(line, ":")
		if !ok || !wanted(name) {
			continue
		}
		add(name)
		for _, n := range strings.Fields(needed) {
			add(n)
		}
	}
	return names
}

// one finds the one file that matches any of the patterns.
func one(patterns ...string) (string, error) {
	var found []string
	for _, p := range patterns {
		matches, err := filepath.Glob(p)
		if err != nil {
			return "", err
		}
		found = append(found, matches...)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d files match %s, want one", len(found), strings.Join(patterns, " or "))
	}
	return found[0], nil
}

// choiceSum tells choices of modules apart.
func choiceSum() uint32 {
	return crc32.ChecksumIEEE([]byte(strings.Join(slices.Concat(wantedDirs, wantedNames), " ")))
}
