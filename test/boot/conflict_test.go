package boot

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// treeScript plants files, in place of none of the machine's, has ctwatch persist a limit in their presence, does what a
// boot does, by the programs that do it there, and has each of those that apply files do it alone. A line that begins with
// = is the head of what follows it.
const treeScript = `
export PATH=/usr/local/bin:/usr/sbin:/usr/bin LC_ALL=C
cd /
files='%s'
limits() {
	[ -e /proc/sys/net/netfilter/nf_conntrack_max ] || { echo 0 0; return; }
	echo $(cat /proc/sys/net/netfilter/nf_conntrack_max /proc/sys/net/netfilter/nf_conntrack_buckets)
}
for f in $files; do
	if [ -e "$f" ] || [ -L "$f" ]; then echo "$f is there already"; exit 1; fi
done
trap 'ctwatch limit unpersist >/dev/null 2>&1; rm -f $files; rm -rf usr/lib/tuned' EXIT
base64 -d <<. | tar -x --no-same-owner
%s
.
persist='ctwatch limit persist %s'
echo = persist
$persist 2>&1
status=$?
[ $status = 0 ] || $persist --force >/dev/null 2>&1
echo = status
echo $status
echo = show
ctwatch limit show --format json

udevadm control --reload
pkill -STOP -x systemd-udevd # when a machine boots, it starts after the other two
/usr/lib/systemd/systemd-modules-load >/dev/null 2>&1
/usr/lib/systemd/systemd-sysctl >/dev/null 2>&1
pkill -CONT -x systemd-udevd
nft -f etc/firewall.nft >/dev/null 2>&1
udevadm settle
if grep -qs ENABLED=yes etc/ufw/ufw.conf; then # what ufw-init-functions does
	IPT_SYSCTL=/etc/ufw/sysctl.conf
	[ ! -e etc/default/ufw ] || . /etc/default/ufw
	sysctl -e -q -p $IPT_SYSCTL
fi
[ ! -x etc/rc.local ] || /etc/rc.local start >/dev/null 2>&1
echo = boot
limits
for apply in /usr/lib/systemd/systemd-sysctl 'sysctl --system'; do
	echo %d 2>/dev/null >/proc/sys/net/netfilter/nf_conntrack_max
	$apply >/dev/null 2>&1
	echo = $apply
	limits
done
echo = end
`

// nobodys is a limit that no file sets.
const nobodys = 3333

// tree is a file of internal/boot's testdata/conflicts. The lines of its comment below the first are "name: value": what
// is wanted, which script is not executable, and for each program that applies files which line it lets win over ours, and
// the number there, or "none".
type tree struct {
	base    string // what machine it is for; "" is this one
	oracle  string // what cannot be asked
	plain   string
	wanted  limits            // no buckets: they are not set
	wins    map[string]string // by program, without those that let none win
	archive *txtar.Archive
}

func readTree(t *testing.T, name string) (c tree) {
	t.Helper()
	archive, err := txtar.ParseFile(name)
	must(t, err)
	c = tree{wanted: limits{Max: wanted}, wins: map[string]string{}, archive: archive}
	_, lines, _ := strings.Cut(string(archive.Comment), "\n")
	for line := range strings.Lines(lines) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ": "); {
		case name == "base":
			c.base = value
		case name == "oracle":
			c.oracle = value
		case name == "plain":
			c.plain = value
		case name == "wanted":
			_, err := fmt.Sscanf(value, "max %d buckets %d", &c.wanted.Max, &c.wanted.Buckets)
			must(t, err)
		case value != "none":
			c.wins[name] = value
		}
	}
	return c
}

// conflicts plants trees of files that set limits, and asks the machine's tools what comes of them.
func conflicts(m *machine) {
	names, err := filepath.Glob("../../internal/boot/testdata/conflicts/*.txtar")
	must(m.T, err)
	m.start(systemd)
	planted := 0
	for _, name := range names {
		tree := readTree(m.T, name)
		if tree.base != "" {
			continue // another system's
		}
		planted++
		m.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) { m.within(t).plant(tree) })
	}
	if planted < 25 {
		m.Errorf("there are %d trees, want 25 at least", planted)
	}
}

// plant wants what the tree says: ctwatch refuses where a program lets another line win, and names it; where it persists
// the limit, it holds; the programs leave the limits that they should; and the boot gives what limit show said.
func (m *machine) plant(c tree) {
	files, contents := c.pack(m.T)
	args := fmt.Sprint(c.wanted.Max)
	if c.wanted.Buckets != 0 {
		args += fmt.Sprintf(" --buckets %d", c.wanted.Buckets)
	}
	m.do("nft flush ruleset; modprobe -q -r nft_ct nf_conntrack_netlink nf_conntrack; ! [ -e /proc/sys/net/netfilter/nf_conntrack_max ]")
	out := m.do(fmt.Sprintf(treeScript, strings.Join(files, " "), contents, args, nobodys))
	told := sections(out)
	if _, whole := told["end"]; !whole {
		m.Fatalf("the script ended early:\n%s", out)
	}

	if refused := told["status"] != "0"; refused != (len(c.wins) > 0) {
		m.Errorf("persist: status %s: %s\nbut these win over it: %v", told["status"], told["persist"], c.wins)
	}
	for program, line := range c.wins {
		if at, _, _ := strings.Cut(line, " "); !strings.Contains(told["persist"], strings.TrimSuffix(at, ":0")) {
			m.Errorf("persist does not name %s, which wins by %s: %s", at, program, told["persist"])
		}
	}

	var o outlook
	must(m.T, json.Unmarshal([]byte(told["show"]), &o))
	booted := parseLimits(m.T, told["boot"])
	if o.NextBoot.Max != 0 && o.NextBoot.Max != booted.Max || o.NextBoot.Buckets != 0 && o.NextBoot.Buckets != booted.Buckets {
		m.Errorf("limit show said %+v of the next boot, which gives %+v: %s", o.NextBoot, booted, told["show"])
	}
	if len(c.wins) == 0 && !c.wanted.holds(booted) {
		m.Errorf("the boot gives %+v, and nobody should win over %+v", booted, c.wanted)
	}
	if c.oracle != "" {
		return
	}
	for program, command := range map[string]string{"systemd-sysctl": "/usr/lib/systemd/systemd-sysctl", "sysctl --system": "sysctl --system"} {
		got := parseLimits(m.T, told[command])
		line, others := c.wins[program]
		if !others && !c.wanted.holds(got) {
			m.Errorf("%s leaves %+v, want %+v", program, got, c.wanted)
		}
		if !others {
			continue
		}
		_, text, _ := strings.Cut(line, " ")
		var value uint64
		if _, err := fmt.Sscan(text, &value); err != nil {
			value = nobodys // what is there is no number, and sets nothing
		}
		if got.Max != value && got.Buckets != value {
			m.Errorf("%s leaves %+v, want that of %s", program, got, line)
		}
	}
}

// holds reports whether these limits are the wanted ones. The kernel rounds buckets up to whole pages.
func (l limits) holds(got limits) bool {
	const perPage = 4096 / 8
	return got.Max == l.Max && (l.Buckets == 0 || got.Buckets == (l.Buckets+perPage-1)/perPage*perPage)
}

// sections are what stands below each head.
func sections(out string) map[string]string {
	told, head := map[string]string{}, ""
	for line := range strings.Lines(out) {
		if h, is := strings.CutPrefix(line, "= "); is {
			head = strings.TrimSpace(h)
			told[head] = ""
			continue
		}
		told[head] += line
	}
	for h := range told {
		told[h] = strings.TrimSpace(told[h])
	}
	return told
}

func parseLimits(t *testing.T, s string) (l limits) {
	t.Helper()
	_, err := fmt.Sscan(s, &l.Max, &l.Buckets)
	must(t, err)
	return l
}

// pack makes a tar archive, in base64, of those files of a tree that say something of the machine's settings and nothing of
// the machine itself. "-- name -> target --" is a link.
func (c tree) pack(t *testing.T) (files []string, contents string) {
	t.Helper()
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, f := range c.archive.Files {
		name, target, link := strings.Cut(f.Name, " -> ")
		if top, _, _ := strings.Cut(name, "/"); top == "proc" || top == "sys" {
			continue
		}
		files = append(files, name)
		header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(f.Data))}
		if path.Base(name) == "rc.local" && name != c.plain {
			header.Mode = 0o755
		}
		if link {
			header.Typeflag, header.Linkname, header.Size = tar.TypeSymlink, target, 0
		}
		must(t, w.WriteHeader(header))
		if !link {
			_, err := w.Write(f.Data)
			must(t, err)
		}
	}
	must(t, w.Close())
	return files, base64.StdEncoding.EncodeToString(packed.Bytes())
}
