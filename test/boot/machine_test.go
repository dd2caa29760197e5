package boot

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/test/qemu"
)

// workshop is what machines are made of.
type workshop struct {
	cache     *qemu.Cache
	work      string
	kernel    *qemu.KernelFiles
	initramfs string
	disk      string // that every machine begins with
}

func openWorkshop(t *testing.T, suite string) *workshop {
	t.Helper()
	ctx := t.Context()
	cache, err := qemu.OpenCache(ctx)
	must(t, err)
	t.Cleanup(cache.Close)
	work, err := cache.Work()
	must(t, err)
	kernel := openKernel(t, cache)
	root, err := cache.Root(ctx, suite, packages)
	must(t, err)
	for _, p := range root.Packages {
		if name, _, _ := strings.Cut(p, "_"); slices.Contains([]string{"systemd", "procps", "udev", "kmod"}, name) {
			t.Log(p)
		}
	}
	w := &workshop{cache, work, kernel, filepath.Join(work, "initramfs"), filepath.Join(work, "disk")}
	ctwatch := filepath.Join(work, "ctwatch")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", ctwatch, "../../cmd/ctwatch")
	build.Env = append(build.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	_, err = qemu.Output(build)
	must(t, err)
	must(t, qemu.WriteInitramfs(w.initramfs, initramfs(t, kernel)))
	must(t, qemu.WriteDisk(ctx, w.disk, filepath.Join(work, "stage"), root.Dir, without, system(kernel, ctwatch)))
	return w
}

// openKernel takes the kernel of Debian 13, or another where the mirror has that one no more.
func openKernel(t *testing.T, cache *qemu.Cache) *qemu.KernelFiles {
	t.Helper()
	kernels := qemu.Pinned()
	slices.SortStableFunc(kernels, func(a, b qemu.Kernel) int {
		first := func(k qemu.Kernel) int { return slices.Index([]string{"7.3", "6.12"}, k.Name) }
		return first(b) - first(a)
	})
	for _, k := range kernels {
		kernel, err := cache.Kernel(t.Context(), k)
		var gone qemu.GoneError
		if errors.As(err, &gone) {
			t.Logf("%s: %v", k.Name, err)
			continue
		}
		must(t, err)
		return kernel
	}
	t.Fatal("the mirror has none of the kernels")
	return nil
}

// machine is one with a disk of its own, which it keeps when it is booted again.
type machine struct {
	*testing.T
	workshop *workshop
	disk     string
	console  string
	guest    *qemu.Guest // nil while it is off
	history  []string    // what was done with it, for when it fails
	ended    error
}

// machine makes one, which is off.
func (w *workshop) machine(t *testing.T) *machine {
	t.Helper()
	name := strings.ReplaceAll(t.Name(), "/", "-")
	m := &machine{T: t, workshop: w, disk: filepath.Join(w.work, name), console: w.cache.Path("console-" + name + ".txt")}
	must(t, qemu.Overlay(t.Context(), m.disk, w.disk))
	t.Cleanup(func() {
		if m.guest != nil {
			m.guest.Kill()
			_ = m.guest.Wait()
		}
		_ = os.Remove(m.disk)
		m.tellHistory()
	})
	return m
}

// within is the same machine for a subtest.
func (m *machine) within(t *testing.T) *machine {
	sub := *m
	sub.T, sub.history = t, nil
	t.Cleanup(sub.tellHistory)
	return &sub
}

// tellHistory says what was done if it led to no good.
func (m *machine) tellHistory() {
	if !m.Failed() {
		return
	}
	m.Logf("what was done:\n%s", strings.Join(m.history, "\n"))
	if said, err := os.ReadFile(m.console); err == nil {
		m.Logf("the console, %s, ends:\n%s", m.console, strings.Join(qemu.LastLines(string(said), 20), "\n"))
	}
}

const (
	systemd = "/usr/lib/systemd/systemd"
	// bare is a machine on which nothing runs but the agent.
	bare = "/" + agentPath
)

// patience is how long a machine may take for one thing. It takes a few seconds when nothing else runs.
const patience = 2 * time.Minute

// startBare boots into the agent alone; what was there to be seen of systemd is there, and conntrack is loaded.
func (m *machine) startBare() {
	m.Helper()
	m.start(bare)
	m.do("mkdir /run/systemd /run/systemd/system && modprobe nf_conntrack")
}

// start boots the machine, with systemd or something else first.
func (m *machine) start(first string) {
	m.Helper()
	begun := time.Now()
	var err error
	m.guest, err = qemu.Start(m.Context(), qemu.Machine{
		Image: m.workshop.kernel.Image, Initramfs: m.workshop.initramfs, CPUs: 1, Memory: 4096, CommandLine: []string{"first=" + first},
		Devices: []string{
			"-drive", "file=" + m.disk + ",format=qcow2,if=virtio,cache=writeback",
			"-serial", "file:" + m.console,
			"-device", "virtio-serial-pci", "-chardev", "stdio,id=port", "-device", "virtserialport,chardev=port",
		},
		Complaints: os.Stderr,
	})
	must(m.T, err)
	if line := m.line(); !strings.HasPrefix(line, "ready ") {
		m.Fatalf("the machine says %q instead of being ready", line)
	}
	m.note("booted in %.1f s", time.Since(begun).Seconds())
}

// note is for those who look why it failed.
func (m *machine) note(format string, args ...any) {
	m.history = append(m.history, fmt.Sprintf(format, args...))
}

// line is what the guest says next.
func (m *machine) line() string {
	m.Helper()
	line, err := m.next()
	if err != nil {
		m.Fatalf("the machine ended: %v", err)
	}
	return line
}

func (m *machine) next() (string, error) {
	timer := time.AfterFunc(patience, m.guest.Kill)
	defer timer.Stop()
	line, err := m.guest.Out.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// tell has the guest begin a script.
func (m *machine) tell(script string) {
	m.Helper()
	m.note("$ %s", script)
	_, err := fmt.Fprintln(m.guest.In, base64.StdEncoding.EncodeToString([]byte(script)))
	must(m.T, err)
}

// try has the guest run a script: what it printed, and its status.
func (m *machine) try(script string) (output string, status int) {
	m.Helper()
	begun := time.Now()
	m.tell(script)
	number, text, _ := strings.Cut(m.line(), " ")
	status, err := strconv.Atoi(number)
	must(m.T, err)
	decoded, err := base64.StdEncoding.DecodeString(text)
	must(m.T, err)
	output = strings.TrimRight(string(decoded), "\n")
	m.note("%.2000s\n(%d, %.1f s)", output, status, time.Since(begun).Seconds())
	return output, status
}

// do has the guest run a script, which must succeed.
func (m *machine) do(script string) string {
	m.Helper()
	output, status := m.try(script)
	if status != 0 {
		m.Fatalf("%s: status %d:\n%s", script, status, output)
	}
	return output
}

// off waits until the machine has ended.
func (m *machine) off() {
	m.Helper()
	for {
		if _, err := m.next(); err != nil {
			break
		}
	}
	m.ended = m.guest.Wait()
	m.guest = nil
}

// reboot is an orderly one.
func (m *machine) reboot() {
	m.Helper()
	begun := time.Now()
	m.tell("systemctl reboot")
	m.off()
	m.note("shut down in %.1f s", time.Since(begun).Seconds())
	must(m.T, m.ended)
	m.start(systemd)
}

// cut takes the machine's power away.
func (m *machine) cut() {
	m.Helper()
	m.note("power cut")
	m.guest.Kill()
	m.off()
}

// limits are those of the running kernel.
type limits struct{ Max, Buckets uint64 }

// live reads the running limits; they are 0 where conntrack is not loaded.
func (m *machine) live() (l limits) {
	m.Helper()
	out := m.do("cd /proc/sys/net/netfilter && cat nf_conntrack_max nf_conntrack_buckets 2>/dev/null || echo 0 0")
	_, err := fmt.Sscan(out, &l.Max, &l.Buckets)
	must(m.T, err)
	return l
}

// outlook is what limit show says, as far as it is looked at here.
type outlook struct {
	Live, Persisted limits // 0 is null: not loaded, not persisted
	NextBoot        limits `json:"next_boot"`
}

func (m *machine) show() (o outlook) {
	m.Helper()
	must(m.T, json.Unmarshal([]byte(m.do("ctwatch limit show --format json")), &o))
	return o
}

// files are the files of /etc and ours elsewhere: their types, modes, owners, sizes, sums and targets.
func (m *machine) files() string {
	m.Helper()
	return m.do(`find /etc /usr/lib/sysctl.d -printf '%M %U:%G %p %l\n' | sort; find /etc /usr/lib/sysctl.d -type f -exec sha256sum {} + | sort -k 2`)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
