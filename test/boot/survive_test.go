package boot

import "strings"

const (
	// byDefault is what a machine with 1 to 4 GiB begins with (nf_conntrack_init_start, 5.15 and later).
	byDefault = 65536
	wanted    = 524288
	// unload takes the firewall's rules away, and then conntrack.
	unload = "systemctl stop firewall && modprobe -r nft_ct && ! [ -e /proc/sys/net/netfilter/nf_conntrack_max ]"
)

// lost: without what persist adds, the setting is lost as it always was. So the other tests can fail.
func lost(m *machine) {
	m.startBare()
	m.do("echo 'net.netfilter.nf_conntrack_max = 524288' >/etc/sysctl.d/50-mine.conf")
	m.predict(limits{byDefault, byDefault})
	m.do("sync")
	m.cut()
	m.start(systemd)
	m.wantLive(limits{byDefault, byDefault})
}

// survives goes all the way of a limit: set, persisted, booted, the module loaded again, refused, undone, removed.
func survives(m *machine) {
	m.start(systemd)
	begin := limits{byDefault, byDefault}
	m.wantLive(begin)
	before := m.files()

	m.do("ctwatch limit set 524288 --buckets 131072 --persist")
	set := limits{wanted, 131072}
	m.wantLive(set)
	m.predict(set)

	m.reboot() // the firewall loads conntrack after systemd-sysctl ran
	m.wantLive(set)
	m.predict(set)

	m.do(unload)
	m.do("systemctl start firewall && udevadm settle")
	m.wantLive(set)

	m.refuses("echo net.netfilter.nf_conntrack_max=1000", "/etc/sysctl.d/99-zzz-other.conf")
	m.refuses("printf '# mine\n\nnet/nf_conntrack_max=1000\n'", "/etc/sysctl.conf")

	m.do("ctwatch limit undo")
	m.wantLive(begin)
	m.wantFiles("undo", before)

	m.do("ctwatch limit set 524288 --persist && ctwatch limit unpersist")
	if got := m.live().Max; got != wanted {
		m.Errorf("unpersist left max at %d", got)
	}
	m.wantFiles("unpersist", before)
	m.predict(begin)
	m.reboot()
	m.wantLive(begin)
	m.wantFiles("a reboot", before)
}

// refuses has a file in the way that would win, and wants it named with its last line.
func (m *machine) refuses(print, file string) {
	m.Helper()
	before := m.files()
	m.do(print + " >" + file)
	lines := m.do("wc -l <" + file)
	out, status := m.try("ctwatch limit persist 600000")
	if status != 1 || !strings.Contains(out, file+":"+lines) {
		m.Errorf("persist with %s in the way: status %d: %s", file, status, out)
	}
	m.do("rm " + file)
	m.wantFiles("what was refused", before)
}

// predict wants limit show to say that the next boot gives this.
func (m *machine) predict(want limits) {
	m.Helper()
	o := m.show()
	equal(m.T, "what limit show says of the next boot", want, o.NextBoot)
	equal(m.T, "what limit show says is live", m.live(), o.Live)
}

func (m *machine) wantLive(want limits) {
	m.Helper()
	equal(m.T, "the limits", want, m.live())
}

func (m *machine) wantFiles(after, want string) {
	m.Helper()
	equal(m.T, "the files after "+after, strings.Split(want, "\n"), strings.Split(m.files(), "\n"))
}
