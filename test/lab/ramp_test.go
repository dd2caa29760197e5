package lab

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newPath is a path of a lab with room for so many entries.
func newPath(t *testing.T, entries uint64) *Path {
	t.Helper()
	l := openLab(t)
	p, err := l.Path("router")
	check(t, err)
	check(t, l.SetLimit(Max, entries))
	return p
}

func ramp(t *testing.T, p *Path, r Ramp) Ramped {
	t.Helper()
	got, err := p.Ramp(t.Context(), r)
	check(t, err)
	t.Logf("%d connections in %v, %.0f a second: %+v", got.Sent, got.Took, float64(got.Sent)/got.Took.Seconds(), got)
	return got
}

// outcome is a Ramped but for its times.
func outcome(r Ramped) Ramped {
	r.Begun, r.Took, r.Outage = time.Time{}, 0, 0
	return r
}

func TestRampFillsTheTable(t *testing.T) {
	const from, to = 1000, 7000
	for _, test := range []struct {
		name             string
		kinds            []Kind
		replied, assured uint64
	}{
		{"tcp", nil, to, to},
		{"udp", []Kind{UDP4, UDP6}, to, from},
		{"all", Kinds(), to, from + (to-from)/3},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPath(t, 100_000)
			var got Ramped
			kernel := counted(t, p.Router, func() { got = ramp(t, p, Ramp{From: from, To: to, Rate: 20_000, Kinds: test.kinds}) })
			equalOrFail(t, "ramped", Ramped{Sent: to - from, Arrived: to - from, Answered: to - from}, outcome(got))
			equalOrFail(t, "outage", 0, got.Outage)
			equalOrFail(t, "kernel", Counters{Insert: from}, kernel)
			entries, err := p.Router.Entries()
			check(t, err)
			equalOrFail(t, "entries", Entries{Total: to, Replied: test.replied, Assured: test.assured}, entries)
		})
	}
}

func TestRampKeepsItsRate(t *testing.T) {
	p := newPath(t, 100_000)
	for _, rate := range []int{500, 6144, 20_000} {
		count := rate / 2
		got := ramp(t, p, Ramp{To: count, Rate: rate})
		// Never sooner, and not for ever later where the CPU is emulated.
		if least := time.Duration(count-batch) * time.Second / time.Duration(rate); got.Took < least || got.Took > 30*least {
			t.Errorf("%d connections, %d a second, took %v", count, rate, got.Took)
		}
		equalOrFail(t, "answered", uint64(count), got.Answered)
		check(t, p.Router.Flush())
	}
}

func TestRampOverTheLimit(t *testing.T) {
	const limit, to = 4000, 6000
	p := newPath(t, limit)
	var got Ramped
	kernel := counted(t, p.Router, func() { got = ramp(t, p, Ramp{From: 3000, To: to, Rate: 20_000}) })
	equalOrFail(t, "ramped", Ramped{Sent: 3000, Arrived: 1000, Answered: 1000, Refused: to - limit}, outcome(got))
	equalOrFail(t, "the kernel's drop counter", to-limit, kernel.Drop)
	// It began after a third of the time, and did not end.
	if want := got.Took * 2 / 3; got.Outage < want/2 || got.Outage > got.Took {
		t.Errorf("outage of %v in %v", got.Outage, got.Took)
	}
}

func TestCliff(t *testing.T) {
	const limit, room, count = 2000, 100, 30_000
	p := newPath(t, limit)
	var got Ramped
	kernel := counted(t, p.Router, func() { got = ramp(t, p, Ramp{From: limit - room, To: limit - room + count}) })
	equalOrFail(t, "sent", count, got.Sent)
	equalOrFail(t, "refused, beside the kernel's drop counter", uint64(kernel.Drop), got.Refused)
	// An entry whose answer is on its way may be evicted, and then the answer may be refused, too.
	if most := uint64(room + kernel.EarlyDrop); got.Arrived < room || got.Arrived > most || got.Answered > got.Arrived {
		t.Errorf("room for %d, %d evicted: %d arrived, %d were answered", room, kernel.EarlyDrop, got.Arrived, got.Answered)
	}
	if got.Outage == 0 || got.Outage > got.Took {
		t.Errorf("outage of %v in %v", got.Outage, got.Took)
	}
}

func TestFlood(t *testing.T) {
	const count = 5000
	for name, one := range map[string]bool{"many networks": false, "one network": true} {
		t.Run(name, func(t *testing.T) {
			p := newPath(t, 100_000)
			got := ramp(t, p, Ramp{To: count, Kinds: []Kind{UDP4, SYN4}, Unanswered: true, OneNet: one})
			equalOrFail(t, "ramped", Ramped{Sent: count, Arrived: count}, outcome(got))
			entries, err := p.Router.Entries()
			check(t, err)
			equalOrFail(t, "entries", Entries{Total: count}, entries)
		})
	}
}

func TestRampShrinks(t *testing.T) {
	p := newPath(t, 1000)
	if _, err := p.Ramp(t.Context(), Ramp{From: 2, To: 1}); err == nil {
		t.Error("a ramp went down")
	}
}

func TestAnswersAreValid(t *testing.T) {
	l := &Link{}
	a, b := newEnd(l, &Namespace{}, 3, 0), newEnd(l, &Namespace{}, 3, 1)
	a.peer, b.peer = b, a
	for _, kind := range Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			f := a.newFrame(b, kind, rampPort)
			f.spread()
			const n = 3*hosts + 5
			f.set(n)
			request := parse(t, f.bytes)
			asked := slices.Clone(f.bytes)
			equalOrFail(t, "answered by client", false, request.answer(false))
			equalOrFail(t, "answered by server", true, request.answer(true))
			checkSums(t, request)
			was := parse(t, asked)
			equalOrFail(t, "to", was.addressLow(), request.destination())
			equalOrFail(t, "from", was.destination(), request.addressLow())
			equalOrFail(t, "port", was.source(), request.targetPort())
			third := kind.proto() == unix.IPPROTO_TCP
			equalOrFail(t, "answered by client", third, request.answer(false))
			if third {
				equalOrFail(t, "flags", tcpACK, request.frame[request.l4+13])
				equalOrFail(t, "sequence and acknowledgement", []byte{0, 0, 0, 2, 0, 0, 0, 2}, request.frame[request.l4+4:][:8])
				checkSums(t, request)
			}
		})
	}
}

func parse(t *testing.T, f []byte) packet {
	t.Helper()
	p, ok := parseFrame(f)
	if !ok {
		t.Fatalf("not a frame of the lab: %x", f)
	}
	return p
}

func checkSums(t *testing.T, p packet) {
	t.Helper()
	l4 := p.frame[p.l4:]
	sum := sum16(l4)
	if p.proto != unix.IPPROTO_ICMP {
		sum += sum16(p.frame[p.addr:][:2*p.size]) + uint32(p.proto) + uint32(len(l4))
	}
	equalOrFail(t, "transport sum", 0, fold(sum))
	if p.size == 4 {
		equalOrFail(t, "IPv4 header's sum", 0, fold(sum16(p.frame[ethernetLen:p.l4])))
	}
}
