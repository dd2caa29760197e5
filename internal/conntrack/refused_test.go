package conntrack

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What the kernel does when it refuses a packet, and when it moves the same counters without refusing one.
var (
	eventFull     = Counters{CounterDrop: 1}
	eventClash    = Counters{CounterDrop: 1, CounterInsertFailed: 1}
	eventChain    = Counters{CounterChainTooLong: 1, CounterInsertFailed: 1}
	eventDying    = Counters{CounterInsertFailed: 1}
	eventReopen   = Counters{CounterDrop: 1, CounterInvalid: 1}
	eventNetlink  = Counters{CounterChainTooLong: 1} // ctnetlink insert, no packet
	eventResolved = Counters{CounterClashResolve: 1}
	eventEvicted  = Counters{CounterEarlyDrop: 3}
	eventInvalid  = Counters{CounterInvalid: 1, CounterError: 1}
)

func times(n uint32, c Counters) Counters {
	for i := range c {
		c[i] *= n
	}
	return c
}

func plus(all ...Counters) (sum Counters) {
	for _, c := range all {
		for i, v := range c {
			sum[i] += v
		}
	}
	return sum
}

func TestRefused(t *testing.T) {
	tests := map[string]struct {
		cpus  []Counters
		known CounterSet
		want  Refusal
	}{
		"nothing":    {known: knownAll},
		"table full": {[]Counters{times(5, eventFull), times(7, eventFull)}, knownAll, Refusal{DropAlone: 12}},
		"one of each, apart": {[]Counters{eventFull, eventClash, eventChain, eventDying, eventReopen}, knownAll,
			Refusal{Drops{Clash: 1, ChainTooLong: 1, InsertRace: 1}, 2}},
		"full and clash on one CPU": {[]Counters{plus(times(9, eventFull), times(2, eventClash))}, knownAll,
			Refusal{Drops{Clash: 2}, 9}},
		"full and dying on two CPUs": {[]Counters{times(9, eventFull), times(2, eventDying)}, knownAll,
			Refusal{Drops{InsertRace: 2}, 9}},
		"ctnetlink insert loses no packet": {[]Counters{times(4, eventNetlink)}, knownAll, Refusal{}},
		"ctnetlink insert beside packets": {[]Counters{plus(times(4, eventNetlink), times(3, eventChain))}, knownAll,
			Refusal{Drops{ChainTooLong: 3}, 0}},
		"accepted packets": {[]Counters{eventResolved, eventEvicted, eventInvalid}, knownAll, Refusal{}},
		"5.10 has no chain limit": {[]Counters{plus(eventDying, times(2, eventClash))}, known510,
			Refusal{Drops{Clash: 2, InsertRace: 1}, 0}},
		"EL7 counts accepted packets in insert_failed": {[]Counters{plus(times(6, eventDying), times(2, eventFull))}, knownEL7,
			Refusal{DropAlone: 2}},
		"EL6": {[]Counters{times(3, eventFull)}, knownEL6, Refusal{DropAlone: 3}},
		"nearly 2^32 on two CPUs": {[]Counters{times(0xffffffff, eventFull), times(0xffffffff, eventFull)}, knownAll,
			Refusal{DropAlone: 2 * 0xffffffff}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Refused(tt.cpus, tt.known)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestRefusedTotal checks, for any mix of events, that each refused packet is counted once, but for pairs of which
// counters show one.
func TestRefusedTotal(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		cpus := make([]Counters, 1+rng.IntN(4))
		var want uint64
		exact := true
		for i := range cpus {
			full, dying := rng.Uint32N(3), rng.Uint32N(3)
			exact = exact && (full == 0 || dying == 0)
			for _, e := range []Counters{times(full, eventFull), times(dying, eventDying), eventClash, times(2, eventChain)} {
				cpus[i] = plus(cpus[i], e)
			}
			want += uint64(full + dying + 3)
			cpus[i] = plus(cpus[i], times(rng.Uint32N(9), eventResolved), times(rng.Uint32N(9), eventEvicted), eventInvalid)
		}
		r := Refused(cpus, knownAll)
		if r.Total() > want || r.Total()+r.Drops[Clash] < want || exact && r.Total() != want {
			t.Fatalf("%v: total %d of which clash %d, want %d", cpus, r.Total(), r.Drops[Clash], want)
		}
	}
}
