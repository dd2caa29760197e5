package lab

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// message is a message of a netfilter subsystem: struct nlmsghdr, struct nfgenmsg, attributes.
type message []byte

func newMessage(kind, flags uint16, family byte, resource uint16) message {
	m := make(message, unix.SizeofNlMsghdr, 256)
	binary.NativeEndian.PutUint16(m[4:], kind)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|flags)
	m = append(m, family, unix.NFNETLINK_V0)
	return binary.BigEndian.AppendUint16(m, resource)
}

// attr appends an attribute and returns where its value is.
func (m *message) attr(kind uint16, value []byte) int {
	*m = binary.NativeEndian.AppendUint16(*m, uint16(unix.SizeofNlAttr+len(value)))
	*m = binary.NativeEndian.AppendUint16(*m, kind)
	at := len(*m)
	*m = append(*m, value...)
	for len(*m)%unix.NLMSG_ALIGNTO != 0 {
		*m = append(*m, 0)
	}
	return at
}

func (m *message) bytes(kind uint16, value ...byte) int { return m.attr(kind, value) }

func (m *message) be16(kind, value uint16) int {
	return m.attr(kind, binary.BigEndian.AppendUint16(nil, value))
}

func (m *message) be32(kind uint16, value uint32) int {
	return m.attr(kind, binary.BigEndian.AppendUint32(nil, value))
}

// nest begins an attribute of attributes; end ends the one that began there.
func (m *message) nest(kind uint16) (at int) { return m.attr(kind|unix.NLA_F_NESTED, nil) }

func (m *message) end(at int) {
	at -= unix.SizeofNlAttr
	binary.NativeEndian.PutUint16((*m)[at:], uint16(len(*m)-at))
}

// attributes calls f with each attribute of b.
func attributes(b []byte, f func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofNlAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofNlAttr || size > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED, b[unix.SizeofNlAttr:size])
		b = b[min(len(b), (size+3)&^3):]
	}
}

// netfilterConn is a NETLINK_NETFILTER socket for many messages at once: a batch is one system call, and one
// acknowledgement says that all of it has been carried out. Errors of single messages come before it.
type netfilterConn struct {
	fd    int
	batch []byte
	last  int // where the batch's last message is
	reply []byte
	seq   uint32
}

// dialNetfilter opens a socket that belongs to the namespace.
func (n *Namespace) dialNetfilter() (*netfilterConn, error) {
	c := &netfilterConn{reply: make([]byte, 1<<18)}
	err := n.Do(func() (err error) {
		c.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open netfilter socket: %w", err)
	}
	for _, o := range []struct{ level, option, value int }{
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 1 << 21},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1 << 26},
		{unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1},
	} {
		if err := unix.SetsockoptInt(c.fd, o.level, o.option, o.value); err != nil {
			unix.Close(c.fd)
			return nil, fmt.Errorf("set netfilter socket's option %d: %w", o.option, err)
		}
	}
	// A receive that finds nothing for so long has lost something: better an error than to wait forever.
	wait := unix.NsecToTimeval(settle.Nanoseconds())
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		unix.Close(c.fd)
		return nil, fmt.Errorf("set netfilter socket's timeout: %w", err)
	}
	return c, nil
}

// add adds a message to the batch.
func (c *netfilterConn) add(m message) {
	c.last = len(c.batch)
	c.batch = append(c.batch, m...)
	binary.NativeEndian.PutUint32(c.batch[c.last:], uint32(len(m)))
}

// send sends the batch and begins another.
func (c *netfilterConn) send() error {
	c.seq++
	binary.NativeEndian.PutUint32(c.batch[c.last+8:], c.seq)
	err := unix.Sendto(c.fd, c.batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	c.batch = c.batch[:0]
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// flush sends the batch and waits until it has been carried out. It returns the first error, and passes over
// what else is received.
func (c *netfilterConn) flush() error {
	header := c.batch[c.last:]
	flags := binary.NativeEndian.Uint16(header[6:])
	binary.NativeEndian.PutUint16(header[6:], flags|unix.NLM_F_ACK)
	if err := c.send(); err != nil {
		return err
	}
	var first error
	for done := false; !done; {
		err := c.receive(func(kind uint16, seq uint32, body []byte) {
			if kind != unix.NLMSG_ERROR {
				return
			}
			if errno := int32(binary.NativeEndian.Uint32(body)); errno != 0 && first == nil {
				first = unix.Errno(-errno)
			}
			done = done || seq == c.seq
		})
		if err != nil {
			return err
		}
	}
	return first
}

// receive waits for messages and calls f with each.
func (c *netfilterConn) receive(f func(kind uint16, seq uint32, body []byte)) error {
	for {
		size, _, err := unix.Recvfrom(c.fd, c.reply, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		for b := c.reply[:size]; len(b) >= unix.SizeofNlMsghdr+4; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr+4 || size > len(b) {
				return fmt.Errorf("receive: message of %d bytes in %d", size, len(b))
			}
			f(binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:]), b[unix.SizeofNlMsghdr:size])
			b = b[min(len(b), (size+3)&^3):]
		}
		return nil
	}
}

// Close closes the socket.
func (c *netfilterConn) Close() error { return unix.Close(c.fd) }
