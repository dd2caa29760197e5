package boot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

// The machines of the tests have 8 GiB, so that conntrack begins with 262144 entries, and as many buckets since 5.15.
const (
	memory = "-- proc/meminfo --\nMemTotal:        8010404 kB\nMemFree:         1 kB\n"

	on612     = memory + "-- proc/sys/kernel/osrelease --\n6.12.107+deb13-amd64\n-- run/systemd/system/x --\n"
	modules   = "-- etc/modules-load.d/nf.conf --\n# firewall\nnf-conntrack\n"
	onCentOS6 = memory + "-- proc/sys/kernel/osrelease --\n2.6.32-754.el6.x86_64\n-- etc/redhat-release --\nCentOS release 6.10 (Final)\n"
	onCentOS7 = memory + "-- proc/sys/kernel/osrelease --\n3.10.0-1062.el7.x86_64\n-- run/systemd/system/x --\n"

	set424242 = "-- etc/sysctl.d/90-app.conf --\n# for the app\n\nnet.netfilter.nf_conntrack_max = 424242\n"
	rule      = `ACTION=="add", SUBSYSTEM=="module", KERNEL=="nf_conntrack", RUN+="/usr/lib/systemd/systemd-sysctl --prefix=/net/netfilter"` + "\n"
	firewalld = "-- usr/lib/modprobe.d/firewalld-sysctls.conf --\n" +
		"install nf_conntrack /usr/sbin/modprobe --ignore-install nf_conntrack $CMDLINE_OPTS && /usr/sbin/sysctl --quiet --pattern 'net[.]netfilter[.]nf_conntrack.*' --system\n"
)

// plant makes the files of a txtar archive below a directory. "-- name -> target --" is a link.
func plant(t testing.TB, archive string) (root string) {
	t.Helper()
	root = t.TempDir()
	for _, f := range txtar.Parse([]byte(archive)).Files {
		name, target, link := strings.Cut(f.Name, " -> ")
		name = filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		if link {
			must(t, os.Symlink(target, name))
			continue
		}
		mode := fs.FileMode(0o644)
		switch filepath.Base(name) {
		case "rc.local", "systemd", "busybox", "x.modules":
			mode = 0o755
		}
		must(t, os.WriteFile(name, f.Data, mode))
	}
	return root
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func n(v uint64) *uint64 { return &v }

func readBoot(t *testing.T, archive string) Outlook {
	t.Helper()
	b, err := Read(plant(t, archive))
	must(t, err)
	return b
}

// winners are the lines that win.
func winners(b Outlook) (won []string) {
	for _, l := range b.Files {
		if l.Wins {
			won = append(won, place{l.File, l.Line}.String())
		}
	}
	return won
}

// TestOrder has who wins, as measured with systemd 245 to 259: conntrack is loaded early throughout.
func TestOrder(t *testing.T) {
	const key = "net.netfilter.nf_conntrack_max = "
	for name, c := range map[string]struct {
		files string
		want  *uint64
		won   string
	}{
		"etc before run": {
			"-- etc/sysctl.d/50-a.conf --\n" + key + "1001\n-- run/sysctl.d/50-a.conf --\n" + key + "1002\n-- usr/lib/sysctl.d/50-a.conf --\n" + key + "1003\n",
			n(1001), "/etc/sysctl.d/50-a.conf:1",
		},
		"run before usr/local/lib": {
			"-- run/sysctl.d/50-a.conf --\n" + key + "1002\n-- usr/local/lib/sysctl.d/50-a.conf --\n" + key + "1003\n",
			n(1002), "/run/sysctl.d/50-a.conf:1",
		},
		"usr/local/lib before usr/lib": {
			"-- usr/lib/sysctl.d/50-a.conf --\n" + key + "1002\n-- usr/local/lib/sysctl.d/50-a.conf --\n" + key + "1003\n",
			n(1003), "/usr/local/lib/sysctl.d/50-a.conf:1",
		},
		"usr/lib before lib": {
			"-- usr/lib/sysctl.d/50-a.conf --\n" + key + "1002\n-- lib/sysctl.d/50-a.conf --\n" + key + "1003\n",
			n(1002), "/usr/lib/sysctl.d/50-a.conf:1",
		},
		"lib is a link": {
			"-- usr/lib/sysctl.d/50-a.conf --\n" + key + "1002\n-- lib -> usr/lib --\n",
			n(1002), "/usr/lib/sysctl.d/50-a.conf:1",
		},
		"the name counts, not the directory": {
			"-- etc/sysctl.d/60-z.conf --\n" + key + "1001\n-- usr/lib/sysctl.d/90-v.conf --\n" + key + "1002\n",
			n(1002), "/usr/lib/sysctl.d/90-v.conf:1",
		},
		"a later name than the link to sysctl.conf": {
			"-- etc/sysctl.conf --\n" + key + "80\n-- etc/sysctl.d/99-sysctl.conf -> ../sysctl.conf --\n-- etc/sysctl.d/99-zzz.conf --\n" + key + "81\n",
			n(81), "/etc/sysctl.d/99-zzz.conf:1",
		},
		"99-c sorts before 99-sysctl": {
			"-- etc/sysctl.conf --\n" + key + "80\n-- etc/sysctl.d/99-sysctl.conf -> /etc/sysctl.conf --\n-- etc/sysctl.d/99-ctwatch.conf --\n" + key + "82\n",
			n(80), "/etc/sysctl.conf:1",
		},
		"Debian 13 has no link": {
			"-- etc/sysctl.conf --\n" + key + "80\n-- etc/sysctl.d/99-ctwatch.conf --\n" + key + "82\n",
			n(82), "/etc/sysctl.d/99-ctwatch.conf:1",
		},
		"sysctl.conf alone, and no link": {"-- etc/sysctl.conf --\n" + key + "80\n", nil, ""},
		"other names": {
			"-- etc/sysctl.d/.99-tmp.conf --\n" + key + "1\n-- etc/sysctl.d/99-x.conf.bak --\n" + key + "2\n-- etc/sysctl.d/99-x.tmp --\n" + key + "3\n" +
				"-- etc/sysctl.d/99-d.conf/x.conf --\n" + key + "4\n-- etc/sysctl.d/10-a.conf --\n" + key + "5\n",
			n(5), "/etc/sysctl.d/10-a.conf:1",
		},
		"masked":         {"-- etc/sysctl.d/90-v.conf -> /dev/null --\n-- usr/lib/sysctl.d/90-v.conf --\n" + key + "1\n", nil, ""},
		"a link nowhere": {"-- etc/sysctl.d/90-v.conf -> nowhere --\n-- usr/lib/sysctl.d/90-v.conf --\n" + key + "1\n", nil, ""},
		"a link in a circle": {
			"-- etc/sysctl.d/90-v.conf -> 90-w.conf --\n-- etc/sysctl.d/90-w.conf -> 90-v.conf --\n", nil, "",
		},
		"a link out of the root stays below it": {
			"-- etc/sysctl.d/90-v.conf -> ../../../../../../srv/limits --\n-- srv/limits --\n" + key + "7\n",
			n(7), "/etc/sysctl.d/90-v.conf:1",
		},
		"the last line": {
			"-- etc/sysctl.d/a.conf --\n" + key + "1\n" + key + "2\n", n(2), "/etc/sysctl.d/a.conf:2",
		},
		"slashes": {
			"-- etc/sysctl.d/a.conf --\nnet/netfilter/nf_conntrack_max=5\n-- etc/sysctl.d/b.conf --\n/net//netfilter/nf_conntrack_max=6\n",
			n(6), "/etc/sysctl.d/b.conf:1",
		},
		"both names are one variable": {
			"-- etc/sysctl.d/a.conf --\n" + key + "1\n-- etc/sysctl.d/b.conf --\nnet.nf_conntrack_max = 2\n", n(2), "/etc/sysctl.d/b.conf:1",
		},
		"saying the same again is no later line": {
			"-- etc/sysctl.d/a.conf --\n" + key + "1\n-- etc/sysctl.d/b.conf --\nnet.nf_conntrack_max = 2\n-- etc/sysctl.d/c.conf --\n" + key + "1\n",
			n(2), "/etc/sysctl.d/b.conf:1",
		},
		"a pattern": {
			"-- etc/sysctl.d/a.conf --\nnet.netfilter.nf_conntrack_m* = 9\n", n(9), "/etc/sysctl.d/a.conf:1",
		},
		"a pattern leaves out what has a line": {
			"-- etc/sysctl.d/a.conf --\n" + key + "1\n-- etc/sysctl.d/b.conf --\nnet/netfilter/nf_conntrack[!_x]max = 8\nnet.netfilter.nf_conntrack_ma? = 9\n",
			n(1), "/etc/sysctl.d/a.conf:1",
		},
		"a pattern does not pass a slash": {"-- etc/sysctl.d/a.conf --\nnet.*conntrack_max = 9\n", n(9), "/etc/sysctl.d/a.conf:1"},
		"excluded": {
			"-- etc/sysctl.d/a.conf --\nnet.netfilter.nf_conntrack_max* = 9\n-net.netfilter.nf_conntrack_max\n", nil, "",
		},
		"taken back": {"-- etc/sysctl.d/a.conf --\n" + key + "9\n-net.netfilter.nf_conntrack_max\n", nil, ""},
		"comments, dashes, space": {
			"-- etc/sysctl.d/a.conf --\n#" + key + "1\n  ; " + key + "2\n\t- " + key + " 3 \r\nnet.netfilter.nf_conntrack_max 4\n",
			n(3), "/etc/sysctl.d/a.conf:3",
		},
		"garbage is not applied": {
			"-- etc/sysctl.d/a.conf --\nnet.nf_conntrack_max = 5\n-- etc/sysctl.d/b.conf --\n" + key + "many\n", n(5), "/etc/sysctl.d/a.conf:1",
		},
		"garbage takes an earlier line of the same name away": {
			"-- etc/sysctl.d/a.conf --\n" + key + "5\n-- etc/sysctl.d/b.conf --\n" + key + "4294967296\n", nil, "",
		},
		"names of other kernels": {"-- etc/sysctl.d/a.conf --\nnet.ipv4.ip_conntrack_max = 5\nnet.ipv4.netfilter.ip_conntrack_max = 6\n", nil, ""},
		"ufw comes last": {
			"-- etc/sysctl.d/zz.conf --\n" + key + "1\n-- etc/ufw/ufw.conf --\nENABLED=yes\n-- etc/ufw/sysctl.conf --\nnet/netfilter/nf_conntrack_max=2\n",
			n(2), "/etc/ufw/sysctl.conf:1",
		},
		"ufw is off": {
			"-- etc/sysctl.d/zz.conf --\n" + key + "1\n-- etc/ufw/ufw.conf --\n#ENABLED=yes\nENABLED=no\n-- etc/ufw/sysctl.conf --\nnet/netfilter/nf_conntrack_max=2\n",
			n(1), "/etc/sysctl.d/zz.conf:1",
		},
		"ufw has another file": {
			"-- etc/ufw/ufw.conf --\nENABLED=yes\n-- etc/ufw/sysctl.conf --\nnet/netfilter/nf_conntrack_max=2\n" +
				"-- etc/default/ufw --\n# IPT_SYSCTL=no\nIPT_SYSCTL=\"/etc/sysctl.conf\"\n-- etc/sysctl.conf --\n" + key + "3\n",
			n(3), "/etc/sysctl.conf:1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := readBoot(t, on612+modules+c.files)
			next := c.want
			if next == nil {
				next = n(262144)
			}
			got := []any{b.Persisted.Max, b.NextBoot.Max}
			if diff := cmp.Diff([]any{c.want, next}, got); diff != "" {
				t.Errorf("persisted and at next boot, -want +got:\n%s%s", diff, b.Why)
			}
			if won := winners(b); strings.Join(won, " ") != c.won {
				t.Errorf("%v wins, want %s", won, c.won)
			}
		})
	}
}

// TestNextBoot has a row for each way in which a setting comes into effect, or does not.
func TestNextBoot(t *testing.T) {
	def := n(262144)
	for name, c := range map[string]struct {
		files           string
		persisted, next Limits
		why             string
	}{
		"nothing at all": {
			files: on612, next: Limits{def, def},
			why: "no file sets it: the kernel's default of 262144 holds",
		},
		"sysctl.d only: lost": {
			files: on612 + set424242, persisted: Limits{n(424242), nil}, next: Limits{def, def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, but nothing loads nf_conntrack before systemd-sysctl runs: " +
				"the kernel's default of 262144 holds (add /etc/modules-load.d/ctwatch.conf)",
		},
		"and modules-load.d": {
			files: on612 + set424242 + modules, persisted: Limits{n(424242), nil}, next: Limits{n(424242), def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and /etc/modules-load.d/nf.conf:2 loads the module before",
		},
		"Debian's link to /etc/modules": {
			files:     on612 + set424242 + "-- etc/modules-load.d/modules.conf -> ../modules --\n-- etc/modules --\nnf_conntrack\n",
			persisted: Limits{n(424242), nil}, next: Limits{n(424242), def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and /etc/modules-load.d/modules.conf:1 loads the module before",
		},
		"a module that needs conntrack": {
			files: on612 + set424242 + "-- usr/lib/modules-load.d/n.conf --\nnft-nat\nnft_ct\n" +
				"-- lib -> usr/lib --\n-- usr/lib/modules/6.12.107+deb13-amd64/modules.dep --\n" +
				"kernel/net/netfilter/nft_ct.ko.xz: kernel/net/netfilter/nf_tables.ko.xz kernel/net/netfilter/nf_conntrack.ko.xz\nkernel/net/x.ko:\n",
			persisted: Limits{n(424242), nil}, next: Limits{n(424242), def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and /usr/lib/modules-load.d/n.conf:2 loads the module before",
		},
		"blacklisted": {
			files:     on612 + set424242 + modules + "-- etc/modprobe.d/b.conf --\nblacklist nf-conntrack\n",
			persisted: Limits{n(424242), nil}, next: Limits{def, def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, but nothing loads nf_conntrack before systemd-sysctl runs: " +
				"the kernel's default of 262144 holds (add /etc/modules-load.d/ctwatch.conf)",
		},
		"on the command line": {
			files:     on612 + set424242 + "-- proc/cmdline --\nquiet modules-load=dummy,nf_conntrack\n",
			persisted: Limits{n(424242), nil}, next: Limits{n(424242), def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and the kernel's command line loads the module before",
		},
		"built in, by modules.builtin": {
			files:     on612 + set424242 + "-- lib/modules/6.12.107+deb13-amd64/modules.builtin --\nkernel/net/netfilter/nf_conntrack.ko\n",
			persisted: Limits{n(424242), nil}, next: Limits{n(424242), def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and conntrack is part of the kernel",
		},
		"built in, by sysfs": {
			files:     on612 + set424242 + "-- sys/module/nf_conntrack/parameters/hashsize --\n65536\n",
			persisted: Limits{n(424242), nil}, next: Limits{n(424242), def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and conntrack is part of the kernel",
		},
		"built in: what modprobe would run does not": {
			files: on612 + firewalld + "-- sys/module/nf_conntrack/x --\n-- etc/sysctl.conf --\nnet.netfilter.nf_conntrack_max=80\n", next: Limits{def, def},
			why: "/etc/sysctl.conf:1 sets it to \"80\", but systemd-sysctl does not read this file: the kernel's default of 262144 holds",
		},
		"a module that is loaded now": {
			files:     on612 + set424242 + "-- sys/module/nf_conntrack/initstate --\nlive\n",
			persisted: Limits{n(424242), nil}, next: Limits{def, def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, but nothing loads nf_conntrack before systemd-sysctl runs: " +
				"the kernel's default of 262144 holds (add /etc/modules-load.d/ctwatch.conf)",
		},
		"a udev rule": {
			files:     on612 + set424242 + "-- etc/udev/rules.d/99-x.rules --\n# again\n" + rule,
			persisted: Limits{n(424242), nil}, next: Limits{n(424242), def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and /etc/udev/rules.d/99-x.rules:2 applies it when the module is loaded",
		},
		"a udev rule on CentOS 7": {
			files:     onCentOS7 + set424242 + "-- etc/udev/rules.d/99-x.rules --\n" + rule,
			persisted: Limits{n(424242), nil}, next: Limits{nil, n(65536)},
			why: "/etc/sysctl.d/90-app.conf:3 sets it and /etc/udev/rules.d/99-x.rules:1 applies it when the module is loaded, " +
				"but this kernel may do that before there is anything to set",
		},
		"a udev rule for the other name": {
			files:     on612 + "-- etc/sysctl.d/a.conf --\nnet.nf_conntrack_max=5\n-- etc/udev/rules.d/99-x.rules --\n" + rule,
			persisted: Limits{n(5), nil}, next: Limits{def, def},
			why: "/etc/sysctl.d/a.conf:1 sets it, but nothing loads nf_conntrack before systemd-sysctl runs: " +
				"the kernel's default of 262144 holds (add /etc/modules-load.d/ctwatch.conf)",
		},
		"a udev rule on CentOS 7, and modules-load.d": {
			files:     onCentOS7 + set424242 + modules + "-- etc/udev/rules.d/99-x.rules --\n" + rule,
			persisted: Limits{n(424242), nil}, next: Limits{n(424242), n(65536)},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and /etc/modules-load.d/nf.conf:2 loads the module before",
		},
		"a udev rule with an absolute path, which matches nothing": {
			files:     on612 + set424242 + "-- etc/udev/rules.d/99-x.rules --\n" + strings.Replace(rule, "=/net", "=/proc/sys/net", 1),
			persisted: Limits{n(424242), nil}, next: Limits{def, def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, but nothing loads nf_conntrack before systemd-sysctl runs: " +
				"the kernel's default of 262144 holds (add /etc/modules-load.d/ctwatch.conf)",
		},
		"a udev rule that runs something else": {
			files:     on612 + set424242 + "-- usr/lib/udev/rules.d/99-x.rules --\n" + strings.Replace(rule, "/usr/lib/systemd/systemd-sysctl", "/opt/set-conntrack", 1),
			persisted: Limits{n(424242), nil},
			why:       "/usr/lib/udev/rules.d/99-x.rules:1 runs a program when the module is loaded: what it sets is not known",
		},
		"sysctl.conf on Debian 13": {
			files: on612 + modules + "-- etc/sysctl.conf --\nnet.nf_conntrack_max=5\n", next: Limits{def, def},
			why: "/etc/sysctl.conf:1 sets it to \"5\", but systemd-sysctl does not read this file: the kernel's default of 262144 holds",
		},
		"garbage": {
			files: on612 + modules + "-- etc/sysctl.d/a.conf --\nnet.nf_conntrack_max=512k\n", next: Limits{def, def},
			why: "/etc/sysctl.d/a.conf:1 sets it to \"512k\", but it is not a number that the kernel takes: the kernel's default of 262144 holds",
		},
		"firewalld": {
			files: on612 + set424242 + firewalld, persisted: Limits{n(424242), nil}, next: Limits{n(424242), def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and /usr/lib/modprobe.d/firewalld-sysctls.conf:1 applies it when the module is loaded",
		},
		"firewalld reads sysctl.conf last": {
			files:     on612 + set424242 + firewalld + "-- etc/sysctl.conf --\nnet.netfilter.nf_conntrack_max=80\n",
			persisted: Limits{n(80), nil}, next: Limits{n(80), def},
			why: "/etc/sysctl.conf:1 sets it, and /usr/lib/modprobe.d/firewalld-sysctls.conf:1 applies it when the module is loaded",
		},
		"firewalld, but systemd-sysctl after it": {
			files:     on612 + set424242 + modules + firewalld + "-- etc/sysctl.conf --\nnet.netfilter.nf_conntrack_max=80\n",
			persisted: Limits{n(424242), nil}, next: Limits{n(424242), def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and /etc/modules-load.d/nf.conf:2 loads the module before",
		},
		"another install line comes first": {
			files:     on612 + set424242 + firewalld + "-- etc/modprobe.d/aa.conf --\ninstall nf_conntrack \\\n/bin/false\n",
			persisted: Limits{n(424242), nil},
			why:       "/etc/modprobe.d/aa.conf:1 keeps conntrack from being loaded",
		},
		"another install line comes later": {
			files:     on612 + set424242 + firewalld + "-- etc/modprobe.d/zz.conf --\ninstall nf_conntrack /bin/false\n",
			persisted: Limits{n(424242), nil}, next: Limits{n(424242), def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and /usr/lib/modprobe.d/firewalld-sysctls.conf:1 applies it when the module is loaded",
		},
		"firewalld does not apply the other name": {
			files:     on612 + firewalld + "-- etc/sysctl.d/a.conf --\nnet.nf_conntrack_max=5\n",
			persisted: Limits{n(5), nil}, next: Limits{def, def},
			why: "/etc/sysctl.d/a.conf:1 sets it, but nothing loads nf_conntrack before systemd-sysctl runs: " +
				"the kernel's default of 262144 holds (add /etc/modules-load.d/ctwatch.conf)",
		},
		"an install line that sets something": {
			files:     on612 + set424242 + "-- etc/modprobe.d/aa.conf --\ninstall nf_conntrack modprobe -i nf_conntrack; sysctl -p\n",
			persisted: Limits{n(424242), nil},
			why:       "/etc/modprobe.d/aa.conf:1 runs sysctl when the module is loaded: what it sets is not known",
		},
		"rc.local": {
			files:     on612 + set424242 + modules + "-- etc/rc.local --\n#!/bin/sh\n# nf_conntrack\necho 1 > /proc/sys/net/nf_conntrack_max\n",
			persisted: Limits{n(1), nil}, next: Limits{n(1), def},
			why: "/etc/rc.local:3 sets it, and /etc/rc.local runs when the machine has started",
		},
		"rc.local, and nothing is there yet": {
			files:     on612 + "-- etc/rc.local --\n#!/bin/sh\nsysctl -w net.netfilter.nf_conntrack_max=77\n",
			persisted: Limits{n(77), nil}, next: Limits{nil, def},
			why: "/etc/rc.local:2 sets it and /etc/rc.local runs when the machine has started, but it is not known whether conntrack is loaded by then",
		},
		"rc.local that loads the module itself": {
			files:     on612 + "-- etc/rc.d/rc.local --\nmodprobe nf_conntrack 2>/dev/null\necho 77 >/proc/sys/net/netfilter/nf_conntrack_max\n-- etc/rc.local -> rc.d/rc.local --\n",
			persisted: Limits{n(77), nil}, next: Limits{n(77), def},
			why: "/etc/rc.d/rc.local:2 sets it, and /etc/rc.d/rc.local runs when the machine has started",
		},
		"rc.local reads sysctl.conf again": {
			files:     on612 + set424242 + modules + "-- etc/sysctl.conf --\nnet.nf_conntrack_max=5\n-- etc/rc.local --\n/sbin/sysctl -p\n",
			persisted: Limits{n(5), nil}, next: Limits{n(5), def},
			why: "/etc/sysctl.conf:1 sets it, and /etc/rc.local runs when the machine has started",
		},
		"rc.local on a condition": {
			files:     on612 + set424242 + modules + "-- etc/rc.local --\n#!/bin/sh\nif test -e /x; then\n  echo 1 > /proc/sys/net/nf_conntrack_max\nfi\n",
			persisted: Limits{n(424242), nil},
			why:       "/etc/rc.local:3 names conntrack when the machine has started: what it sets is not known",
		},
		"rc.local after its end": {
			files:     on612 + set424242 + modules + "-- etc/rc.local --\nexit 0\necho 1 > /proc/sys/net/nf_conntrack_max\n",
			persisted: Limits{n(424242), nil}, next: Limits{n(424242), def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and /etc/modules-load.d/nf.conf:2 loads the module before",
		},
		"an image with systemd": {
			files: memory + "-- proc/sys/kernel/osrelease --\n6.12.107\n-- usr/lib/systemd/systemd --\n-- sbin/init -> /lib/systemd/systemd --\n-- lib -> usr/lib --\n" +
				set424242 + modules,
			persisted: Limits{n(424242), nil}, next: Limits{n(424242), def},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and /etc/modules-load.d/nf.conf:2 loads the module before",
		},
		"an image of EL 8 without a link for init": {
			files: memory + "-- proc/sys/kernel/osrelease --\n4.18.0-553.el8_10.x86_64\n-- usr/lib/systemd/systemd --\n-- etc/redhat-release --\nAlmaLinux release 8.10 (Cerulean Leopard)\n" +
				set424242 + modules,
			persisted: Limits{n(424242), nil}, next: Limits{n(424242), n(65536)},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and /etc/modules-load.d/nf.conf:2 loads the module before",
		},
		"an image whose init is another": {
			files: memory + "-- proc/sys/kernel/osrelease --\n6.12.107\n-- usr/lib/systemd/systemd --\n-- sbin/init -> /bin/busybox --\n-- bin/busybox --\n" +
				set424242 + modules,
			persisted: Limits{n(424242), nil},
			why:       "it is not known who applies the files at boot: systemd does not run here",
		},
		"CentOS 7 waits for the sysctls": {
			files: onCentOS7 + set424242 + "-- etc/udev/rules.d/99-x.rules --\n" +
				strings.Replace(rule, "/usr/lib/systemd/systemd-sysctl --prefix=/net/netfilter", "/bin/sh -c 'for i in 0 1 2; do [ -e /proc/sys/net/netfilter/nf_conntrack_max ] && exec /usr/lib/systemd/systemd-sysctl --prefix=/net/netfilter; sleep 1; done'", 1),
			persisted: Limits{n(424242), nil}, next: Limits{n(424242), n(65536)},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and /etc/udev/rules.d/99-x.rules:1 applies it when the module is loaded",
		},
		"CentOS 6 with a script that loads the module, and a rule": {
			files: onCentOS6 + "-- etc/sysctl.d/x --\nnet.netfilter.nf_conntrack_max=5\n-- etc/sysconfig/modules/x.modules --\n#!/bin/sh\n/sbin/modprobe nf_conntrack\n" +
				"-- etc/udev/rules.d/99-x.rules --\n" + strings.Replace(rule, "/usr/lib/systemd/systemd-sysctl --prefix=/net/netfilter", "/sbin/sysctl -q -p /etc/sysctl.d/x", 1),
			persisted: Limits{n(5), nil}, next: Limits{n(5), n(16384)},
			why: "/etc/sysctl.d/x:1 sets it, and /etc/sysconfig/modules/x.modules:2 loads the module before",
		},
		"hashsize multiplies": {
			files:     on612 + "-- etc/modprobe.d/nf.conf --\noptions nf_conntrack hashsize=16384\n",
			persisted: Limits{nil, n(16384)}, next: Limits{n(131072), n(16384)},
			why: "no file sets it: 8 times the hashsize of /etc/modprobe.d/nf.conf:1 holds, 131072; " +
				"of the buckets, no file sets it: the hashsize of /etc/modprobe.d/nf.conf:1 holds, 16384",
		},
		"hashsize is rounded up, and the last counts": {
			files:     on612 + "-- etc/modprobe.d/nf.conf --\noptions nf_conntrack acct=1 hashsize=7\noptions nf-conntrack hashsize=\"0x401\"\n",
			persisted: Limits{nil, n(1025)}, next: Limits{n(12288), n(1536)},
			why: "no file sets it: 8 times the hashsize of /etc/modprobe.d/nf.conf:2 holds, 12288; " +
				"of the buckets, no file sets it: the hashsize of /etc/modprobe.d/nf.conf:2 holds, 1536",
		},
		"hashsize is no number": {
			files: on612 + modules + "-- etc/modprobe.d/nf.conf --\noptions nf_conntrack hashsize=64k\n",
			why: "/etc/modprobe.d/nf.conf:1 gives a hashsize that is not a number that the kernel takes: " +
				"then conntrack is not loaded",
		},
		"hashsize does not reach what is no module": {
			files: on612 + "-- sys/module/nf_conntrack/x --\n-- etc/modprobe.d/nf.conf --\noptions nf_conntrack hashsize=64\n", next: Limits{def, def},
			why: "no file sets it: the kernel's default of 262144 holds",
		},
		"hashsize on the command line does": {
			files:     on612 + "-- sys/module/nf_conntrack/x --\n-- proc/cmdline --\nro nf_conntrack.hashsize=512 quiet\n",
			persisted: Limits{nil, n(512)}, next: Limits{n(4096), n(512)},
			why: "no file sets it: 8 times the hashsize of /proc/cmdline holds, 4096; " +
				"of the buckets, no file sets it: the hashsize of /proc/cmdline holds, 512",
		},
		"hashsize and sysctls": {
			files: on612 + modules + set424242 + "-- etc/modprobe.d/nf.conf --\noptions nf_conntrack hashsize=512\n" +
				"-- etc/sysctl.d/b.conf --\nnet.netfilter.nf_conntrack_buckets=1000\n",
			persisted: Limits{n(424242), n(1024)}, next: Limits{n(424242), n(1024)},
			why: "/etc/sysctl.d/90-app.conf:3 sets it, and /etc/modules-load.d/nf.conf:2 loads the module before; " +
				"of the buckets, /etc/sysctl.d/b.conf:1 sets it, and /etc/modules-load.d/nf.conf:2 loads the module before",
		},
		"buckets cannot be set on CentOS 7": {
			files: onCentOS7 + modules + "-- etc/sysctl.d/b.conf --\nnet.netfilter.nf_conntrack_buckets=1000\n", next: Limits{def, n(65536)},
			why: "no file sets it: the kernel's default of 262144 holds; of the buckets, /etc/sysctl.d/b.conf:1 sets it to \"1000\", " +
				"but it cannot be written before Linux 4.8: the kernel's default of 65536 holds",
		},
		"ufw, and conntrack comes with its rules": {
			files:     on612 + set424242 + "-- etc/ufw/ufw.conf --\nENABLED=yes\n-- etc/ufw/sysctl.conf --\nnet.netfilter.nf_conntrack_max=7\n",
			persisted: Limits{n(7), nil}, next: Limits{n(7), def},
			why: "/etc/ufw/sysctl.conf:1 sets it, and ufw applies it when it starts",
		},
		"a container": {
			files:     memory + "-- proc/sys/kernel/osrelease --\n6.12.107\n-- proc/1/comm --\nbash\n" + set424242 + modules,
			persisted: Limits{n(424242), nil},
			why:       "it is not known who applies the files at boot: systemd does not run here",
		},
		"a container whose files say different things to different programs": {
			files: memory + "-- proc/sys/kernel/osrelease --\n6.12.107\n" + set424242 + "-- etc/sysctl.conf --\nnet.nf_conntrack_max=5\n",
			why:   "it is not known who applies the files at boot: systemd does not run here",
		},
		"no release": {
			files: memory + "-- run/systemd/system/x --\n" + set424242, persisted: Limits{n(424242), nil},
			why: "the kernel's release is not known",
		},
		"no memory": {
			files: strings.TrimPrefix(on612, memory),
			why:   "no file sets it: the kernel's default holds, which depends on a memory that is not known",
		},
		"sysvinit reads sysctl.conf last": {
			files: memory + "-- proc/sys/kernel/osrelease --\n6.1.0-50-amd64\n-- proc/1/comm --\ninit\n-- etc/rcS.d/S12procps --\n-- etc/modules --\nnf_conntrack hashsize=1\n" +
				set424242 + "-- etc/sysctl.conf --\nnet.nf_conntrack_max=5\n",
			persisted: Limits{n(5), nil}, next: Limits{n(5), def},
			why: "/etc/sysctl.conf:1 sets it, and /etc/modules:1 loads the module before",
		},
		"CentOS 6: sysctl.conf first, and names without .conf": {
			files: onCentOS6 + "-- etc/sysctl.conf --\nnet.nf_conntrack_max=5\n-- etc/sysctl.d/limits --\nnet.ipv4.netfilter.ip_conntrack_max=6\n" +
				"-- etc/sysctl.d/x.rpmsave --\nnet.nf_conntrack_max=7\n-- usr/lib/sysctl.d/x.conf --\nnet.nf_conntrack_max=8\n" +
				"-- etc/rc.d/rc3.d/S08iptables --\n-- etc/rc.d/rc3.d/S10network --\n",
			persisted: Limits{n(6), nil}, next: Limits{n(6), n(16384)},
			why: "/etc/sysctl.d/limits:1 sets it, and the network script applies it again after iptables has loaded the module",
		},
		"CentOS 6 without iptables": {
			files:     onCentOS6 + "-- etc/sysctl.conf --\nnet.nf_conntrack_max=5\n-- etc/rc.d/rc3.d/S10network --\n",
			persisted: Limits{n(5), nil}, next: Limits{nil, n(16384)},
			why: "/etc/sysctl.conf:1 sets it, but it is not known whether conntrack is loaded before the network script runs",
		},
		"CentOS 5": {
			files: memory + "-- proc/sys/kernel/osrelease --\n2.6.18-274.7.1.el5\n-- etc/redhat-release --\nCentOS release 5.11 (Final)\n" +
				"-- etc/sysctl.conf --\nnet.ipv4.ip_conntrack_max=5\nnet.netfilter.nf_conntrack_max=6\n-- etc/modprobe.conf --\noptions ip_conntrack hashsize=1000\n" +
				"-- etc/rc.d/rc3.d/S08iptables --\n-- etc/rc.d/rc3.d/S10network --\n",
			persisted: Limits{n(5), n(1000)}, next: Limits{n(5), n(1000)},
			why: "/etc/sysctl.conf:1 sets it, and the network script applies it again after iptables has loaded the module; " +
				"of the buckets, no file sets it: the hashsize of /etc/modprobe.conf:1 holds, 1000",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := readBoot(t, c.files)
			if diff := cmp.Diff(Outlook{Persisted: c.persisted, NextBoot: c.next, Why: c.why}, Outlook{Persisted: b.Persisted, NextBoot: b.NextBoot, Why: b.Why}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	b := readBoot(t, on612+modules+set424242+
		"-- etc/sysctl.d/10-a.conf --\nnet/netfilter/nf_conntrack_max=1\n"+
		"-- etc/sysctl.conf --\n\nnet.nf_conntrack_max=80\n"+
		"-- usr/lib/sysctl.d/99-x.conf --\nnet.ipv4.ip_conntrack_max = 1\nnet.netfilter.nf_conntrack_buckets = -5\nnet.ipv4.ip_forward=1\n-net.nf_conntrack_max\n"+
		"-- etc/modprobe.d/a.conf --\noptions nf_conntrack hashsize=1024\noptions other hashsize=7\n")
	want := []Line{
		{"/etc/sysctl.d/10-a.conf", 1, "net/netfilter/nf_conntrack_max", "1", false, ""},
		{"/etc/sysctl.d/90-app.conf", 3, "net.netfilter.nf_conntrack_max", "424242", true, ""},
		{"/usr/lib/sysctl.d/99-x.conf", 1, "net.ipv4.ip_conntrack_max", "1", false, "this kernel has no such sysctl"},
		{"/usr/lib/sysctl.d/99-x.conf", 2, "net.netfilter.nf_conntrack_buckets", "-5", false, "it is out of range: -5"},
		{"/usr/lib/sysctl.d/99-x.conf", 4, "net.nf_conntrack_max", "", false, "it keeps patterns and earlier lines from setting it"},
		{"/etc/sysctl.conf", 2, "net.nf_conntrack_max", "80", false, "systemd-sysctl does not read this file"},
		{"/etc/modprobe.d/a.conf", 1, "hashsize", "1024", true, ""},
	}
	if diff := cmp.Diff(want, b.Files); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestUnreadable: what a file sets that may not be read is not known, and that is said.
func TestUnreadable(t *testing.T) {
	root := plant(t, on612+set424242)
	file := filepath.Join(root, "etc/sysctl.d/90-app.conf")
	if os.Getuid() == 0 {
		// Root may read everything, but not what is too long.
		must(t, os.Truncate(file, longest+1))
	} else {
		must(t, os.Chmod(file, 0))
	}
	if b, err := Read(root); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %+v, %v", b, err)
	}
}

// TestOddFiles: a directory or a pipe instead of a file holds nothing, and does not block.
func TestOddFiles(t *testing.T) {
	root := plant(t, on612+"-- etc/sysctl.conf/x --\n-- etc/modules-load.d --\nnf_conntrack\n-- etc/sysctl.d/a.conf --\n")
	pipe := filepath.Join(root, "etc/sysctl.d/b.conf")
	if err := unix.Mkfifo(pipe, 0o600); err != nil && !errors.Is(err, unix.ENOSYS) {
		t.Fatal(err)
	}
	b, err := Read(root)
	must(t, err)
	if len(b.Files) != 0 || b.NextBoot.Max == nil {
		t.Errorf("got %+v", b)
	}
}

// TestThisMachine reads the machine's own files, whatever they hold.
func TestThisMachine(t *testing.T) {
	b, err := Read("")
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err)
	}
	if err == nil && b.Why == "" {
		t.Errorf("no reason: %+v", b)
	}
	t.Logf("%s\n%+v", b.Why, b.Files)
}
