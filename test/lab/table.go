package lab

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Entries says what is in a namespace's table.
type Entries struct {
	Total   uint64
	Replied uint64 // those with IPS_SEEN_REPLY
	Assured uint64 // those with IPS_ASSURED, which early_drop does not evict
}

// Count is the number of entries in the namespace's table, expired ones that nobody has looked up included.
func (n *Namespace) Count() (count uint64, err error) {
	err = n.Do(func() error {
		count, err = readLimit("nf_conntrack_count")
		return err
	})
	return count, err
}

// Entries reads the whole table. Expired entries are not in it.
func (n *Namespace) Entries() (e Entries, err error) {
	conn, err := n.dialNetfilter()
	if err != nil {
		return e, err
	}
	defer conn.Close()
	conn.add(newMessage(ctGet, unix.NLM_F_DUMP, unix.AF_UNSPEC, 0))
	if err := conn.send(); err != nil {
		return e, fmt.Errorf("dump table of %s: %w", n.Name, err)
	}
	var failed error
	for done := false; !done; {
		err := conn.receive(func(kind uint16, _ uint32, body []byte) {
			switch kind {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				done = true
				if errno := int32(binary.NativeEndian.Uint32(body)); errno != 0 {
					failed = unix.Errno(-errno)
				}
			case ctNew:
				e.Total++
				attributes(body[4:], func(kind uint16, value []byte) {
					if kind != ctaStatus || len(value) != 4 {
						return
					}
					status := binary.BigEndian.Uint32(value)
					if status&ipsSeenReply != 0 {
						e.Replied++
					}
					if status&ipsAssured != 0 {
						e.Assured++
					}
				})
			}
		})
		if err != nil {
			return e, fmt.Errorf("dump table of %s: %w", n.Name, err)
		}
	}
	if failed != nil {
		return e, fmt.Errorf("dump table of %s: %w", n.Name, failed)
	}
	return e, nil
}

// Flush empties the namespace's table.
func (n *Namespace) Flush() error {
	conn, err := n.dialNetfilter()
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.add(newMessage(ctDelete, 0, unix.AF_UNSPEC, 0))
	if err := conn.flush(); err != nil {
		return fmt.Errorf("flush table of %s: %w", n.Name, err)
	}
	return nil
}
