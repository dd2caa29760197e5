package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Message types and attributes of include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	typeStatsCPU = unix.NFNL_SUBSYS_CTNETLINK<<8 | 4 // IPCTNL_MSG_CT_GET_STATS_CPU
	typeStats    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 5 // IPCTNL_MSG_CT_GET_STATS

	attrGlobalEntries    = 1 // CTA_STATS_GLOBAL_ENTRIES
	attrGlobalMaxEntries = 2 // CTA_STATS_GLOBAL_MAX_ENTRIES, since 4.18

	sizeNfgenmsg = 4 // family u8, version u8, res_id be16
)

// counterOfAttr is enum ctattr_stats_cpu. The attributes left out (searched, new, ignore, delete, delete_list) are
// gone from today's kernels.
func counterOfAttr(attr uint16) (Counter, bool) {
	switch attr {
	case 2:
		return CounterFound, true
	case 4:
		return CounterInvalid, true
	case 8:
		return CounterInsert, true
	case 9:
		return CounterInsertFailed, true
	case 10:
		return CounterDrop, true
	case 11:
		return CounterEarlyDrop, true
	case 12:
		return CounterError, true
	case 13:
		return CounterSearchRestart, true
	case 14:
		return CounterClashResolve, true
	case 15:
		return CounterChainTooLong, true
	}
	return 0, false
}

var (
	errShortMessage = errors.New("message is cut short")
	errShortAttr    = errors.New("attribute is cut short")
)

// answer gathers the kernel's replies to our requests, whatever pieces they come in.
type answer struct {
	snap   *Snapshot
	hasMax bool
	done   bool // the per-CPU dump has ended
}

// parse takes what one read of the socket gave: whole netlink messages.
func (a *answer) parse(b []byte) error {
	for len(b) >= unix.SizeofNlMsghdr {
		size := binary.NativeEndian.Uint32(b)
		kind := binary.NativeEndian.Uint16(b[4:])
		if size < unix.SizeofNlMsghdr || uint64(size) > uint64(len(b)) {
			return errShortMessage
		}
		if err := a.message(kind, b[unix.SizeofNlMsghdr:size]); err != nil {
			return err
		}
		b = b[min(align4(int(size)), len(b)):]
	}
	if len(b) > 0 {
		return errShortMessage
	}
	return nil
}

func (a *answer) message(kind uint16, body []byte) error {
	switch kind {
	case unix.NLMSG_ERROR, unix.NLMSG_DONE:
		a.done = kind == unix.NLMSG_DONE
		if len(body) < 4 {
			return errShortMessage
		}
		if errno := -int32(binary.NativeEndian.Uint32(body)); errno != 0 {
			return unix.Errno(errno)
		}
		return nil
	case unix.NLMSG_OVERRUN:
		return unix.ENOBUFS
	case typeStats, typeStatsCPU:
		if len(body) < sizeNfgenmsg {
			return errShortMessage
		}
		if kind == typeStats {
			return a.stats(body[sizeNfgenmsg:])
		}
		return a.statsCPU(int(binary.BigEndian.Uint16(body[2:])), body[sizeNfgenmsg:])
	}
	return nil
}

func (a *answer) stats(attrs []byte) error {
	return eachUint32(attrs, func(attr uint16, v uint32) {
		switch attr {
		case attrGlobalEntries:
			a.snap.Count = uint64(v)
		case attrGlobalMaxEntries:
			a.snap.Max, a.hasMax = uint64(v), true
		}
	})
}

func (a *answer) statsCPU(n int, attrs []byte) error {
	row := a.snap.cpu(n)
	return eachUint32(attrs, func(attr uint16, v uint32) {
		if c, ok := counterOfAttr(attr); ok {
			row[c] = v
			a.snap.Known.add(c)
		}
	})
}

// eachUint32 calls f for each attribute that holds a big-endian 32-bit number; others are for newer programs.
func eachUint32(b []byte, f func(attr uint16, v uint32)) error {
	for len(b) >= unix.SizeofNlAttr {
		size := int(binary.NativeEndian.Uint16(b))
		attr := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		if size < unix.SizeofNlAttr || size > len(b) {
			return fmt.Errorf("%w: type %d, %d bytes of %d", errShortAttr, attr, size, len(b))
		}
		if size == unix.SizeofNlAttr+4 {
			f(attr, binary.BigEndian.Uint32(b[unix.SizeofNlAttr:]))
		}
		b = b[min(align4(size), len(b)):]
	}
	if len(b) > 0 {
		return errShortAttr
	}
	return nil
}

func align4(n int) int { return (n + 3) &^ 3 }
