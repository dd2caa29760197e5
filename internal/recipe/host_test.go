package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctwatch/ctwatch/test/need"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// What the machines of the tests are, when nobody has set a limit yet. The sysctl of the buckets and the module's parameter
// are one variable of the kernel.
const (
	onCentOS5 = `
-- etc/modprobe.conf --
alias eth0 e1000
-- etc/rc.d/rc.local --
#!/bin/sh
# runs last

touch /var/lock/subsys/local
-- etc/sysctl.conf --
net.ipv4.ip_forward = 0
-- etc/redhat-release --
CentOS release 5.11 (Final)
-- proc/sys/kernel/osrelease --
2.6.18-398.el5
-- proc/sys/net/ipv4/netfilter/ip_conntrack_max --
65536
-- proc/sys/net/ipv4/netfilter/ip_conntrack_count --
100
-- proc/sys/net/ipv4/netfilter/ip_conntrack_buckets --
8192
-- sys/module/ip_conntrack/refcnt --
2
-- sys/module/ip_conntrack/parameters/hashsize --
8192
-- var/lib/x --
`
	onCentOS6 = `
-- etc/modprobe.d/dist.conf --
alias eth0 e1000
-- etc/sysctl.d/x --
-- etc/udev/rules.d/x --
-- etc/rc.d/rc.local --
#!/bin/sh
# runs last

touch /var/lock/subsys/local
exit 0
-- proc/sys/net/netfilter/nf_conntrack_max --
65536
-- proc/sys/net/netfilter/nf_conntrack_count --
100
-- proc/sys/net/netfilter/nf_conntrack_buckets --
16384
-- sys/module/nf_conntrack/parameters/hashsize --
16384
-- var/lib/x --
`
	onSystemd = `
-- etc/sysctl.d/10-x.conf --
net.ipv4.ip_forward = 0
-- etc/modprobe.d/x --
-- etc/modules-load.d/x --
-- etc/udev/rules.d/x --
-- usr/lib/systemd/systemd-sysctl --
-- run/systemd/system/x --
-- proc/meminfo --
MemTotal:        8010404 kB
-- proc/sys/kernel/osrelease --
6.12.107+deb13-amd64
-- proc/sys/net/netfilter/nf_conntrack_max --
65536
-- proc/sys/net/netfilter/nf_conntrack_count --
100
-- proc/sys/net/netfilter/nf_conntrack_buckets --
16384
-- sys/module/nf_conntrack/initstate --
live
-- sys/module/nf_conntrack/parameters/hashsize -> ../../../../proc/sys/net/netfilter/nf_conntrack_buckets --
-- var/lib/x --
`
)

// target is what there is a script for, and a machine that it is for.
type target struct {
	name, machine string
	proc          string // where its sysctls are
	prefix        string // of their names
}

var targets = []target{
	{"centos5", onCentOS5, "proc/sys/net/ipv4/netfilter/", "ip"},
	{"centos6", onCentOS6, "proc/sys/net/netfilter/", "nf"},
	{"sysctl.d", onSystemd, "proc/sys/net/netfilter/", "nf"},
}

func (t target) max() string   { return t.proc + t.prefix + "_conntrack_max" }
func (t target) count() string { return t.proc + t.prefix + "_conntrack_count" }

// shell is what a script is run by. With busybox, every other program is busybox, too.
type shell struct {
	name    string
	command []string
}

var shells = []shell{{"dash", []string{"dash"}}, {"busybox", []string{"busybox", "ash"}}, {"bash", []string{"bash", "--posix"}}}

// host is a machine as a tree of files, with a script for it.
type host struct {
	testing.TB
	root, script string
	shell        shell
	path         string // of programs; "" is the test's own
}

// newHost makes a machine, and the script for it, with the limits 524288 and 131072.
func newHost(t testing.TB, tg target, sh shell, more string) *host {
	t.Helper()
	need.Tool(t, sh.command[0])
	h := &host{TB: t, root: filepath.Join(t.TempDir(), "with space"), script: filepath.Join(t.TempDir(), "limits.sh"), shell: sh}
	h.plant(tg.machine + more)
	h.must(os.Chmod(h.file(tg.proc+tg.prefix+"_conntrack_buckets"), map[bool]fs.FileMode{true: 0o644, false: 0o444}[tg.name == "sysctl.d"]))
	h.rewrite(tg, 524288, 131072)
	if sh.name == "busybox" {
		h.path = applets(t)
	}
	return h
}

// applets are the programs that the scripts use, as busybox has them.
func applets(t testing.TB) (dir string) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for _, name := range strings.Fields("awk cat chmod cmp cp expr grep id ln ls mkdir mv readlink rm rmdir sed sha256sum sort sync tail tr") {
		if err := os.Symlink(busybox, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (h *host) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *host) file(name string) string { return filepath.Join(h.root, name) }

// plant makes the files of a txtar archive. "-- name -> target --" is a link.
func (h *host) plant(archive string) {
	h.Helper()
	for _, f := range txtar.Parse([]byte(archive)).Files {
		name, to, link := strings.Cut(f.Name, " -> ")
		h.must(os.MkdirAll(filepath.Dir(h.file(name)), 0o755))
		if link {
			h.must(os.Symlink(to, h.file(name)))
			continue
		}
		h.write(name, string(f.Data))
		if base := filepath.Base(name); base == "rc.local" || base == "systemd-sysctl" || base == "sysctl" {
			h.must(os.Chmod(h.file(name), 0o755))
		}
	}
}

func (h *host) write(name, text string) {
	h.Helper()
	h.must(os.WriteFile(h.file(name), []byte(text), 0o644))
}

func (h *host) read(name string) string {
	h.Helper()
	text, err := os.ReadFile(h.file(name))
	h.must(err)
	return string(text)
}

// rewrite makes the script anew, with other limits.
func (h *host) rewrite(tg target, max, buckets uint64) {
	h.Helper()
	text, err := Script(tg.name, max, buckets, "v1.2.3")
	h.must(err)
	h.must(os.WriteFile(h.script, []byte(text), 0o755))
}

// edit replaces something in the script.
func (h *host) edit(old, with string) {
	h.Helper()
	text, err := os.ReadFile(h.script)
	h.must(err)
	if !bytes.Contains(text, []byte(old)) {
		h.Fatalf("the script has no %q", old)
	}
	h.must(os.WriteFile(h.script, bytes.ReplaceAll(text, []byte(old), []byte(with)), 0o755))
}

func (h *host) command(args ...string) *exec.Cmd {
	argv := append(append([]string{}, h.shell.command...), append([]string{h.script}, args...)...)
	path, err := exec.LookPath(argv[0])
	h.must(err)
	c := exec.Command(path, argv[1:]...)
	c.Env = []string{"ROOT=" + h.root, "PATH=" + os.Getenv("PATH")}
	if h.path != "" {
		c.Env[1] = "PATH=" + h.path
	}
	return c
}

// run runs the script, which must end with a code, and returns what it says.
func (h *host) run(code int, args ...string) string {
	h.Helper()
	out, err := h.command(args...).CombinedOutput()
	if got := exitCode(err); got != code {
		h.Fatalf("%v ends with %d, not %d:\n%s", args, got, code, out)
	}
	return string(out)
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// says fails unless a text has all of these parts.
func (h *host) says(text string, parts ...string) {
	h.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			h.Errorf("it does not say %q:\n%s", p, text)
		}
	}
}

// snapshot is everything in a tree: files with their modes and bytes, directories, links.
func snapshot(t testing.TB, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		all[name] = info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			text, err := os.ReadFile(path)
			all[name] += fmt.Sprintf(" %q", text)
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			all[name] += " -> " + to
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// same fails unless the tree is as it was.
func (h *host) same(before map[string]string) {
	h.Helper()
	if diff := cmp.Diff(before, snapshot(h, h.root)); diff != "" {
		h.Errorf("the tree is not as it was (-want +got):\n%s", diff)
	}
}

// everywhere runs a test for each target in each shell.
func everywhere(t *testing.T, test func(t *testing.T, tg target, h *host)) {
	for _, tg := range targets {
		for _, sh := range shells {
			t.Run(tg.name+"/"+sh.name, func(t *testing.T) { test(t, tg, newHost(t, tg, sh, "")) })
		}
	}
}

// inDash runs a test for each target in one shell.
func inDash(t *testing.T, test func(t *testing.T, tg target, h *host)) {
	for _, tg := range targets {
		t.Run(tg.name, func(t *testing.T) { test(t, tg, newHost(t, tg, shells[0], "")) })
	}
}
