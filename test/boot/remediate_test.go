package boot

import "strings"

// remediated: a daemon that may raises the limit before a packet is lost, and what it raised to is there after a reboot.
func remediated(m *machine) {
	const limit = "/proc/sys/net/netfilter/nf_conntrack_max"
	m.start(systemd)
	m.do("echo 400 >" + limit)
	m.do("systemd-run --quiet --unit=ctwatch ctwatch run --remediate on --persist")
	m.until(`[ -e /var/lib/ctwatch/journal/*.jsonl ]`)
	// The kernel answers for a server that takes no connection.
	m.do("systemd-run --quiet --unit=server --socket-property=ListenStream=127.0.0.1:80 --socket-property=Backlog=1000 sleep infinity")
	m.do("bash -c 'for i in {1..300}; do echo >/dev/tcp/127.0.0.1/80; done'")
	m.until("[ $(cat " + limit + ") != 400 ]")
	m.until("[ -e /etc/sysctl.d/99-zz-ctwatch.conf ] && [ -e /etc/udev/rules.d/99-ctwatch.rules ]")
	raised := m.live()
	if raised.Max < wanted {
		m.Errorf("the limit was raised to %d", raised.Max)
	}
	m.do("systemctl stop ctwatch")
	m.predict(raised)
	m.reboot()
	m.wantLive(raised)
	if said := m.do("ctwatch report --since 1h --format json"); !strings.Contains(said, `"raise_max"`) {
		m.Errorf("the report has no raise: %s", said)
	}
}

// until waits for a condition in the guest.
func (m *machine) until(condition string) {
	m.Helper()
	m.do("n=0; until " + condition + "; do n=$((n+1)); [ $n -lt 200 ] || { journalctl -q -u ctwatch; exit 1; }; sleep 0.1; done")
}
