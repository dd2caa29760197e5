package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// Event is one refused packet or, if Begins says so, something that a hook saw begin after a second or more without it.
type Event struct {
	Boot   time.Duration // since boot, suspend included
	Cookie uint64        // of the network namespace
	Inode  uint64
	Begins Beginning // not Nothing: the fields below are empty

	Cause conntrack.Cause
	// Alone: the drop counter moved alone, and no hook saw why. Cause is TableFull, and AllocFailed if the table was not full
	// at that moment.
	Alone bool
	// Inferred: several refusals were found at once, and this packet's may be another of them.
	Inferred bool

	Proto    uint8 // IPPROTO_*
	Src, Dst netip.Addr
	// Ports in host order. ICMP echo: the identifier, and type << 8 | code. 0 for protocols without.
	Sport, Dport uint16
	Ifname       string // device the packet was on, untrusted text; "" before routing chose one
	Hook         string // prerouting, input, output or postrouting
}

// Beginning is what a hook tells at once.
type Beginning uint8

// What may begin.
const (
	Nothing  Beginning = iota
	Refusing           // the table is full and nothing could be evicted, or there was a clash: packets are being refused
	Evicting           // the table is full: entries are being evicted to make room
)

// sampleSize is sizeof(struct sample), bpf/abi.h.
const sampleSize = 80

// ReadEvent waits for the next event. It fails with os.ErrClosed after Close, and with a probe that has none.
func (p *Probe) ReadEvent(e *Event) error {
	if p.program == nil {
		return os.ErrClosed
	}
	err := p.program.ring.ReadInto(&p.program.record)
	switch {
	case errors.Is(err, ringbuf.ErrFlushed):
		return os.ErrClosed
	case err != nil:
		return err
	}
	return decode(p.program.record.RawSample, e)
}

// EndEvents makes ReadEvent return what is in the ring, and then os.ErrClosed.
func (p *Probe) EndEvents() error {
	if p.program == nil {
		return nil
	}
	return p.program.ring.Flush()
}

// Flags of struct sample, bpf/abi.h.
const (
	flagInferred = 1 << iota
	flagFull
	flagBegins
)

func decode(raw []byte, e *Event) error {
	var r programSample
	if len(raw) < sampleSize {
		return fmt.Errorf("decode a sample: %d bytes instead of %d", len(raw), sampleSize)
	}
	if _, err := binary.Decode(raw, binary.NativeEndian, &r); err != nil {
		return fmt.Errorf("decode a sample: %w", err)
	}
	*e = Event{Boot: time.Duration(r.TimeNs), Cookie: r.Cookie, Inode: uint64(r.Inum)}
	if r.Flags&flagBegins != 0 {
		e.Begins = Refusing
		if programBeginning(r.Kind) == programBeginningBEGIN_EVICTING {
			e.Begins = Evicting
		}
		return nil
	}
	e.Alone = programKind(r.Kind) == programKindKIND_DROP_ALONE && r.Flags&flagFull == 0
	e.Inferred = r.Flags&flagInferred != 0
	e.Cause = causeOf(programKind(r.Kind))
	e.Proto = r.Proto
	e.Src, e.Dst = address(r.Family, r.Src), address(r.Family, r.Dst)
	e.Sport, e.Dport = networkOrder(r.Sport), networkOrder(r.Dport)
	e.Hook = hookName(r.Hook)
	name, _, _ := bytes.Cut(r.Ifname[:], []byte{0})
	e.Ifname = string(name)
	return nil
}

func causeOf(k programKind) conntrack.Cause {
	switch k {
	case programKindKIND_DROP_ALONE:
		return conntrack.TableFull
	case programKindKIND_CLASH:
		return conntrack.Clash
	case programKindKIND_CHAIN_TOO_LONG:
		return conntrack.ChainTooLong
	case programKindKIND_INSERT_RACE:
		return conntrack.InsertRace
	}
	return conntrack.Other
}

func address(family uint8, raw [16]byte) netip.Addr {
	switch family {
	case 4:
		return netip.AddrFrom4([4]byte(raw[:4]))
	case 6:
		return netip.AddrFrom16(raw)
	}
	return netip.Addr{}
}

// networkOrder reads a number that lies in memory in network byte order.
func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], v)
	return binary.BigEndian.Uint16(b[:])
}

// hookName is the hook's name in nft, enum nf_inet_hooks.
func hookName(hook uint8) string {
	names := [...]string{"prerouting", "input", "forward", "output", "postrouting"}
	if int(hook) >= len(names) {
		return fmt.Sprintf("hook(%d)", hook)
	}
	return names[hook]
}
