package loader

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/test/lab"
	"github.com/ctwatch/ctwatch/test/need"
)

const netfilter = "/proc/sys/net/netfilter/"

// onLimits runs f with each program that tells of writes, and a lab that has noted the limits. The one for kernels before 6.1
// works on all.
func onLimits(t *testing.T, f func(t *testing.T, l *Limits, lab *lab.Lab)) {
	need.Root(t)
	for _, program := range []string{programProgSysctlWrite, programProgSysctlByTask} {
		t.Run(program, func(t *testing.T) {
			if program == programProgSysctlWrite && before(t, 6, 1) {
				t.Skip("before 6.1 a program cannot ask who the current task is")
			}
			if program == programProgSysctlByTask && lockdown() == "confidentiality" {
				t.Skip("lockdown=confidentiality keeps programs from reading kernel memory")
			}
			lb, err := lab.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := lb.Close(); err != nil {
					t.Error(err)
				}
			}()
			for _, name := range []string{lab.Max, lab.Buckets, lab.ExpectMax} {
				if err := lb.SetLimit(name, limit(t, name)); err != nil {
					t.Fatal(err)
				}
			}
			cgroup, err := openCgroupRoot("")
			if err != nil {
				t.Fatal(err)
			}
			defer cgroup.Close()
			l, err := openLimits(cgroup, program)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			l.ring.SetDeadline(time.Now().Add(20 * time.Second))
			f(t, l, lb)
		})
	}
}

// limit is a limit as it is now.
func limit(t *testing.T, name string) uint64 {
	t.Helper()
	text, err := os.ReadFile(netfilter + name)
	if err != nil {
		t.Fatal(err)
	}
	value, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// shell runs a script in mount namespaces of its own.
func shell(t *testing.T, script string) (pid int) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return cmd.Process.Pid
}

// TestLimitWrites: each write is told with who made it, by whichever way to the limit; and nothing else is.
func TestLimitWrites(t *testing.T) {
	self := os.Getpid()
	comm := filepath.Base(os.Args[0])
	comm = comm[:min(15, len(comm))]
	procs := t.TempDir()
	write := func(text, file string) func(*testing.T) int {
		return func(t *testing.T) int {
			if err := os.WriteFile(file, []byte(text), 0); err != nil {
				t.Fatal(err)
			}
			return self
		}
	}
	refused := func(text, file string) func(*testing.T) int {
		return func(t *testing.T) int {
			if err := os.WriteFile(file, []byte(text), 0); err == nil {
				t.Errorf("the kernel took %q", text)
			}
			return self
		}
	}
	onLimits(t, func(t *testing.T, l *Limits, lb *lab.Lab) {
		is, buckets := limit(t, lab.Max), limit(t, lab.Buckets)
		max := is + 1
		told := func(key string, from, to uint64, comm string) []LimitWrite {
			return []LimitWrite{{Key: key, From: from, To: to, Comm: comm}}
		}
		for _, c := range []struct {
			name string
			do   func(t *testing.T) (pid int)
			want []LimitWrite // PID is what do returns
		}{
			{"this process", func(t *testing.T) int {
				if err := lb.SetLimit(lab.Max, max); err != nil {
					t.Fatal(err)
				}
				return self
			}, told(lab.Max, is, max, comm)},
			{"the other name", write(fmt.Sprint(is), "/proc/sys/net/nf_conntrack_max"), told(lab.Max, max, is, comm)},
			{"another process", func(t *testing.T) int {
				return shell(t, fmt.Sprintf("echo %d > %s", max, netfilter+lab.Max))
			}, told(lab.Max, is, max, "sh")},
			{"another mount of proc", func(t *testing.T) int {
				return shell(t, fmt.Sprintf("mount -t proc proc %s && echo %d > %s/sys/net/netfilter/%s", procs, is, procs, lab.Max))
			}, told(lab.Max, max, is, "sh")},
			{"buckets", write(fmt.Sprint(buckets), netfilter+lab.Buckets), told(lab.Buckets, buckets, buckets, comm)},
			{"no number", refused("many\n", netfilter+lab.Max), nil},
			{"nothing but blanks", func(*testing.T) int { _ = os.WriteFile(netfilter+lab.Max, []byte(" \n"), 0); return self }, nil},
			{"more than 32 bits", refused(fmt.Sprint(uint64(1)<<40), netfilter+lab.Max), told(lab.Max, is, 1<<40, comm)},
			{"more than 64 bits", refused("18446744073709551616", netfilter+lab.Max), nil},
			{"blanks around", write(fmt.Sprintf("\t %d \n", max), netfilter+lab.Max), told(lab.Max, is, max, comm)},
			{"blanks behind", write(fmt.Sprint(is, strings.Repeat(" ", 100)), netfilter+lab.Max), told(lab.Max, max, is, comm)},
			{"two numbers", func(*testing.T) int {
				// The kernel takes the first; the rest is written once more, and ignored.
				_ = os.WriteFile(netfilter+lab.Max, fmt.Append(nil, max, " 1"), 0)
				return self
			}, append(told(lab.Max, is, max, comm), told(lab.Max, max, 1, comm)...)},
		} {
			t.Run(c.name, func(t *testing.T) {
				begin := boottime(t)
				pid := c.do(t)
				for i := range c.want {
					c.want[i].PID = pid
				}
				// Another write of ours ends what is told of this one.
				const end = 99999999999
				refused(fmt.Sprint(end), netfilter+lab.Buckets)(t)
				var got []LimitWrite
				for {
					var w LimitWrite
					if err := l.Read(&w); err != nil {
						t.Fatal(err)
					}
					if w.To == end {
						break
					}
					if now := boottime(t); w.Boot < begin || w.Boot > now {
						t.Errorf("at %v, not between %v and %v", w.Boot, begin, now)
					}
					if w.Cgroup == 0 {
						t.Error("no cgroup")
					}
					got = append(got, w)
				}
				if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(LimitWrite{}, "Boot", "Cgroup")); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		}
		if lost, err := l.Lost(); lost != 0 || err != nil {
			t.Errorf("%d lost, %v", lost, err)
		}
	})
}

// TestLimitWritesAlone: neither reading nor writing anything else makes the program tell.
func TestLimitWritesAlone(t *testing.T) {
	onLimits(t, func(t *testing.T, l *Limits, lb *lab.Lab) {
		all, err := filepath.Glob("/proc/sys/net/*/*")
		if err != nil || !slices.Contains(all, netfilter+lab.Max) {
			t.Fatal(all, err)
		}
		for _, file := range all {
			_, _ = os.ReadFile(file) // some cannot be read
		}
		if err := lb.SetLimit(lab.ExpectMax, limit(t, lab.ExpectMax)); err != nil {
			t.Fatal(err)
		}
		if n := l.ring.AvailableBytes(); n != 0 {
			t.Errorf("%d bytes are in the ring", n)
		}
		if err := lb.SetLimit(lab.Max, limit(t, lab.Max)); err != nil {
			t.Fatal(err)
		}
		if l.ring.AvailableBytes() == 0 {
			t.Error("nothing is in the ring after a write")
		}
	})
}

// boottime is CLOCK_BOOTTIME.
func boottime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// TestLimitWriterCgroup: the id is that of the writer's cgroup.
func TestLimitWriterCgroup(t *testing.T) {
	onLimits(t, func(t *testing.T, l *Limits, _ *lab.Lab) {
		dir := childCgroup(t)
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			t.Fatal(err)
		}
		shell(t, fmt.Sprintf("echo $$ > %s/cgroup.procs && echo %d > %s", dir, limit(t, lab.Max), netfilter+lab.Max))
		var w LimitWrite
		if err := l.Read(&w); err != nil {
			t.Fatal(err)
		}
		if w.Cgroup != st.Ino {
			t.Errorf("cgroup %d, want %d", w.Cgroup, st.Ino)
		}
	})
}

// childCgroup makes a cgroup right under the root, until the test ends.
func childCgroup(t *testing.T) string {
	t.Helper()
	root, err := openCgroupRoot("")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	dir, err := os.MkdirTemp(root.Name(), "ctwatch-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestLimitWritesLost: what finds no room, and what stands too far behind, is counted.
func TestLimitWritesLost(t *testing.T) {
	onLimits(t, func(t *testing.T, l *Limits, _ *lab.Lab) {
		const writes = 600
		text := fmt.Append(nil, limit(t, lab.Max))
		for range writes {
			if err := os.WriteFile(netfilter+lab.Max, text, 0); err != nil {
				t.Fatal(err)
			}
		}
		lost, err := l.Lost()
		if err != nil || lost == 0 || lost >= writes {
			t.Fatalf("%d lost of %d, %v", lost, writes, err)
		}
		var w LimitWrite
		for range writes - lost {
			if err := l.Read(&w); err != nil {
				t.Fatal(err)
			}
		}
		far := append([]byte(strings.Repeat(" ", 60)), text...)
		for _, text := range [][]byte{far, text} {
			if err := os.WriteFile(netfilter+lab.Max, text, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Read(&w); err != nil {
			t.Fatal(err)
		}
		if now, err := l.Lost(); now != lost+1 || err != nil {
			t.Errorf("%d lost, want %d, %v", now, lost+1, err)
		}
	})
}

// TestLimitTextAsTheKernel: what is read as a number, the kernel reads as the same.
func TestLimitTextAsTheKernel(t *testing.T) {
	onLimits(t, func(t *testing.T, l *Limits, _ *lab.Lab) {
		is := limit(t, lab.Max)
		for _, format := range []string{
			"%d", "%d\n", " %d", "\v%d", "\f\r\t%d", "\xa0%d", "%d ", "%d\v", "%d\r\n", "%d\x00", "%d x", "%dx", "0%o", "00%o", "0%d9", "0x%x",
			"0X%X", "0x%xg", "0x0%x", "+%d", "- %d", "--%d", "00000000000000%o", "00000000000000000%o", "%020o", "%021o", "%022o", "%030o ", "0x%018x", "0x%019x",
			"%d,", "%d.5", "%de1", "\x00%d", "%d\t\n", "0b%b", "0o%o", "%d_0",
		} {
			text := fmt.Appendf(nil, format, is+1)
			err := os.WriteFile(netfilter+lab.Max, text, 0)
			took := limit(t, lab.Max) != is
			value, ok := parseLimit(text)
			if ok != took || ok && value != limit(t, lab.Max) {
				t.Errorf("%q: read as %d, %t; the kernel has %d, %v", text, value, ok, limit(t, lab.Max), err)
			}
			if err := os.WriteFile(netfilter+lab.Max, fmt.Append(nil, is), 0); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestLimitsClose: Read ends, and nothing stays in the kernel.
func TestLimitsClose(t *testing.T) {
	need.Root(t)
	before := programs(t)
	l, err := OpenLimits("")
	if err != nil {
		t.Fatal(err)
	}
	waitForPrograms(t, before, true)
	ended := make(chan error)
	go func() { ended <- l.Read(new(LimitWrite)) }()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	waitForPrograms(t, before, false)
}

// TestLimitsKilled: the program does not outlive a process that is killed.
func TestLimitsKilled(t *testing.T) {
	need.Root(t)
	before := programs(t)
	cmd, line := holdLimits(t, nil)
	if line != "attached\n" {
		t.Fatalf("the process said %q", line)
	}
	waitForPrograms(t, before, true)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waitForPrograms(t, before, false)
}

// waitForPrograms waits until there is a program of ours beside those before, or none.
func waitForPrograms(t *testing.T, before []ebpf.ProgramID, want bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		more := slices.ContainsFunc(programs(t), func(id ebpf.ProgramID) bool { return !slices.Contains(before, id) })
		if more == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s a program is loaded: %t, want %t", more, want)
		}
	}
}

// TestLimitsLack: each right that is missing is told by name, and with the least that is enough it works.
func TestLimitsLack(t *testing.T) {
	need.Root(t)
	const bpf, perfmon, netAdmin = unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN
	for _, c := range []struct {
		name string
		caps []uintptr
		want string
	}{
		{"none", nil, "needs CAP_BPF and CAP_PERFMON and CAP_NET_ADMIN (run as root)"},
		{"CAP_BPF and CAP_PERFMON", []uintptr{bpf, perfmon}, "needs CAP_NET_ADMIN (run as root)"},
		{"CAP_BPF and CAP_NET_ADMIN", []uintptr{bpf, netAdmin}, "needs CAP_PERFMON (run as root)"},
		{"all three", []uintptr{bpf, perfmon, netAdmin}, "attached"},
		{"CAP_SYS_ADMIN", []uintptr{unix.CAP_SYS_ADMIN}, "attached"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if len(c.caps) > 0 && before(t, 5, 11) {
				c.caps = append(c.caps, unix.CAP_SYS_RESOURCE) // to lock memory
			}
			cmd, line := holdLimits(t, &syscall.SysProcAttr{
				Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: c.caps,
			})
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if !strings.Contains(line, c.want) {
				t.Errorf("%q; want %q", line, c.want)
			}
		})
	}
}

const holdingLimits = "CTWATCH_TEST_HOLD_LIMITS"

// holdLimits starts a process that runs TestHoldLimits, and returns the first thing it says.
func holdLimits(t *testing.T, attr *syscall.SysProcAttr) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestHoldLimits$") // nobody may not enter the directory that it is in
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), holdingLimits+"=1")
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	return cmd, line
}

// TestHoldLimits is what the process of holdLimits does.
func TestHoldLimits(t *testing.T) {
	if os.Getenv(holdingLimits) == "" {
		t.Skip("is for holdLimits")
	}
	l, err := OpenLimits("")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	fmt.Println("attached")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

// TestLimitsInContainer: a cgroup2 that cannot be written is enough; one that shows a part of the machine is told.
func TestLimitsInContainer(t *testing.T) {
	need.Root(t)
	root, err := openCgroupRoot("")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		flags uintptr
		mount string
		want  string
	}{
		{"read-only", 0, "mount -o bind $0 $0 && mount -o remount,bind,ro $0 && ! mkdir $0/ctwatch-test 2>/dev/null", "attached"},
		{"cgroup namespace", syscall.CLONE_NEWCGROUP, "umount $0 && mount -t cgroup2 cgroup2 $0", "only a part of cgroup2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			child, err := os.Open(childCgroup(t))
			if err != nil {
				t.Fatal(err)
			}
			defer child.Close()
			cmd := exec.Command("/bin/sh", "-c", c.mount+` && exec "$1" -test.run='^TestHoldLimits$'`, root.Name(), exe)
			cmd.Env = append(os.Environ(), holdingLimits+"=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Unshareflags: syscall.CLONE_NEWNS | c.flags, UseCgroupFD: true, CgroupFD: int(child.Fd()),
			}
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v, %s; want %q", err, out, c.want)
			}
		})
	}
}

// TestLimitsHeld: a cgroup that another has for its program alone is told; one that is shared is shared.
func TestLimitsHeld(t *testing.T) {
	need.Root(t)
	other, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSysctl, AttachType: ebpf.AttachCGroupSysctl, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	const multi = 2 // BPF_F_ALLOW_MULTI
	for _, c := range []struct {
		name  string
		flags uint32
		want  string
	}{{"alone", 0, "another program holds it for itself alone"}, {"shared", multi, ""}} {
		t.Run(c.name, func(t *testing.T) {
			cgroup, err := os.Open(childCgroup(t))
			if err != nil {
				t.Fatal(err)
			}
			defer cgroup.Close()
			// It goes with the cgroup.
			if err := link.RawAttachProgram(link.RawAttachProgramOptions{
				Target: int(cgroup.Fd()), Program: other, Attach: ebpf.AttachCGroupSysctl, Flags: c.flags,
			}); err != nil {
				t.Fatal(err)
			}
			l, err := openLimits(cgroup, programProgSysctlWrite, programProgSysctlByTask)
			if err == nil {
				l.Close()
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// The mounts of a machine with both hierarchies, of one with cgroup2 alone, of one with v1 alone, and of a container.
const (
	hybridMounts = `23 1 254:0 / / rw,relatime - ext4 /dev/root rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	unifiedMounts = `25 30 0:23 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
29 25 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
`
	v1Mounts = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
`
	containerMounts = `1067 1062 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate
1068 1062 0:99 / /data rw - ext4 /dev/cgroup2 rw
`
)

func TestCgroup2Mounts(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"hybrid", hybridMounts, []string{"/sys/fs/cgroup/unified"}},
		{"unified", unifiedMounts, []string{"/sys/fs/cgroup"}},
		{"v1 alone", v1Mounts, nil},
		{"container", containerMounts, []string{"/sys/fs/cgroup"}},
		{"no text", "", nil},
		{"cut short", "29 25 0:26 /", nil},
	} {
		if diff := cmp.Diff(c.want, cgroup2Mounts([]byte(c.text))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// FuzzCgroup2Mounts: a mount is found amid any other text.
func FuzzCgroup2Mounts(f *testing.F) {
	f.Add(hybridMounts)
	f.Add(" - cgroup2 ")
	f.Fuzz(func(t *testing.T, around string) {
		rest := cgroup2Mounts([]byte(around + "\n"))
		got := cgroup2Mounts([]byte(around + "\n" + unifiedMounts))
		if diff := cmp.Diff(append(rest, "/sys/fs/cgroup"), got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// TestNoCgroupRoot: why the writers cannot be told is said.
func TestNoCgroupRoot(t *testing.T) {
	for _, c := range []struct {
		name, mountinfo string
		dir             string // that exists, no cgroup2
		want            string
	}{
		{"v1 alone", v1Mounts, "", "none is mounted"},
		{"cannot be entered", unifiedMounts, "", "open the cgroup2 root: "},
		{"something over it", hybridMounts, "sys/fs/cgroup/unified", "something else lies over it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "proc/1"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, "proc/1/mountinfo"), []byte(c.mountinfo), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(root, c.dir), 0o755); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenLimits(root); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	t.Run("no proc", func(t *testing.T) {
		if _, err := OpenLimits(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	t.Run("part of the machine", func(t *testing.T) {
		need.Root(t)
		if _, err := openCgroup(childCgroup(t)); err == nil || !strings.Contains(err.Error(), "only a part of cgroup2") {
			t.Error(err)
		}
	})
}
