package census

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// idleFor is for how long nothing came on a connection that is called idle. Most keep-alives are more frequent.
const idleFor = 10 * time.Minute

// tally counts entries as they go by.
type tally struct {
	timeouts                    timeouts
	replied, assured, idle, nat uint64

	src, srcNet, dst ranking[netip.Addr]
	dport            ranking[service]
	proto            ranking[uint8]
	state            ranking[state]
}

// newTally counts so many entries at most; 0 is any number.
func newTally(t timeouts, limit uint64) *tally {
	room := keys
	if limit > 0 {
		room = int(min(keys, limit))
	}
	return &tally{
		timeouts: t,
		src:      newRanking(room, netip.Addr.String),
		srcNet:   newRanking(room, networkText),
		dst:      newRanking(room, netip.Addr.String),
		dport:    newRanking(room, service.String),
		proto:    newRanking(room, conntrack.ProtoName),
		state:    newRanking(room, state.String),
	}
}

// add counts an entry, and allocates nothing.
func (t *tally) add(e *Entry) {
	var m marks
	if e.Replied() {
		m.replied = 1
	}
	if e.Assured() {
		m.assured = 1
	}
	t.replied += m.replied
	t.assured += m.assured
	if e.Translated() {
		t.nat++
	}
	if t.timeouts.idle(e) {
		t.idle++
	}
	t.src.add(e.Src, m)
	t.srcNet.add(network(e.Src), m)
	t.dst.add(e.Dst, m)
	if hasPorts(e.Proto) {
		t.dport.add(service{e.DstPort, e.Proto}, m)
	}
	t.proto.add(e.Proto, m)
	t.state.add(stateOf(e), m)
}

// fill writes what was counted.
func (t *tally) fill(f *record.Fillers, rows int, s sample) {
	f.Replied, f.Assured = s.share(t.replied), s.share(t.assured)
	f.Nat = s.share(t.nat)
	f.Idle, f.IdleFor = s.share(t.idle), idleFor.Nanoseconds()
	f.Src, f.SrcNet, f.Dst = t.src.rows(rows, s), t.srcNet.rows(rows, s), t.dst.rows(rows, s)
	f.Dport, f.Proto, f.State = t.dport.rows(rows, s), t.proto.rows(rows, s), t.state.rows(rows, s)
	f.Error = s.widest()
}

// timeouts are those of TCP in the namespace, in seconds.
type timeouts struct {
	established uint32
	// unanswered is the largest of those that an established connection has instead while a segment is not acknowledged.
	unanswered uint32
}

// idle reports whether an entry is an established TCP connection on which nothing came for idleFor. Each packet sets the
// time that is left anew, so what is missing of the whole is how long ago the last one came. Where no more is left than an
// unacknowledged segment gives, that is not known, and such an entry is not called idle: of the default 5 days it is the
// last 5 minutes. Nor is one that has more than the whole: the setting was lowered after its last packet.
func (t timeouts) idle(e *Entry) bool {
	return e.Proto == unix.IPPROTO_TCP && e.State == tcpEstablished && e.Timeout > t.unanswered &&
		uint64(e.Timeout)+uint64(idleFor/time.Second) <= uint64(t.established)
}
