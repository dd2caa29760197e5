package recipe

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ctwatch/ctwatch/test/need"
)

func TestUsage(t *testing.T) {
	everywhere(t, func(t *testing.T, tg target, h *host) {
		before := snapshot(t, h.root)
		for _, args := range [][]string{{"aply"}, {"-x"}, {"--help"}, {"show", "apply"}, {"apply", "undo"}, {""}} {
			h.says(h.run(2, args...), "usage: ", "[show | apply | undo]")
		}
		h.same(before)
	})
}

func TestBadNumbers(t *testing.T) {
	everywhere(t, func(t *testing.T, tg target, h *host) {
		before := snapshot(t, h.root)
		for _, number := range []string{"", "0", "-1", "abc", "0x100", "007", "1e6", "2147483648", "99999999999999999999", "'1 2'"} {
			h.rewrite(tg, 524288, 131072)
			h.edit("\nmax=524288\n", "\nmax="+number+"\n")
			h.says(h.run(2), "must be a number from 1 to 2147483647")
		}
		for _, number := range []string{"", "-1", "x", "268435456", "99999999999999999999"} {
			h.rewrite(tg, 524288, 131072)
			h.edit("\nbuckets=131072\n", "\nbuckets="+number+"\n")
			h.says(h.run(2), "must be a number from 0 to 268435455")
		}
		h.same(before)
	})
}

// What is refused, with what is done first, what is said, and the code. Nothing may change.
func TestRefusals(t *testing.T) {
	const (
		rcLocal = "etc/rc.d/rc.local"
		sysctlD = "etc/sysctl.d/99-zz-ctwatch.conf"
	)
	for _, tt := range []struct {
		name, targets string
		do            func(h *host, tg target)
		args          []string
		code          int
		says          string
	}{
		{"higher already", "", func(h *host, tg target) { h.write(tg.max(), "1048576\n") }, nil, 1, "the limit is 1048576 now, and 524288 is lower; nothing was changed"},
		{"unlimited", "", func(h *host, tg target) { h.write(tg.max(), "0\n") }, nil, 1, "there is no limit now (max is 0)"},
		{"no number", "", func(h *host, tg target) { h.write(tg.max(), "many\n") }, nil, 1, "holds no number: 'many'"},
		{"read-only limit", "", func(h *host, tg target) { h.must(os.Chmod(h.file(tg.max()), 0o444)) }, nil, 3, "only the host can set it"},
		{"read-only limit, and no file", "", func(h *host, tg target) { h.must(os.Chmod(h.file(tg.max()), 0o444)) }, []string{"-n"}, 3, "only the host can set it"},
		{"link in place of a file", "centos5 centos6", func(h *host, tg target) {
			h.must(os.Rename(h.file(rcLocal), h.file("etc/elsewhere")))
			h.must(os.Symlink("../elsewhere", h.file(rcLocal)))
		}, nil, 1, "/etc/rc.d/rc.local is a symbolic link"},
		{"link that leads nowhere", "sysctl.d", func(h *host, tg target) { h.must(os.Symlink("/nowhere", h.file(sysctlD))) }, nil, 1, "99-zz-ctwatch.conf is a symbolic link"},
		{"link in place of the directory", "sysctl.d", func(h *host, tg target) {
			h.must(os.Rename(h.file("etc/sysctl.d"), h.file("etc/elsewhere")))
			h.must(os.Symlink("elsewhere", h.file("etc/sysctl.d")))
		}, nil, 1, "/etc/sysctl.d is a symbolic link"},
		{"link in place of the backup", "", func(h *host, tg target) { h.must(os.Symlink("/tmp", h.file("var/lib/ctwatch-script"))) }, nil, 1, "ctwatch-script is a symbolic link"},
		{"two names", "centos5 centos6", func(h *host, tg target) { h.must(os.Link(h.file(rcLocal), h.file("etc/other"))) }, nil, 1, "has 2 names"},
		{"directory for all", "sysctl.d", func(h *host, tg target) { h.must(os.Chmod(h.file("etc/sysctl.d"), 0o777)) }, nil, 1, "/etc/sysctl.d is writable by everybody"},
		{"file for all", "centos5 centos6", func(h *host, tg target) { h.must(os.Chmod(h.file(rcLocal), 0o777)) }, nil, 1, "rc.local is writable by everybody"},
		{"file in place of the directory", "sysctl.d", func(h *host, tg target) {
			h.must(os.RemoveAll(h.file("etc/modules-load.d")))
			h.write("etc/modules-load.d", "")
		}, nil, 1, "/etc/modules-load.d is no directory"},
		{"no executable rc.local", "centos5 centos6", func(h *host, tg target) { h.must(os.Chmod(h.file(rcLocal), 0o644)) }, nil, 1, "is not executable"},
		{"no /var/lib", "", func(h *host, tg target) { h.must(os.RemoveAll(h.file("var/lib"))) }, nil, 3, "there is no "},
		{"another's file of that name", "sysctl.d", func(h *host, tg target) { h.write(sysctlD, "net.netfilter.nf_conntrack_max = 524288\n") }, nil, 1, "99-zz-ctwatch.conf is there, and is not as this script left it"},
		{"edited lines", "centos5 centos6", func(h *host, tg target) {
			h.run(0)
			h.write(rcLocal, strings.ReplaceAll(h.read(rcLocal), "echo 524288", "echo 600000"))
		}, nil, 1, "the lines of ctwatch in /etc/rc.d/rc.local are not as"},
		{"undo of edited lines", "centos5 centos6", func(h *host, tg target) {
			h.run(0)
			h.write(rcLocal, strings.ReplaceAll(h.read(rcLocal), "echo 524288", "echo 600000"))
		}, []string{"undo"}, 1, "the lines of ctwatch in /etc/rc.d/rc.local are not as"},
		{"edited end", "centos5 centos6", func(h *host, tg target) {
			h.run(0)
			h.write(rcLocal, strings.ReplaceAll(h.read(rcLocal), end, ""))
		}, []string{"-f"}, 1, "whose lines are whose cannot be told"},
		{"edited file", "sysctl.d", func(h *host, tg target) {
			h.run(0)
			h.write(sysctlD, h.read(sysctlD)+"# mine\n")
		}, nil, 1, "99-zz-ctwatch.conf is there, and is not as"},
		{"undo of an edited file", "sysctl.d", func(h *host, tg target) {
			h.run(0)
			h.write(sysctlD, h.read(sysctlD)+"# mine\n")
		}, []string{"undo"}, 1, "99-zz-ctwatch.conf is there, and is not as"},
		{"undo below the count", "", func(h *host, tg target) {
			h.run(0)
			h.write(tg.count(), "70000\n")
		}, []string{"undo"}, 1, "the table holds 70000 entries: with a limit of 65536 again"},
		{"sysctl.conf", "", func(h *host, tg target) {
			h.write("etc/sysctl.conf", "# x\nnet.ipv4.netfilter."+tg.prefix+"_conntrack_max=1000\n")
		}, nil, 1, "/etc/sysctl.conf:2 sets it too, and would win: net.ipv4.netfilter."},
		{"later file", "sysctl.d", func(h *host, tg target) { h.plant("-- run/sysctl.d/99-zzz.conf --\n-net/nf_conntrack_max = 1\n") }, nil, 1, "/run/sysctl.d/99-zzz.conf:1 sets it too"},
		{"ufw", "sysctl.d", func(h *host, tg target) {
			h.plant("-- etc/ufw/ufw.conf --\nENABLED=yes\n-- etc/ufw/sysctl.conf --\nnet/netfilter/nf_conntrack_buckets=1\n")
		}, nil, 1, "/etc/ufw/sysctl.conf:1 sets it too"},
		{"rc.local", "sysctl.d", func(h *host, tg target) {
			h.plant("-- etc/rc.local --\necho 1 > /proc/sys/net/netfilter/nf_conntrack_max\n")
			h.must(os.Chmod(h.file("etc/rc.local"), 0o755))
		}, nil, 1, "/etc/rc.local:1 sets it too"},
		{"any file of CentOS 6's sysctl.d", "centos6", func(h *host, tg target) { h.write("etc/sysctl.d/x", "net.nf_conntrack_max = 1\n") }, nil, 1, "/etc/sysctl.d/x:1 sets it too"},
		{"another run", "", func(h *host, tg target) {
			h.must(os.Mkdir(h.file("var/lib/ctwatch-script"), 0o700))
			h.must(os.Symlink(strconv.Itoa(os.Getpid()), h.file("var/lib/ctwatch-script/lock")))
		}, nil, 1, "another run is under way, as process "},
		{"another's kernel", "centos5", func(h *host, tg target) {
			h.must(os.RemoveAll(h.file("proc/sys/net/ipv4")))
			h.plant("-- proc/sys/net/netfilter/nf_conntrack_max --\n1\n")
		}, nil, 3, "this kernel has nf_conntrack, not ip_conntrack"},
		{"an older kernel", "centos6", func(h *host, tg target) {
			h.must(os.RemoveAll(h.file("proc/sys/net/netfilter")))
			h.plant("-- proc/sys/net/ipv4/netfilter/ip_conntrack_max --\n1\n")
		}, nil, 3, "take the script for centos5"},
		{"systemd", "centos6", func(h *host, tg target) { h.plant("-- run/systemd/system/x --\n") }, nil, 3, "take the script for sysctl.d"},
		{"no systemd", "sysctl.d", func(h *host, tg target) { h.must(os.RemoveAll(h.file("usr"))) }, nil, 3, "there is no systemd-sysctl here"},
	} {
		for _, tg := range targets {
			if tt.targets != "" && !strings.Contains(" "+tt.targets+" ", " "+tg.name+" ") {
				continue
			}
			t.Run(tt.name+"/"+tg.name, func(t *testing.T) {
				h := newHost(t, tg, shells[0], "")
				tt.do(h, tg)
				before := snapshot(t, h.root)
				h.says(h.run(tt.code, tt.args...), tt.says)
				h.same(before)
			})
		}
	}
}

// What does not set it, or sets the same, is no reason to refuse.
func TestHarmlessFiles(t *testing.T) {
	h := newHost(t, targets[2], shells[0], `
-- etc/sysctl.conf --
#net.netfilter.nf_conntrack_max = 1
 ; net.netfilter.nf_conntrack_max = 1
net.nf_conntrack_max=524288
net.netfilter.nf_conntrack_acct = 1
-- usr/lib/sysctl.d/50-early.conf --
net.netfilter.nf_conntrack_max = 1
-- etc/sysctl.d/99-zzz.conf.bak --
net.netfilter.nf_conntrack_max = 1
`)
	h.plant("-- etc/rc.local --\necho 1 > /proc/sys/net/netfilter/nf_conntrack_max\n")
	h.must(os.Chmod(h.file("etc/rc.local"), 0o644)) // not run at boot
	h.run(0)
	h.hasWritten(targets[2])
}

// -f does what is else refused, and undo takes it back.
func TestForce(t *testing.T) {
	inDash(t, func(t *testing.T, tg target, h *host) {
		h.write(tg.max(), "1048576\n")
		h.write(tg.count(), "600000\n")
		h.write("etc/sysctl.conf", "net.ipv4.netfilter."+tg.prefix+"_conntrack_max=1000\n")
		before := snapshot(t, h.root)
		h.says(h.run(0, "apply", "-f"), "is lower (-f: done nevertheless)", "1048576 -> 524288",
			"the table holds 600000 entries: new connections are refused", "/etc/sysctl.conf:1 sets it too")
		h.hasWritten(tg)
		h.run(0, "undo")
		h.same(before)
	})
}

// Files that were edited are replaced with -f. What was there before the first time comes back.
func TestForceReplacesEdited(t *testing.T) {
	inDash(t, func(t *testing.T, tg target, h *host) {
		before := snapshot(t, h.root)
		h.run(0)
		for name, text := range written[tg.name] {
			h.write(name, strings.ReplaceAll(text, "524288", "600000"))
		}
		h.run(0, "-f")
		h.hasWritten(tg)
		h.run(0, "undo")
		h.same(before)
	})
}

// If the buckets cannot be set, the limit is set and kept all the same.
func TestBucketsRefused(t *testing.T) {
	need.Root(t) // the kernel's refusal is played by a directory
	inDash(t, func(t *testing.T, tg target, h *host) {
		hashsize := "sys/module/" + tg.prefix + "_conntrack/parameters/hashsize"
		h.must(os.Remove(h.file(hashsize)))
		h.must(os.Chmod(h.file(tg.proc+tg.prefix+"_conntrack_buckets"), 0o444))
		h.must(os.Mkdir(h.file(hashsize), 0o755))
		h.says(h.run(1), "running max: 65536 -> 524288", "the kernel refuses to have 131072 written to", "written")
		h.says(h.read("etc/"+map[bool]string{true: "sysctl.d/99-zz-ctwatch.conf", false: "rc.d/rc.local"}[tg.name == "sysctl.d"]), "524288")
	})
}

// -n sets the running limits where no file can be written.
func TestRunningAlone(t *testing.T) {
	everywhere(t, func(t *testing.T, tg target, h *host) {
		before := snapshot(t, h.root)
		h.says(h.run(0, "-n"), "running max: 65536 -> 524288", "-> 131072")
		if got := h.read(tg.max()); got != "524288\n" {
			t.Errorf("max is %q", got)
		}
		after := snapshot(t, h.root)
		for name := range after {
			if after[name] != before[name] && !strings.HasPrefix(name, "proc/") && !strings.HasPrefix(name, "sys/") {
				t.Errorf("%s was written: %s", name, after[name])
			}
		}
	})
}

// It cannot be told from root by modes whether something can be written to: the file system is made read-only.
func TestReadOnlyDirectories(t *testing.T) {
	need.Root(t)
	need.Tool(t, "unshare")
	for _, tg := range targets {
		for _, dir := range []string{"etc", "var/lib"} {
			t.Run(tg.name+"/"+dir, func(t *testing.T) {
				h := newHost(t, tg, shells[0], "")
				before := snapshot(t, h.root)
				out := h.mounted(3, `mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"`, h.file(dir))
				h.says(out, "cannot be written to; nothing was changed", "-n sets the running limits alone")
				h.same(before)
			})
		}
	}
}

// mounted runs the script in a mount namespace of its own, after a shell command has prepared that.
func (h *host) mounted(code int, prepare, argument string, env ...string) string {
	h.Helper()
	c := h.command()
	c.Args = append([]string{"unshare", "-m", "sh", "-c", prepare + ` && shift && exec "$@"`, "sh", argument}, c.Args...)
	path, err := exec.LookPath("unshare")
	h.must(err)
	c.Path, c.Env = path, append(c.Env, env...)
	out, err := c.CombinedOutput()
	if got := exitCode(err); got != code {
		h.Fatalf("it ends with %d, not %d:\n%s", got, code, out)
	}
	return string(out)
}

// With each number of free pages, from none to enough: what is read at boot is old or new, whole, and nothing else is left.
func TestDiskFull(t *testing.T) {
	need.Root(t)
	need.Tool(t, "unshare")
	for _, tg := range targets {
		t.Run(tg.name, func(t *testing.T) {
			seed := newHost(t, tg, shells[0], "")
			before := snapshot(t, seed.root)
			done := newHost(t, tg, shells[0], "")
			done.run(0)
			after := snapshot(t, done.root)
			full, enough := 0, false
			for free := 0; !enough; free++ {
				if free > 64 {
					t.Fatal("it is never enough")
				}
				h := *seed
				h.TB, h.root = t, t.TempDir()
				results := t.TempDir()
				// The tree is on a small file system, of which a file takes all but some pages.
				out := h.mounted(0, `mount -t tmpfs -o size=512k,mode=755 tmpfs "$ROOT" && cp -a "$SEED/." "$ROOT" && {
						cat /dev/zero >"$ROOT/filler" 2>/dev/null
						truncate -s -$((FREE * 4096)) "$ROOT/filler"
						shift; code=0; "$@" || code=$?
						rm "$ROOT/filler"; cp -a "$ROOT" "$RESULTS/applied"
						"$@" undo || exit; cp -a "$ROOT" "$RESULTS/undone"
						echo "apply ended with $code"; exit; }`, "",
					"SEED="+seed.root, "RESULTS="+results, "FREE="+strconv.Itoa(free))
				enough = strings.Contains(out, "apply ended with 0\n")
				if !enough {
					full++
					h.says(out, "apply ended with 1\n", "disk full")
				}
				applied := snapshot(t, filepath.Join(results, "applied"))
				for name, got := range applied {
					if !strings.HasPrefix(name, "etc") {
						continue
					}
					if got != before[name] && got != after[name] {
						t.Errorf("with %d free pages, %s is neither old nor new: %s", free, name, got)
					}
				}
				for name := range before {
					if strings.HasPrefix(name, "etc") && applied[name] == "" {
						t.Errorf("with %d free pages, %s is gone", free, name)
					}
				}
				h.root = filepath.Join(results, "undone")
				h.same(before)
			}
			if full < 3 {
				t.Errorf("it was full %d times only", full)
			}
		})
	}
}

// Whatever the script is doing when it is killed: what is read at boot is old or new, whole, and the next run completes
// it, and the one after that takes it back.
func TestKilledAnywhere(t *testing.T) {
	step := 9 // the first is another for each target
	if testing.Short() {
		step = 23
	}
	first := 0
	inDash(t, func(t *testing.T, tg target, h *host) {
		before := snapshot(t, h.root)
		first++
		done := newHost(t, tg, shells[0], "")
		done.run(0)
		after := snapshot(t, done.root)
		killed := 0
		for n := first; ; n += step {
			h := newHost(t, tg, shells[0], "")
			if !h.killAt(n) {
				break
			}
			killed++
			for name, got := range snapshot(t, h.root) {
				temporary := strings.HasPrefix(filepath.Base(name), ".ctwatch")
				if strings.HasPrefix(name, "etc") && got != before[name] && got != after[name] && !temporary {
					t.Errorf("killed at %d, %s is neither old nor new: %s", n, name, got)
				}
			}
			h.run(0)
			h.hasWritten(tg)
			h.run(0, "undo")
			h.same(before)
		}
		if killed < 3 {
			t.Errorf("it was killed %d times only", killed)
		}
	})
}

// killAt runs the script and kills it when it calls the n-th program that writes. It reports whether it came to that.
func (h *host) killAt(n int) bool {
	h.Helper()
	dir := h.TempDir()
	counter := filepath.Join(dir, "count")
	wrapper := fmt.Sprintf(`#!/bin/sh
read -r n <'%[1]s'
echo $((n + 1)) >'%[1]s'
[ "$n" != %[2]d ] || kill -9 0
exec "/bin/${0##*/}" "$@"
`, counter, n)
	h.must(os.WriteFile(counter, []byte("1\n"), 0o644))
	for _, name := range []string{"cat", "chmod", "cp", "ln", "mkdir", "mv", "rm", "rmdir", "sync"} {
		h.must(os.WriteFile(filepath.Join(dir, name), []byte(wrapper), 0o755))
	}
	c := h.command()
	c.Env[1] = "PATH=" + dir + ":" + os.Getenv("PATH")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // kill -9 0 is for the group
	out, err := c.CombinedOutput()
	if err != nil && exitCode(err) != -1 {
		h.Fatalf("it ends with %v:\n%s", err, out)
	}
	return err != nil
}
