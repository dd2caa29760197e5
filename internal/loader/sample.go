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

// Sample is one refused packet.
type Sample struct {
	Boot   time.Duration // since boot, suspend included
	Cookie uint64        // of the network namespace
	Inode  uint64

	Cause conntrack.Cause
	// Alone: the drop counter moved alone. Cause is TableFull, and AllocFailed if the table was not full at that moment.
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

// sampleSize is sizeof(struct sample), bpf/abi.h.
const sampleSize = 80

// ReadSample waits for the next refused packet that the program looked at. It fails with os.ErrClosed after Close,
// and with a probe that takes no samples.
func (p *Probe) ReadSample(s *Sample) error {
	if p.core == nil {
		return os.ErrClosed
	}
	err := p.core.ring.ReadInto(&p.core.record)
	switch {
	case errors.Is(err, ringbuf.ErrFlushed):
		return os.ErrClosed
	case err != nil:
		return err
	}
	return decode(p.core.record.RawSample, s)
}

// EndSamples makes ReadSample return what is in the ring, and then os.ErrClosed.
func (p *Probe) EndSamples() error {
	if p.core == nil {
		return nil
	}
	return p.core.ring.Flush()
}

func decode(raw []byte, s *Sample) error {
	var r programSample
	if len(raw) < sampleSize {
		return fmt.Errorf("decode a sample: %d bytes instead of %d", len(raw), sampleSize)
	}
	if _, err := binary.Decode(raw, binary.NativeEndian, &r); err != nil {
		return fmt.Errorf("decode a sample: %w", err)
	}
	*s = Sample{
		Boot:     time.Duration(r.TimeNs),
		Cookie:   r.Cookie,
		Inode:    uint64(r.Inum),
		Alone:    programKind(r.Kind) == programKindKIND_DROP_ALONE,
		Inferred: r.Flags&1 != 0,
		Cause:    causeOf(programKind(r.Kind)),
		Proto:    r.Proto,
		Src:      address(r.Family, r.Src),
		Dst:      address(r.Family, r.Dst),
		Sport:    networkOrder(r.Sport),
		Dport:    networkOrder(r.Dport),
		Hook:     hookName(r.Hook),
	}
	name, _, _ := bytes.Cut(r.Ifname[:], []byte{0})
	s.Ifname = string(name)
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
