package lab

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is how many frames a system call injects.
const batch = 64

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// Inject sends frames from e, past its namespace's own IP, so that they arrive at the peer's PREROUTING. It
// returns when all have been through the peer's hooks; that all arrived there is checked, and an error if not.
// Refused are those which arrived and were neither delivered nor sent on, as [Namespace.Counts] has it: the
// firewall's own drops are among them, if there are any. Nobody else may send the lab's packets into or from
// the peer's namespace meanwhile.
//
// A thread on each CPU sends to a veth that delivers on the same CPU, so each packet meets the conntrack counters
// of the CPU that sent it. Frames for which the CPU's backlog has no room (net.core.netdev_max_backlog) are
// sent again.
func (e *End) Inject(ctx context.Context, t Traffic) (Sent, error) {
	sent, err := e.inject(ctx, t)
	if err != nil {
		return sent, fmt.Errorf("inject packets into %s: %w", e.peer.Namespace.Name, err)
	}
	return sent, nil
}

func (e *End) inject(ctx context.Context, t Traffic) (Sent, error) {
	shares, err := e.shares(t)
	if err != nil {
		return Sent{}, err
	}
	before, err := e.peer.Namespace.Counts()
	if err != nil {
		return Sent{}, err
	}
	sent, err := e.run(shares, func(s share) (Sent, error) { return e.injectShare(ctx, s) })
	if err != nil {
		return sent, err
	}
	var seen Counts
	err = await(ctx, "frames", func() (bool, error) {
		now, err := e.peer.Namespace.Counts()
		seen = now.Sub(before)
		return seen.Arrived >= sent.Packets, err
	})
	if err != nil || seen.Arrived != sent.Packets {
		return sent, errors.Join(fmt.Errorf("%d frames sent, %d arrived", sent.Packets, seen.Arrived), err)
	}
	sent.Refused = seen.Arrived - seen.Delivered - seen.Left
	return sent, nil
}

// injectShare sends one CPU's frames, from the thread it is called on.
func (e *End) injectShare(ctx context.Context, s share) (sent Sent, err error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sent, err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: e.Index}); err != nil {
		return sent, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return sent, err
	}
	var (
		frames   [batch]*frame
		iovecs   [batch]unix.Iovec
		messages [batch]mmsghdr
	)
	// Kinds come in turn, so each place of a batch has the same kind every time if the batch is full.
	size := batch / len(s.Kinds) * len(s.Kinds)
	for i := range size {
		frames[i] = e.newFrame(s.To, s.Kinds[i%len(s.Kinds)], s.Port)
		if s.Spread {
			frames[i].spread()
		}
		iovecs[i].Base = &frames[i].bytes[0]
		iovecs[i].SetLen(len(frames[i].bytes))
		messages[i].hdr.Iov = &iovecs[i]
		messages[i].hdr.SetIovlen(1)
	}
	for done := 0; done < s.Packets; {
		if err := ctx.Err(); err != nil {
			return sent, err
		}
		n := min(size, s.Packets-done)
		for i := range n {
			frames[i].set(s.flow(done + i))
		}
		if err := sendAll(fd, messages[:n]); err != nil {
			return sent, err
		}
		done += n
		sent.Packets += uint64(n)
	}
	runtime.KeepAlive(frames)
	return sent, nil
}

// sendAll sends every message, however often it takes.
func sendAll(fd int, messages []mmsghdr) error {
	for len(messages) > 0 {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[0])), uintptr(len(messages)), 0, 0, 0)
		switch {
		case errno == 0:
			messages = messages[n:]
		case errors.Is(errno, unix.ENOBUFS):
			// The first was dropped for want of room in the backlog: let the softirq thread run.
			yield()
		case errors.Is(errno, unix.EINTR):
		default:
			return fmt.Errorf("sendmmsg: %w", errno)
		}
	}
	return nil
}
