package census

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

const (
	typeNew = unix.NFNL_SUBSYS_CTNETLINK << 8   // IPCTNL_MSG_CT_NEW: what a dump consists of
	typeGet = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET

	sizeNfgenmsg = 4 // family u8, version u8, res_id be16
	sizeRequest  = unix.SizeofNlMsghdr + sizeNfgenmsg
)

var errShortMessage = errors.New("message is cut short")

// request returns the request for a dump of the whole table, whatever the family.
func request() (b [sizeRequest]byte) {
	binary.NativeEndian.PutUint32(b[:], sizeRequest)
	binary.NativeEndian.PutUint16(b[4:], typeGet)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	return b
}

// dump takes the kernel's answer, chunk by chunk.
type dump struct {
	limit uint64 // 0 is none
	visit func(*Entry)
	entry Entry // the one at hand
	Walked
}

// parse takes what one read of the socket gave: whole netlink messages. It stops at the limit.
func (d *dump) parse(b []byte) error {
	for len(b) > 0 && !d.over() {
		if len(b) < unix.SizeofNlMsghdr {
			return errShortMessage
		}
		size := binary.NativeEndian.Uint32(b)
		if size < unix.SizeofNlMsghdr || uint64(size) > uint64(len(b)) {
			return errShortMessage
		}
		kind, flags := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
		d.Interrupted = d.Interrupted || flags&unix.NLM_F_DUMP_INTR != 0
		if err := d.message(kind, b[unix.SizeofNlMsghdr:size]); err != nil {
			return err
		}
		b = b[min(align4(int(size)), len(b)):]
	}
	return nil
}

func (d *dump) message(kind uint16, body []byte) error {
	switch kind {
	case typeNew:
		if len(body) < sizeNfgenmsg {
			return errShortMessage
		}
		if err := d.entry.parse(body[sizeNfgenmsg:]); err != nil {
			return err
		}
		d.Entries++
		d.visit(&d.entry)
	case unix.NLMSG_ERROR, unix.NLMSG_DONE:
		if len(body) < 4 {
			return errShortMessage
		}
		if errno := -int32(binary.NativeEndian.Uint32(body)); errno != 0 {
			return unix.Errno(errno)
		}
		d.Complete = d.Complete || kind == unix.NLMSG_DONE
	case unix.NLMSG_OVERRUN:
		return unix.ENOBUFS
	}
	return nil
}

// over reports whether there is nothing more to read.
func (d *dump) over() bool { return d.Complete || d.limit > 0 && d.Entries >= d.limit }
