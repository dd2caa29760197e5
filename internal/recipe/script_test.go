package recipe

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctwatch/ctwatch/internal/boot"
	"github.com/ctwatch/ctwatch/internal/persist"
	"github.com/ctwatch/ctwatch/test/need"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v2"
)

// begin, managed and end are the lines that the scripts put around what they write.
const (
	begin   = "# BEGIN ctwatch v1.2.3: do not edit, remove with 'ctwatch limit unpersist'. sha256="
	managed = "# Managed by ctwatch v1.2.3: do not edit, remove with 'ctwatch limit unpersist'. sha256="
	end     = "# END ctwatch\n"
)

// sealed is a first line, and what it has the sum of.
func sealed(first, body string) string {
	return fmt.Sprintf("%s%x\n%s", first, sha256.Sum256([]byte(body)), body)
}

// written is what the scripts for 524288 and 131072 leave behind.
var written = map[string]map[string]string{
	"centos5": {
		"etc/rc.d/rc.local": "#!/bin/sh\n# runs last\n\ntouch /var/lock/subsys/local\n" +
			sealed(begin, "/sbin/modprobe ip_conntrack\necho 524288 > /proc/sys/net/ipv4/ip_conntrack_max\n") + end,
		"etc/modprobe.conf": "alias eth0 e1000\n" + sealed(begin, "options ip_conntrack hashsize=131072\n") + end,
	},
	"centos6": {
		"etc/rc.d/rc.local": "#!/bin/sh\n# runs last\n\ntouch /var/lock/subsys/local\n" +
			sealed(begin, "/sbin/modprobe nf_conntrack\necho 524288 > /proc/sys/net/netfilter/nf_conntrack_max\n") + end + "exit 0\n",
		"etc/modprobe.d/ctwatch.conf":     sealed(managed, "options nf_conntrack hashsize=131072\n"),
		"etc/sysctl.d/99-zz-ctwatch.conf": sealed(managed, "net.netfilter.nf_conntrack_max = 524288\n"),
		"etc/udev/rules.d/99-ctwatch.rules": sealed(managed,
			`ACTION=="add", SUBSYSTEM=="module", KERNEL=="nf_conntrack", RUN+="/bin/sh -c 'for i in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/sys/net/netfilter/nf_conntrack_max ] && exec /sbin/sysctl -q -p /etc/sysctl.d/99-zz-ctwatch.conf; sleep 1; done'"`+"\n"),
	},
	"sysctl.d": {
		"etc/sysctl.d/99-zz-ctwatch.conf": sealed(managed,
			"net.netfilter.nf_conntrack_max = 524288\nnet.netfilter.nf_conntrack_buckets = 131072\n"),
		"etc/modules-load.d/ctwatch.conf": sealed(managed, "nf_conntrack\n"),
		"etc/udev/rules.d/99-ctwatch.rules": sealed(managed,
			`ACTION=="add", SUBSYSTEM=="module", KERNEL=="nf_conntrack", RUN+="/usr/lib/systemd/systemd-sysctl --prefix=/net/netfilter"`+"\n"),
	},
}

func (h *host) hasWritten(tg target) {
	h.Helper()
	for name, text := range written[tg.name] {
		if diff := cmp.Diff(text, h.read(name)); diff != "" {
			h.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestApplyTwiceAndUndo(t *testing.T) {
	everywhere(t, func(t *testing.T, tg target, h *host) {
		before := snapshot(t, h.root)
		h.says(h.run(0, "show"), "running: max 65536", "entries 100", "wanted: max 524288, buckets 131072", "not written")
		h.same(before)
		h.says(h.run(0), "running max: 65536 -> 524288", "-> 131072")
		h.hasWritten(tg)
		if got := h.read(tg.max()); got != "524288\n" {
			t.Errorf("max is %q", got)
		}
		for name := range snapshot(t, h.file("etc")) {
			if strings.HasPrefix(filepath.Base(name), ".c") || strings.HasSuffix(name, "~") || strings.Contains(name, ".bak") {
				t.Errorf("%s was left behind", name)
			}
		}

		applied := snapshot(t, h.root)
		out := h.run(0, "apply")
		h.says(out, "unchanged")
		if strings.Contains(out, "written") || strings.Contains(out, "->") {
			t.Errorf("the second time something changed:\n%s", out)
		}
		h.same(applied)
		h.says(h.run(0, "show"), "running: max 524288, buckets 131072", "as wanted")

		h.says(h.run(0, "undo"), "running max: 524288 -> 65536")
		h.same(before)
		h.says(h.run(0, "undo"), "nothing to undo")
		h.same(before)
	})
}

// Directories that are not there are made, and removed again.
func TestMakesDirectories(t *testing.T) {
	h := newHost(t, targets[2], shells[0], "")
	for _, dir := range []string{"etc/sysctl.d", "etc/modules-load.d", "etc/udev"} {
		h.must(os.RemoveAll(h.file(dir)))
	}
	before := snapshot(t, h.root)
	h.run(0)
	h.says(h.read("etc/sysctl.d/99-zz-ctwatch.conf"), " made=1\n")
	h.says(h.read("etc/udev/rules.d/99-ctwatch.rules"), " made=2\n")
	h.says(h.run(0), "99-ctwatch.rules: unchanged")
	h.run(0, "undo")
	h.same(before)
}

// What is read at boot is understood as it is meant by whoever tells what the next boot gives.
func TestNextBoot(t *testing.T) {
	for _, tg := range targets {
		if tg.name == "centos6" {
			continue // of an EL 6 without its scripts nothing is known
		}
		h := newHost(t, tg, shells[0], "")
		h.run(0)
		o, err := boot.Read(h.root)
		if err != nil {
			t.Fatal(err)
		}
		if o.NextBoot.Max == nil || *o.NextBoot.Max != 524288 || o.NextBoot.Buckets == nil || *o.NextBoot.Buckets != 131072 {
			t.Errorf("%s: the next boot gives %+v: %s; %+v", tg.name, o.NextBoot, o.Why, o.Files)
		}
	}
}

// What ctwatch itself would write is the same, and it can remove what a script wrote.
func TestSameAsPersist(t *testing.T) {
	for _, tg := range targets {
		if tg.name == "centos6" {
			continue // ctwatch relies on what not all of CentOS 6 has: that its network script applies /etc/sysctl.d
		}
		t.Run(tg.name, func(t *testing.T) {
			by := newHost(t, tg, shells[0], "")
			before := snapshot(t, by.file("etc"))
			if _, err := persist.Persist(persist.Options{Root: by.root, Version: "v1.2.3"}, persist.Limits{Max: 524288, Buckets: 131072}); err != nil {
				t.Fatal(err)
			}
			h := newHost(t, tg, shells[0], "")
			h.run(0)
			if diff := cmp.Diff(snapshot(t, by.file("etc")), snapshot(t, h.file("etc"))); diff != "" {
				t.Errorf("(-ctwatch +script):\n%s", diff)
			}
			by.says(by.run(0), "unchanged")
			if _, err := persist.Unpersist(persist.Options{Root: h.root}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, snapshot(t, h.file("etc"))); diff != "" {
				t.Errorf("after unpersist (-want +got):\n%s", diff)
			}
		})
	}
}

// A later script takes the place of an earlier one. What is undone is all, back to before the first.
func TestAnotherLimit(t *testing.T) {
	inDash(t, func(t *testing.T, tg target, h *host) {
		before := snapshot(t, h.root)
		h.run(0)
		h.rewrite(tg, 1048576, 0)
		h.says(h.run(0), "524288 -> 1048576")
		for name, text := range snapshot(t, h.file("etc")) {
			if strings.Contains(text, "524288") || strings.Contains(text, "hashsize") || strings.Contains(text, "buckets") {
				t.Errorf("%s has still: %s", name, text)
			}
		}
		h.run(0, "undo")
		h.same(before)
	})
}

// Before Linux 4.8 the module's option has the buckets.
func TestBucketsByOption(t *testing.T) {
	h := newHost(t, targets[2], shells[0], "")
	const hashsize = "sys/module/nf_conntrack/parameters/hashsize"
	h.must(os.Remove(h.file(hashsize)))
	h.write(hashsize, "16384\n")
	before := snapshot(t, h.root)
	h.must(os.Chmod(h.file("proc/sys/net/netfilter/nf_conntrack_buckets"), 0o444))
	h.run(0)
	h.says(h.read("etc/modprobe.d/ctwatch.conf"), sealed(managed, "options nf_conntrack hashsize=131072\n"))
	if text := h.read("etc/sysctl.d/99-zz-ctwatch.conf"); strings.Contains(text, "buckets") {
		t.Errorf("the buckets are set where they cannot be: %s", text)
	}
	if got := h.read(hashsize); got != "131072\n" {
		t.Errorf("hashsize is %q", got)
	}
	h.run(0, "undo")
	h.must(os.Chmod(h.file("proc/sys/net/netfilter/nf_conntrack_buckets"), 0o644))
	h.same(before)
}

// A mounted disk has no running limits.
func TestMountedDisk(t *testing.T) {
	everywhere(t, func(t *testing.T, tg target, h *host) {
		h.must(os.RemoveAll(h.file("proc")))
		h.must(os.RemoveAll(h.file("sys")))
		before := snapshot(t, h.root)
		h.says(h.run(0), "conntrack is not loaded here")
		h.hasWritten(tg)
		h.says(h.run(3, "-n"), "there is nothing to set")
		h.run(0, "undo")
		h.same(before)
	})
}

// Files that others changed meanwhile keep what they changed.
func TestUndoKeepsOthersLines(t *testing.T) {
	everywhere(t, func(t *testing.T, tg target, h *host) {
		const file = "etc/rc.d/rc.local"
		if tg.name == "sysctl.d" {
			t.Skip("has no file of others")
		}
		original := h.read(file)
		h.run(0)
		h.write(file, strings.Replace(h.read(file), "touch", "echo hello\ntouch", 1))
		h.says(h.run(0), "rc.local: unchanged")
		h.run(0, "undo")
		if diff := cmp.Diff(strings.Replace(original, "touch", "echo hello\ntouch", 1), h.read(file)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// After somebody else set the limit, undo leaves that alone.
func TestUndoLeavesAnothersLimit(t *testing.T) {
	inDash(t, func(t *testing.T, tg target, h *host) {
		h.run(0)
		h.write(tg.max(), "700000\n")
		h.says(h.run(0, "undo"), "running max: left at 700000")
		if got := h.read(tg.max()); got != "700000\n" {
			t.Errorf("max is %q", got)
		}
	})
}

// The kernel rounds buckets up, here as it is with pages of 4 KiB.
func TestBucketsAreRounded(t *testing.T) {
	h := newHost(t, targets[2], shells[0], "")
	h.rewrite(targets[2], 524288, 131000)
	h.write("sys/module/nf_conntrack/parameters/hashsize", "131072\n")
	h.says(h.run(0), "running buckets: unchanged, 131072")
	h.says(h.run(0, "-f"), "running buckets: unchanged, 131072")
}

func TestScriptRefuses(t *testing.T) {
	for _, tt := range []struct {
		target       string
		max, buckets uint64
		says         string
	}{
		{"centos4", 524288, 0, `unknown target "centos4": is one of centos5, centos6, sysctl.d, kube-proxy`},
		{"centos5", 0, 0, "max 0 is not from 1 to 2147483647"},
		{"centos5", 1 << 31, 0, "max 2147483648 is not from 1 to 2147483647"},
		{"kube-proxy", 1 << 40, 0, "max 1099511627776 is not"},
		{"centos6", 524288, 1 << 28, "buckets 268435456 are more than 268435455"},
	} {
		text, err := Script(tt.target, tt.max, tt.buckets, "v1")
		if err == nil || !strings.Contains(err.Error(), tt.says) || text != "" {
			t.Errorf("Script(%s, %d, %d) = %q, %v", tt.target, tt.max, tt.buckets, text, err)
		}
	}
}

// Every shell can read what is printed, and shellcheck finds nothing in it, nor in the parts.
func TestShellsUnderstand(t *testing.T) {
	need.Tool(t, "shellcheck")
	for _, tg := range targets {
		for _, limits := range [][2]uint64{{1, 0}, {524288, 131072}, {mostEntries, mostBuckets}} {
			text, err := Script(tg.name, limits[0], limits[1], "v1.2'; rm -rf /\n")
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(text, "@") && strings.Contains(text, "@MAX@") {
				t.Errorf("%s: a placeholder is left", tg.name)
			}
			if !strings.Contains(text, fmt.Sprintf("\nmax=%d\nbuckets=%d\nversion='v1.2rm-rf'\n", limits[0], limits[1])) {
				t.Errorf("%s: the numbers are not in it", tg.name)
			}
			var check [][]string
			if limits[1] == 131072 {
				check = append(check, []string{"shellcheck", "-s", "sh", "-"})
			}
			for _, sh := range shells {
				check = append(check, append(append([]string{}, sh.command...), "-n"))
			}
			for _, argv := range check {
				c := exec.Command(argv[0], argv[1:]...)
				c.Stdin = strings.NewReader(text)
				if out, err := c.CombinedOutput(); err != nil {
					t.Errorf("%s: %v: %v\n%s", tg.name, argv, err, out)
				}
			}
		}
	}
	files, err := filepath.Glob("*.sh")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	if out, err := exec.Command("shellcheck", files...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestKubeProxy(t *testing.T) {
	text, err := Script("kube-proxy", 524288, 131072, "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Conntrack  struct {
			MaxPerCore *int32 `yaml:"maxPerCore"`
			Min        *int32
		}
	}
	if err := yaml.UnmarshalStrict([]byte(text), &got); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if c := got.Conntrack; got.Kind != "KubeProxyConfiguration" || c.MaxPerCore == nil || *c.MaxPerCore != 0 || c.Min == nil || *c.Min != 524288 {
		t.Errorf("it is %+v", got)
	}
	for _, part := range []string{"--conntrack-max-per-core=0 --conntrack-min=524288", "configmap kube-proxy ", "daemonset kube-proxy", "v1.2.3"} {
		if !strings.Contains(text, part) {
			t.Errorf("it does not say %q", part)
		}
	}
}
