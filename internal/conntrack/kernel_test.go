package conntrack

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/test/need"
)

// needsKernel skips a test where there is no kernel to try it on.
func needsKernel(t *testing.T) {
	t.Helper()
	need.Root(t)
	if !Loaded("") {
		t.Skip("needs nf_conntrack")
	}
	for _, tool := range []string{"conntrack", "ip", "nft"} {
		need.Tool(t, tool)
	}
}

// inNamespace runs f on a thread in a network namespace of its own, which ends with the test.
func inNamespace(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		f(t)
	}()
	<-done
}

// TestReadAgainstConntrack moves counters on each CPU and compares what ctnetlink, /proc and the conntrack tool say.
func TestReadAgainstConntrack(t *testing.T) {
	needsKernel(t)
	inNamespace(t, func(t *testing.T) {
		sent := movesCounters(t)
		r, err := NewReader("")
		if err != nil {
			t.Error(err)
			return
		}
		var netlink, proc Snapshot
		if err := r.Read(&netlink); err != nil {
			t.Errorf("read: %v", err)
			return
		}
		if netlink.Source != CTNetlink || netlink.Passed != nil {
			t.Errorf("read from %v: %v", netlink.Source, netlink.Passed)
		}
		if netlink.Cookie != cookie() {
			t.Errorf("cookie %d, want %d", netlink.Cookie, cookie())
		}
		if len(sent) == 0 {
			t.Error("no CPU to send from")
		}
		for cpu, n := range sent {
			if netlink.CPU[cpu][CounterInvalid] < n {
				t.Errorf("cpu %d: %v, want %d invalid or more", cpu, netlink.CPU[cpu], n)
			}
		}
		if count := run(t, "conntrack", "-C"); strings.TrimSpace(count) != fmt.Sprint(netlink.Count) {
			t.Errorf("count %d, conntrack -C says %s", netlink.Count, count)
		}
		if diff := cmp.Diff(conntrackStatistics(t), netlink.CPU); diff != "" {
			t.Errorf("-conntrack -S +ctnetlink:\n%s", diff)
		}
		if err := r.readProcStat(&proc); errors.Is(err, os.ErrNotExist) {
			t.Logf("no CONFIG_NF_CONNTRACK_PROCFS: %v", err)
			return
		} else if err != nil {
			t.Error(err)
			return
		}
		proc.Source, proc.Cookie = netlink.Source, netlink.Cookie
		proc.Max = netlink.Max // other tests may be changing it
		if diff := cmp.Diff(netlink, proc); diff != "" {
			t.Errorf("-ctnetlink +/proc:\n%s", diff)
		}
	})
}

// TestReadOfThisThread checks that a namespace just born is empty, whatever the process's other threads see.
func TestReadOfThisThread(t *testing.T) {
	needsKernel(t)
	var outer uint64
	inNamespace(t, func(t *testing.T) {
		movesCounters(t)
		outer = cookie()
		inNamespace(t, func(t *testing.T) {
			r, err := NewReader("")
			if err != nil {
				t.Error(err)
				return
			}
			var s, proc Snapshot
			if err := errors.Join(r.Read(&s), r.readCount(&proc)); err != nil {
				t.Error(err)
				return
			}
			if s.Count != 0 || s.Totals() != (Totals{}) || proc.Count != 0 {
				t.Errorf("a new namespace holds %+v, by sysctl %+v", s, proc)
			}
			if s.Cookie == outer && outer != 0 {
				t.Errorf("cookie %d is the other namespace's", s.Cookie)
			}
			if err := r.readProcStat(&s); err == nil && s.Totals() != (Totals{}) {
				t.Errorf("/proc of a new namespace shows %+v", s)
			}
		})
	})
}

// TestReadWithoutCapability checks that an unprivileged reader passes to /proc, says why, and knows where it is.
func TestReadWithoutCapability(t *testing.T) {
	needsKernel(t)
	inNamespace(t, func(t *testing.T) {
		movesCounters(t)
		r, err := NewReader("")
		if err != nil {
			t.Error(err)
			return
		}
		var want, got Snapshot
		if err := r.Read(&want); err != nil {
			t.Error(err)
			return
		}
		var data [2]unix.CapUserData // none; of this thread alone
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
			t.Errorf("drop capabilities: %v", err)
			return
		}
		if err := r.Read(&got); err != nil {
			t.Error(err)
			return
		}
		if !errors.Is(got.Passed, unix.EPERM) {
			t.Errorf("passed ctnetlink over because of %v, want %v", got.Passed, unix.EPERM)
		}
		want.Passed, want.Source, want.Max = got.Passed, Procfs, got.Max // other tests may be changing max
		if got.Source == Sysctl {                                        // no CONFIG_NF_CONNTRACK_PROCFS
			want.Source, want.Known, want.CPU = Sysctl, 0, got.CPU
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// TestReadHoldsNothing counts open files: one left would pin a namespace.
func TestReadHoldsNothing(t *testing.T) {
	needsKernel(t)
	inNamespace(t, func(t *testing.T) {
		r, err := NewReader("")
		if err != nil {
			t.Error(err)
			return
		}
		var s Snapshot
		before := openFiles(t)
		for range 100 {
			if err := errors.Join(r.Read(&s), r.readProcStat(&s), r.readCount(&s)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
				return
			}
		}
		if after := openFiles(t); after != before {
			t.Errorf("%d open files, %d before", after, before)
		}
	})
}

// movesCounters sends one packet from the first CPU, two from the second and so on: ICMP answers that nobody asked for,
// which are invalid. It returns how many by CPU. From each CPU it also makes an entry, unless another test has made the
// machine's limits too small for that just now.
func movesCounters(t *testing.T) map[int]uint32 {
	t.Helper()
	run(t, "ip", "link", "set", "lo", "up")
	run(t, "nft", "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c ct state new")
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		t.Errorf("open socket: %v", err)
		return nil
	}
	defer unix.Close(fd)
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Error(err)
		return nil
	}
	defer unix.SchedSetaffinity(0, &before)
	sent := map[int]uint32{}
	for cpu := range len(before) * strconv.IntSize {
		if !before.IsSet(cpu) || len(sent) == 8 {
			continue
		}
		var one unix.CPUSet
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			t.Errorf("run on cpu %d: %v", cpu, err)
			return nil
		}
		sent[cpu] = uint32(len(sent) + 1)
		for range sent[cpu] {
			reply := []byte{0, 0, 0xff, 0xff, 0, 0, 0, 0}
			if err := unix.Sendto(fd, reply, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				t.Errorf("send: %v", err)
			}
		}
		_ = exec.Command("conntrack", "-I", "-p", "udp", "-s", "192.0.2.1", "-d", "192.0.2.2", "-t", "600",
			"--sport", strconv.Itoa(1000+cpu), "--dport", "53").Run()
	}
	return sent
}

// conntrackStatistics reads what `conntrack -S` prints: "cpu=0 found=0 invalid=0 ...".
func conntrackStatistics(t *testing.T) []Counters {
	t.Helper()
	var rows []Counters
	for lines := bufio.NewScanner(strings.NewReader(run(t, "conntrack", "-S"))); lines.Scan(); {
		values := map[string]uint32{}
		for _, field := range strings.Fields(lines.Text()) {
			name, value, _ := strings.Cut(field, "=")
			v, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				t.Errorf("conntrack -S: %q", field)
			}
			values[name] = uint32(v)
		}
		var row Counters
		for c := range Counter(NumCounters) {
			row[c] = values[c.String()]
		}
		rows = append(rows, row)
	}
	return rows
}

// run runs a tool in this thread's namespace.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Errorf("%s %s: %v: %s", name, strings.Join(args, " "), err, &stderr)
	}
	return stdout.String()
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Error(err)
	}
	return len(files)
}

func BenchmarkRead(b *testing.B) {
	r, err := NewReader("")
	if err != nil {
		b.Fatal(err)
	}
	var s Snapshot
	sources := map[string]func(*Snapshot) error{
		"ctnetlink": r.readNetlink, "procfs": r.readProcStat, "sysctl": r.readCount,
	}
	for name, read := range sources {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.moved(&s)
				s.reset()
				if err := read(&s); err != nil {
					b.Skip(err)
				}
			}
		})
	}
}
