package boot

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// ours are the files that persist writes on this system, as far as they are there.
const ours = "/etc/sysctl.d/99-zz-ctwatch.conf /etc/modules-load.d/ctwatch.conf /etc/udev/rules.d/99-ctwatch.rules"

// powerCuts takes the power away at any moment while limits are persisted, one after another. What persist had reported
// as done must be there afterwards; of what it was at, all or nothing.
func powerCuts(m *machine) {
	const first = 500000
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	m.startBare()
	begun := time.Now()
	m.do(fmt.Sprintf("ctwatch limit persist %d", first))
	took := time.Since(begun)
	done := first
	var at, old int
	for range *kills {
		m.tell(fmt.Sprintf("n=%d; while n=$((n+1)) && ctwatch limit persist $n >/dev/null; do echo done $n >&3; done", done))
		timer := time.AfterFunc(time.Duration(random.Int64N(int64(3*took))), m.guest.Kill)
		for {
			line, err := m.next()
			if err != nil {
				break
			}
			if _, err := fmt.Sscanf(line, "done %d", &done); err != nil {
				m.Fatalf("persisting failed: %q", line)
			}
		}
		timer.Stop()
		m.off()
		m.note("power cut after %d was done", done)
		m.startBare()
		switch found := m.persisted(); found {
		case done:
			old++
		case done + 1:
			at++
			done = found
		default:
			m.Errorf("after %d was done, and %d begun, the power was cut, and %d is persisted", done, done+1, found)
			return
		}
		m.whole(done)
	}
	m.Logf("%d power cuts: %d found the number that was done before, %d that which was at work", *kills, old, at)
	m.do("ctwatch limit unpersist")
	if left := m.do("ls -A /etc/sysctl.d /etc/modules-load.d /etc/udev/rules.d | grep ctwatch || true"); left != "" {
		m.Errorf("unpersist left %s", left)
	}
}

// persisted is the number in the file.
func (m *machine) persisted() (n int) {
	m.Helper()
	out := m.do("sed -n 's/^net.netfilter.nf_conntrack_max *= *//p' /etc/sysctl.d/99-zz-ctwatch.conf")
	if _, err := fmt.Sscan(out, &n); err != nil {
		m.Errorf("the file that sets the limit is not whole: it sets %q", out)
	}
	return n
}

// whole wants our files to be what persist makes for this number, which finds nothing to mend in them.
func (m *machine) whole(n int) {
	m.Helper()
	sums := m.do("sha256sum " + ours)
	m.do(fmt.Sprintf("ctwatch limit persist %d", n))
	equal(m.T, "the files after a power cut, and after they were written again", strings.Split(sums, "\n"), strings.Split(m.do("sha256sum "+ours), "\n"))
}
