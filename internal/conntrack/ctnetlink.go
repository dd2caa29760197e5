package conntrack

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// readNetlink asks ctnetlink, in the calling thread's namespace, over a socket of its own.
//
// An open socket pins the namespace that it was made in, so none is kept. It is a raw one because mdlayher/netlink waits
// for ever for the end of GET_STATS, whose one message the kernel marks NLM_F_MULTI and follows with no NLMSG_DONE, and
// because a socket that lives for two requests costs there five times as much (registered with the runtime's poller,
// each message copied). The kernel answers a request before write returns and goes on with a dump inside read: there is
// nothing to wait for, and the socket does not block.
func (r *Reader) readNetlink(s *Snapshot) error {
	if r.wouldLoad() {
		return errWouldLoad
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open ctnetlink: %w", err)
	}
	defer unix.Close(fd)
	s.Cookie = cookieOf(fd)
	// Connected to the kernel (port 0), the socket takes messages from nobody else.
	if err := unix.Connect(fd, &r.kernel); err != nil {
		return fmt.Errorf("connect ctnetlink: %w", err)
	}
	a := answer{snap: s}
	if err := r.ask(fd, &a, r.requests); err != nil {
		return err
	}
	for pass := 1; r.moved(s) && pass < maxPasses; pass++ {
		if err := r.ask(fd, &a, r.requests[requestSize:]); err != nil {
			return err
		}
	}
	if a.hasMax {
		return nil
	}
	return r.readMax(s)
}

// ask sends requests in one write and reads until the last of them, the per-CPU dump, has ended.
func (r *Reader) ask(fd int, a *answer, requests []byte) error {
	if _, err := unix.Write(fd, requests); err != nil {
		return fmt.Errorf("ask ctnetlink: %w", err)
	}
	for a.done = false; !a.done; {
		n, err := unix.Read(fd, r.buf)
		if err != nil {
			return fmt.Errorf("read ctnetlink: %w", err)
		}
		if err := a.parse(r.buf[:n]); err != nil {
			return fmt.Errorf("read ctnetlink: %w", err)
		}
	}
	return nil
}

const requestSize = unix.SizeofNlMsghdr + sizeNfgenmsg

// statsRequests returns the two requests that make a snapshot, GET_STATS and then the dump GET_STATS_CPU.
func statsRequests() []byte {
	b := make([]byte, 2*requestSize) // sequence, port and nfgenmsg stay 0: any family, version NFNETLINK_V0
	for i, kind := range []uint16{typeStats, typeStatsCPU} {
		header := b[i*requestSize:]
		binary.NativeEndian.PutUint32(header, requestSize)
		binary.NativeEndian.PutUint16(header[4:], kind)
		binary.NativeEndian.PutUint16(header[6:], unix.NLM_F_REQUEST)
	}
	binary.NativeEndian.PutUint16(b[requestSize+6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	return b
}

// wouldLoad reports whether asking ctnetlink would load nf_conntrack_netlink, which holds nf_conntrack against
// `modprobe -r`, while /proc tells the same.
func (r *Reader) wouldLoad() bool {
	return !r.builtin && !exists(r.netlinkModule) && exists(r.statPath)
}

// cookie returns the cookie of the calling thread's namespace, 0 where the kernel has none (before 5.14).
func cookie() uint64 {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	return cookieOf(fd)
}

// cookieOf returns the cookie of the namespace that a socket was opened in.
func cookieOf(fd int) uint64 {
	v, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return v
}
