package boot

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var unexported = cmp.AllowUnexported(directive{}, place{}, addRule{}, unclear{}, assignment{})

func TestParseModprobe(t *testing.T) {
	const text = `# options nf_conntrack hashsize=1

  options	nf-conntrack  acct=1 hashsize=2
install nf_conntrack /bin/a \
  && /bin/b
blacklist nf_conntrack
options
options nf_nat
alias a b \`
	want := []directive{
		{place{"f", 3}, "options", "nf_conntrack", "acct=1 hashsize=2"},
		{place{"f", 4}, "install", "nf_conntrack", "/bin/a    && /bin/b"},
		{place{"f", 6}, "blacklist", "nf_conntrack", ""},
		{place{"f", 8}, "options", "nf_nat", ""},
		{place{"f", 9}, "alias", "a", "b"},
	}
	if diff := cmp.Diff(want, parseModprobe("f", text), unexported); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestParseRules(t *testing.T) {
	const text = `# SUBSYSTEM=="module", KERNEL=="nf_conntrack", RUN+="systemd-sysctl"
ACTION=="add|change", SUBSYSTEM=="module", KERNEL=="nf_*", \
  RUN+="/lib/systemd/systemd-sysctl --prefix net/netfilter --prefix=net.nf_conntrack_max"
ACTION=="remove", SUBSYSTEM=="module", KERNEL=="nf_conntrack", RUN+="systemd-sysctl"
ACTION!="remove", DEVPATH=="/module/nf_conntrack", RUN{program}+="/sbin/sysctl -q --system"
SUBSYSTEM=="module", KERNEL=="nf_nat", RUN+="systemd-sysctl"
SUBSYSTEM=="module", ATTR{x}=="y", KERNEL=="nf_conntrack", RUN+="systemd-sysctl"
SUBSYSTEM=="module", KERNEL!="nf_conntrack", RUN+="systemd-sysctl"
SUBSYSTEM=="module", RUN+="systemd-sysctl"
KERNEL=="nf_conntrack", RUN{builtin}+="sysctl", RUN+="/bin/true", RUN+="/sbin/sysctl -p /etc/x", RUN+="systemd-sysctl --strict"
KERNEL=="nf_conntrack", RUN+="systemd-sysctl"
KERNEL=="nf_conntrack", RUN+="/bin/sh -c 'for i in 0 1 2; do [ -e /proc/sys/net/netfilter/nf_conntrack_max ] && exec systemd-sysctl --prefix=/net/netfilter; sleep 1; done'"
KERNEL=="nf_conntrack", RUN+="/bin/sh -c 'sysctl -w net.nf_conntrack_max=5'"
`
	rules, others := parseRules("f", text, "nf_conntrack")
	wantRules := []addRule{
		{place: place{"f", 2}, prefixes: []string{"net/netfilter", "net/nf_conntrack_max"}},
		{place: place{"f", 5}, procps: true},
		{place: place{"f", 10}, file: "/etc/x"},
		{place: place{"f", 11}},
		{place: place{"f", 12}, waits: true, prefixes: []string{"net/netfilter"}},
	}
	wantOthers := []unclear{
		{place{"f", 10}, "runs a program when the module is loaded"},
		{place{"f", 13}, "runs a program when the module is loaded"},
	}
	if diff := cmp.Diff(wantRules, rules, unexported); diff != "" {
		t.Errorf("rules, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(wantOthers, others, unexported); diff != "" {
		t.Errorf("others, -want +got:\n%s", diff)
	}
}

func TestNormalize(t *testing.T) {
	for key, want := range map[string]string{
		"net.netfilter.nf_conntrack_max":   "net/netfilter/nf_conntrack_max",
		"net/netfilter/nf_conntrack_max":   "net/netfilter/nf_conntrack_max",
		"/net//netfilter/nf_conntrack_max": "net/netfilter/nf_conntrack_max",
		"net.ipv4.conf.eth0/100.x":         "net/ipv4/conf/eth0.100/x",
		"net/ipv4/conf/eth0.100/x":         "net/ipv4/conf/eth0.100/x",
		"":                                 "",
		"kernel":                           "kernel",
	} {
		if got := normalize(key); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}

// FuzzParseSysctl: a line at the end is found there, and is what counts, whatever stands before.
func FuzzParseSysctl(f *testing.F) {
	f.Add("net.netfilter.nf_conntrack_max = 5\n# x\n-net.nf_conntrack_max\n")
	f.Add("net/netfilter/nf_conntrack*=7\r\n;\n=\n-\nnet.netfilter.nf_conntrack_[!b]*=1")
	f.Fuzz(func(t *testing.T, text string) {
		before := parseSysctl("f", text)
		lines := strings.Count(text, "\n") + 1
		got := parseSysctl("f", text+"\nnet.netfilter.nf_conntrack_max=123\n")
		last := assignment{place{"f", lines + 1}, "net.netfilter.nf_conntrack_max", "net/netfilter/nf_conntrack_max", "123", false}
		if diff := cmp.Diff(append(slices.Clone(before), last), got, unexported); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		for i, a := range before {
			if a.line < 1 || a.line > lines || i > 0 && a.line <= before[i-1].line {
				t.Errorf("line %d of %d", a.line, lines)
			}
		}
		k := parseKernel("6.12")
		in := inputs{kernel: k, pageSize: 4096}
		for name, writes := range map[string][]write{
			"systemd": systemdWrites([][]assignment{got}), "procps": procpsWrites([][]assignment{got}),
		} {
			only := slices.DeleteFunc(writes, func(w write) bool { return w.sysctl.path != last.path })
			if s := in.last(limitMax, []stage{{writes: only}}, map[place]string{}); s == nil || s.value != 123 {
				t.Errorf("%s: %+v", name, s)
			}
		}
	})
}

// FuzzParseModprobe: a line at the end is found there, whatever stands before, unless that is to be joined with it.
func FuzzParseModprobe(f *testing.F) {
	f.Add("options nf_conntrack hashsize=1\ninstall x \\\n y")
	f.Add("# \\\n\\\n\\")
	f.Fuzz(func(t *testing.T, text string) {
		before := parseModprobe("f", text)
		for _, d := range before {
			if d.command == "" || d.module == "" || strings.ContainsAny(d.command+d.module, " \t\n-") && !strings.Contains(d.command, "-") {
				t.Errorf("got %+v", d)
			}
			d.hashsize()
		}
		if strings.HasSuffix(text, `\`) {
			return
		}
		lines := strings.Count(text, "\n") + 1
		got := parseModprobe("f", text+"\noptions nf_conntrack hashsize=7\n")
		if strings.HasSuffix(strings.TrimSuffix(text, "\n"), `\`) {
			return // the empty line ends what was begun
		}
		want := append(slices.Clone(before), directive{place{"f", lines + 1}, "options", "nf_conntrack", "hashsize=7"})
		if diff := cmp.Diff(want, got, unexported); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// FuzzParseRules: a rule at the end is found there, whatever stands before, unless that is to be joined with it.
func FuzzParseRules(f *testing.F) {
	f.Add(rule)
	f.Add("KERNEL==\"nf_conntrack\", \\\n#\nRUN+=\"a\\\"b\"")
	f.Fuzz(func(t *testing.T, text string) {
		before, _ := parseRules("f", text, "nf_conntrack")
		got, _ := parseRules("f", text+"\n\n"+rule, "nf_conntrack")
		if strings.Contains(text, `\`) {
			return
		}
		want := append(slices.Clone(before), addRule{place: place{"f", strings.Count(text, "\n") + 3}, prefixes: []string{"net/netfilter"}})
		if diff := cmp.Diff(want, got, unexported); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
