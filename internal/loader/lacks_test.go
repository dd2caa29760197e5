package loader

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/test/need"
)

// lockLittle leaves this process a small limit on locked memory, which only CAP_SYS_RESOURCE may raise.
func lockLittle() error {
	return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 64 << 10, Max: 64 << 10})
}

// TestLacks: each right that is missing is told by name, and with the least that is enough it works.
func TestLacks(t *testing.T) {
	const (
		bpf, perfmon, admin = unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_ADMIN
	)
	module := conntrack.IsModule("")
	paranoid := perfEventParanoid() > 2
	memlock := before(t, 5, 11)
	with := func(caps ...uintptr) []uintptr {
		if memlock {
			caps = append(caps, unix.CAP_SYS_RESOURCE)
		}
		return caps
	}
	onProbes(t, func(t *testing.T, o Options) {
		for _, c := range []struct {
			name string
			caps []uintptr
			want map[string]string // what is said, by probe
		}{
			{"none", nil, map[string]string{
				Fexit: "needs CAP_", Kprobe: "needs CAP_BPF and CAP_PERFMON", Tracepoint: "needs CAP_BPF and CAP_PERFMON",
			}},
			{"one of two", with(bpf), map[string]string{
				Fexit: "needs CAP_", Kprobe: "needs CAP_PERFMON", Tracepoint: "needs CAP_PERFMON",
			}},
			{"CAP_BPF and CAP_PERFMON", with(bpf, perfmon), map[string]string{
				Fexit:  unless(!module, "needs CAP_SYS_ADMIN"),
				Kprobe: unless(!paranoid, "needs CAP_SYS_ADMIN (run as root), for kernel.perf_event_paranoid is"), Tracepoint: "attached",
			}},
			{"CAP_SYS_ADMIN", with(admin), map[string]string{Fexit: "attached", Kprobe: "attached", Tracepoint: "attached"}},
			{"no memory to lock", []uintptr{admin}, map[string]string{
				Fexit: "attached", Kprobe: unless(!memlock, "limit on locked memory"), Tracepoint: unless(!memlock, "limit on locked memory"),
			}},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				if got := heldWith(t, o.Probe, c.caps); !strings.Contains(got, c.want[o.Probe]) {
					t.Errorf("%q; want %q", got, c.want[o.Probe])
				}
			})
		}
	})
}

// unless is what a held probe says if it works, else why not.
func unless(works bool, why string) string {
	if works {
		return "attached"
	}
	return why
}

// heldWith is what a process says that is to hold the probe with these capabilities.
func heldWith(t *testing.T, probe string, capabilities []uintptr) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe") // nobody may not enter the directory that it is in
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "CTWATCH_TEST_HOLD="+probe, "CTWATCH_TEST_LOCK_LITTLE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: capabilities}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	in.Close()
	_ = cmd.Wait()
	return line
}

// before reports whether the running kernel is older.
func before(t *testing.T, major, minor int) bool {
	t.Helper()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	var x, y int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(uts.Release[:]), "%d.%d", &x, &y); err != nil {
		t.Fatal(err)
	}
	return x < major || x == major && y < minor
}

// TestSwitchedOff switches off, one after the other, what probes need, and has each say so by name. Without the compiler of
// BPF programs all work.
func TestSwitchedOff(t *testing.T) {
	need.Guest(t)
	for _, c := range []struct {
		file string
		says map[string]string // by probe; those not named work
	}{
		{"/sys/kernel/debug/kprobes/enabled", map[string]string{Kprobe: "kprobes are switched off"}},
		{"/proc/sys/kernel/ftrace_enabled", map[string]string{Kprobe: "kernel.ftrace_enabled is 0", Fexit: "kernel.ftrace_enabled is 0"}},
		{"/proc/sys/net/core/bpf_jit_enable", nil},
	} {
		t.Run(c.file, func(t *testing.T) {
			switchOff(t, c.file)
			for _, name := range []string{Fexit, Kprobe, Tracepoint} {
				if !need.MustProbe(name) {
					continue
				}
				p, err := Open(Options{Probe: name, Module: conntrack.IsModule("")})
				if says := c.says[name]; says != "" {
					if err == nil || !strings.Contains(err.Error(), says) {
						t.Errorf("%s: %v; want %q", name, err, says)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				counted(t, p)
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// switchOff writes 0 to a file of the kernel's until the test ends.
func switchOff(t *testing.T, file string) {
	t.Helper()
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, was, 0); err != nil {
			t.Error(err)
		}
	})
}
