package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rampPort is the port that a ramp's server answers at: echo.
const rampPort = 7

// openWire opens a socket that sends frames over an interface of the thread's namespace, and receives what arrives
// there, of one protocol, in network order; 0 is none.
func openWire(index int, protocol uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	wait := unix.NsecToTimeval((20 * time.Millisecond).Nanoseconds())
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<28),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index, Protocol: protocol}),
	)
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	return fd, nil
}

// tap is a machine at the end of a wire: it looks at what arrives, notes of which connection it is, and answers.
type tap struct {
	serves bool // it answers what begins a connection, rather than what comes back
	mute   bool // it answers nothing

	fd      int
	first   flow
	count   int
	seen    flows         // those of which something arrived
	handled atomic.Uint64 // packets, with their answers
	stop    atomic.Bool
	arrived uint64 // packets, by the socket
}

func newTap(e *End, first flow, count int) (*tap, error) {
	t := &tap{first: first, count: count, seen: newFlows(count)}
	err := e.Namespace.Do(func() (err error) {
		t.fd, err = openWire(e.Index, binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
		return err
	})
	return t, err
}

// run answers until it is stopped.
func (t *tap) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	in, out := newReader(batch), newWriter(batch)
	for {
		frames, err := in.read(t.fd)
		if err != nil {
			return err
		}
		if len(frames) == 0 {
			if t.stop.Load() {
				return nil
			}
			continue
		}
		out.clear()
		for _, f := range frames {
			if t.take(f) {
				out.add(f)
			}
		}
		if err := out.flush(t.fd); err != nil {
			return err
		}
		t.handled.Add(uint64(len(frames)))
	}
}

// take notes a frame and makes an answer of it, if it is to be answered.
func (t *tap) take(f []byte) bool {
	p, ok := parseFrame(f)
	if !ok {
		return false
	}
	host, port := p.destination(), p.source()
	if !t.serves {
		host, port = p.addressLow(), p.targetPort()
	}
	i := int(flow(port-firstPort)*hosts+flow(host&(hostsPerEnd-1))-1) - int(t.first)
	if i < 0 || i >= t.count {
		return false
	}
	t.seen.add(i)
	return !t.mute && p.answer(t.serves)
}

// idle reports whether all that arrived has been handled. It is an error if the socket had no room for something.
func (t *tap) idle() (bool, error) {
	var stats unix.TpacketStats
	size := uint32(unsafe.Sizeof(stats))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(t.fd), unix.SOL_PACKET, unix.PACKET_STATISTICS,
		uintptr(unsafe.Pointer(&stats)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return false, fmt.Errorf("read packet socket's statistics: %w", errno)
	}
	if stats.Drops > 0 {
		return false, fmt.Errorf("%d packets had no room in the receiver's buffer", stats.Drops)
	}
	t.arrived += uint64(stats.Packets) // since the last look
	return t.handled.Load() == t.arrived, nil
}

// Close closes the socket.
func (t *tap) Close() error { return unix.Close(t.fd) }

// writer sends frames, up to as many as it was made for in one system call.
type writer struct {
	iovecs   []unix.Iovec
	messages []mmsghdr
}

func newWriter(size int) *writer {
	w := &writer{make([]unix.Iovec, size), make([]mmsghdr, 0, size)}
	return w
}

func (w *writer) clear() { w.messages = w.messages[:0] }

// add adds a frame, whose bytes are read when flush is called.
func (w *writer) add(frame []byte) {
	i := len(w.messages)
	w.iovecs[i].Base = &frame[0]
	w.iovecs[i].SetLen(len(frame))
	w.messages = append(w.messages, mmsghdr{})
	w.messages[i].hdr.Iov = &w.iovecs[i]
	w.messages[i].hdr.SetIovlen(1)
}

func (w *writer) flush(fd int) error { return sendAll(fd, w.messages) }

// reader receives frames, up to as many as it was made for in one system call.
type reader struct {
	buffers  [][2048]byte
	iovecs   []unix.Iovec
	messages []mmsghdr
	frames   [][]byte
}

func newReader(size int) *reader {
	r := &reader{make([][2048]byte, size), make([]unix.Iovec, size), make([]mmsghdr, size), make([][]byte, 0, size)}
	for i := range r.buffers {
		r.iovecs[i].Base = &r.buffers[i][0]
		r.iovecs[i].SetLen(len(r.buffers[i]))
		r.messages[i].hdr.Iov = &r.iovecs[i]
		r.messages[i].hdr.SetIovlen(1)
	}
	return r
}

// read waits for a frame, for as long as the socket does, and returns it with what else is there.
func (r *reader) read(fd int) ([][]byte, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.messages[0])), uintptr(len(r.messages)),
		unix.MSG_WAITFORONE, 0, 0)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR:
		return nil, nil
	default:
		return nil, fmt.Errorf("recvmmsg: %w", errno)
	}
	r.frames = r.frames[:0]
	for i := range n {
		r.frames = append(r.frames, r.buffers[i][:r.messages[i].len])
	}
	return r.frames, nil
}
