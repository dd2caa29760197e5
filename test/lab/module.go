package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const conntrackModule = "nf_conntrack"

// IsModule reports whether connection tracking is a module that is loaded, and so could be unloaded.
func IsModule() bool {
	modules, err := loadedModules()
	return err == nil && modules[conntrackModule] != nil
}

// module is a line of /proc/modules.
type module struct {
	usedBy []string // modules that need it
}

func loadedModules() (map[string]*module, error) {
	text, err := os.ReadFile("/proc/modules")
	if err != nil {
		return nil, err
	}
	modules := map[string]*module{}
	for line := range strings.Lines(string(text)) {
		// Name, size, uses, "nft_ct,nf_nat," or "-", state, address.
		fields := strings.Fields(line)
		if len(fields) < 4 {
			return nil, fmt.Errorf("read /proc/modules: %d columns", len(fields))
		}
		m := &module{}
		for user := range strings.SplitSeq(fields[3], ",") {
			if user != "" && user != "-" && user[0] != '[' {
				m.usedBy = append(m.usedBy, user)
			}
		}
		modules[fields[0]] = m
	}
	return modules, nil
}

// Unload removes the module nf_conntrack and all modules that need it, and returns their names. The lab's namespaces must
// be deleted before; it waits until the kernel has taken them down. unix.EWOULDBLOCK means that something else held
// nf_conntrack itself, when nothing that needs it was left.
func Unload(ctx context.Context) (removed []string, err error) {
	err = await(ctx, "modules to be free", func() (bool, error) {
		for {
			modules, err := loadedModules()
			if err != nil {
				return false, err
			}
			next := unused(modules, conntrackModule)
			if next == "" {
				return true, nil
			}
			err = unix.DeleteModule(next, unix.O_NONBLOCK)
			if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EBUSY) {
				if next == conntrackModule && quiet(modules) {
					return false, fmt.Errorf("unload %s: %w", next, err)
				}
				return false, nil // a namespace that is being taken down
			}
			if err != nil {
				return false, fmt.Errorf("unload %s: %w", next, err)
			}
			removed = append(removed, next)
		}
	})
	return removed, err
}

// quiet reports whether no module that could hold nf_conntrack for a moment is loaded.
func quiet(modules map[string]*module) bool { return len(modules[conntrackModule].usedBy) == 0 }

// unused finds a module to remove first: the named one, or one that needs it and that nothing needs. "" if it is not
// loaded.
func unused(modules map[string]*module, name string) string {
	m := modules[name]
	if m == nil {
		return ""
	}
	for _, user := range m.usedBy {
		if modules[user] != nil {
			return unused(modules, user)
		}
	}
	return name
}

// Load loads what Unload removed.
func Load(removed []string) error {
	for _, name := range slices.Backward(removed) {
		if out, err := exec.Command("modprobe", name).CombinedOutput(); err != nil {
			return fmt.Errorf("load %s: %w: %s", name, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// HasChainLimit reports whether the kernel refuses a packet for a chain that is too long (5.15, EL 9): then it counts them.
func HasChainLimit() (bool, error) {
	text, err := os.ReadFile("/proc/self/net/stat/nf_conntrack")
	if err != nil {
		return false, err
	}
	header, _, _ := strings.Cut(string(text), "\n")
	return slices.Contains(strings.Fields(header), "chainlength"), nil
}
