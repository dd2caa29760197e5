package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Send sends packets from sockets in e's namespace to the peer. Refused are those for which the system call failed
// with EPERM, which is what it says when a hook of netfilter drops the packet, on the way out or at confirm: the
// firewall's own drops are among them, if there are any. When it returns, the rest has arrived.
//
// UDP goes through UDP sockets, the rest through raw ones.
func (e *End) Send(ctx context.Context, t Traffic) (Sent, error) {
	shares, err := e.shares(t)
	if err != nil {
		return Sent{}, err
	}
	sent, err := e.run(shares, func(s share) (Sent, error) { return e.sendShare(ctx, s) })
	if err != nil {
		return sent, fmt.Errorf("send packets from %s: %w", e.Namespace.Name, err)
	}
	return sent, nil
}

// sender sends the first packet of a flow; errno is the system call's.
type sender interface {
	send(flow) unix.Errno
	Close() error
}

// sendShare sends one CPU's packets, from the thread it is called on.
func (e *End) sendShare(ctx context.Context, s share) (sent Sent, err error) {
	var senders []sender
	defer func() {
		for _, s := range senders {
			s.Close()
		}
	}()
	for _, k := range s.Kinds {
		open := e.newRawSender
		if k.proto() == unix.IPPROTO_UDP {
			open = e.newUDPSender
		}
		one, err := open(s.To, k, s.Port)
		if err != nil {
			return sent, err
		}
		senders = append(senders, one)
	}
	for i := range s.Packets {
		if i%batch == 0 && ctx.Err() != nil {
			return sent, ctx.Err()
		}
		refused, err := sendOne(senders[i%len(senders)], s.flow(i))
		if err != nil {
			return sent, err
		}
		sent.Packets++
		if refused {
			sent.Refused++
		}
	}
	return sent, nil
}

// sendOne sends one packet, once.
func sendOne(to sender, f flow) (refused bool, err error) {
	for {
		switch errno := to.send(f); errno {
		case 0:
			return false, nil
		case unix.EPERM:
			return true, nil
		case unix.EINTR:
		case unix.ENOBUFS:
			// Past connection tracking, and then dropped for want of room in the receiver's backlog.
			yield()
		case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EACCES:
			// What an earlier packet met: this one has not been sent.
		default:
			return false, fmt.Errorf("sendto: %w", errno)
		}
	}
}

// rawSender sends ready-made packets.
type rawSender struct {
	fd    int
	frame *frame
}

func (e *End) newRawSender(to *End, k Kind, port uint16) (sender, error) {
	domain, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: to.Addr4.As4()})
	if k.v6() {
		domain, addr = unix.AF_INET6, &unix.SockaddrInet6{Addr: to.Addr6.As16()}
	}
	fd, err := openSender(domain, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	// The route is the main address's; the packet's own address is another.
	if err := unix.Connect(fd, addr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect raw socket: %w", err)
	}
	return &rawSender{fd: fd, frame: e.newFrame(to, k, port)}, nil
}

func (s *rawSender) send(f flow) unix.Errno {
	s.frame.set(f)
	p := s.frame.packet()
	_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0, 0, 0)
	return errno
}

func (s *rawSender) Close() error { return unix.Close(s.fd) }

// udpSender sends datagrams from a socket that it opens anew for each source port.
type udpSender struct {
	end     *End
	kind    Kind
	fd      int
	port    uint16 // the source port fd is bound to
	payload [payloadLen]byte
	to      [unix.SizeofSockaddrInet6]byte // struct sockaddr_in or sockaddr_in6
	toLen   int
	toLow   int // where the low 16 bits of the address are
	toBits  uint16
}

func (e *End) newUDPSender(to *End, k Kind, port uint16) (sender, error) {
	s := &udpSender{end: e, kind: k, fd: -1}
	binary.BigEndian.PutUint16(s.to[2:], port)
	if k.v6() {
		binary.NativeEndian.PutUint16(s.to[:], unix.AF_INET6)
		copy(s.to[8:], to.half6.Addr().AsSlice())
		s.toLen, s.toLow = unix.SizeofSockaddrInet6, 22
	} else {
		binary.NativeEndian.PutUint16(s.to[:], unix.AF_INET)
		copy(s.to[4:], to.half4.Addr().AsSlice())
		s.toLen, s.toLow = unix.SizeofSockaddrInet4, 6
	}
	s.toBits = binary.BigEndian.Uint16(s.to[s.toLow:])
	return s, nil
}

func (s *udpSender) send(f flow) unix.Errno {
	if s.port != f.port() {
		if errno := s.bind(f.port()); errno != 0 {
			return errno
		}
	}
	binary.BigEndian.PutUint16(s.to[s.toLow:], s.toBits|f.host())
	_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&s.payload)), payloadLen, 0,
		uintptr(unsafe.Pointer(&s.to)), uintptr(s.toLen))
	return errno
}

// bind opens a socket with a source port, which other senders may share.
func (s *udpSender) bind(port uint16) unix.Errno {
	s.Close()
	domain, from := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: s.end.Addr4.As4(), Port: int(port)})
	if s.kind.v6() {
		domain, from = unix.AF_INET6, &unix.SockaddrInet6{Addr: s.end.Addr6.As16(), Port: int(port)}
	}
	var err error
	if s.fd, err = openSender(domain, unix.SOCK_DGRAM, 0); err == nil {
		err = unix.Bind(s.fd, from)
	}
	var errno unix.Errno
	if err != nil && errors.As(err, &errno) {
		return errno
	}
	s.port = port
	return 0
}

func (s *udpSender) Close() error {
	if s.fd < 0 {
		return nil
	}
	fd := s.fd
	s.fd = -1
	return unix.Close(fd)
}

// openSender opens a socket whose packets carry the lab's TTL, and which reports a packet lost behind connection
// tracking instead of passing over it (IP_RECVERR).
func openSender(domain, kind, protocol int) (int, error) {
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, err
	}
	level, recvErr, ttl := unix.IPPROTO_IP, unix.IP_RECVERR, unix.IP_TTL
	if domain == unix.AF_INET6 {
		level, recvErr, ttl = unix.IPPROTO_IPV6, unix.IPV6_RECVERR, unix.IPV6_UNICAST_HOPS
	}
	for _, o := range []struct{ level, option, value int }{
		{level, recvErr, 1}, {level, ttl, labTTL}, {unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 1 << 28}, // for what is held in a queue
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.option, o.value); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}
