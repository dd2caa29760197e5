// Package census finds out who fills the conntrack table of a network namespace: one bounded walk of the table, counted
// as it goes by, in memory that does not grow with the table.
package census

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// ErrWouldLoad is why a table was not walked on a machine where that would load a module.
var ErrWouldLoad = errors.New("nf_conntrack_netlink is not loaded, and would hold nf_conntrack if it were")

// Chunk is how many bytes the kernel fills at a read: it holds up the CPU's soft interrupts until then. In a full table that
// takes 75 us. 32 KiB, the most that it would fill, takes 300 us and makes a walk faster by less than 2 %.
//
// No other pace is kept. What packets wait for is done after each chunk, and bucket locks are held for one bucket at a
// time. Beside a flood of new connections on the same CPUs a walk without a pause takes from their rate what any busy
// thread takes, no more (measured on 6.18, 2 CPUs): so it is the limit that makes it short.
const Chunk = 8 << 10

// chunkEntries is how many entries are in a chunk, about.
const chunkEntries = 40

// Walked says how a walk went.
type Walked struct {
	Entries     uint64
	Complete    bool // the kernel said that this was all
	Interrupted bool // the kernel said that the table was changed so that some may be missing or double
}

// Walk calls visit with each entry in the table of the calling thread's namespace, or with the first limit ones (0 is no
// limit): the order is that of a hash with a random key, so those are a uniform sample. The entry is visit's until it
// returns. Expired entries that are still in the table the kernel does not tell, but removes as it comes across them.
//
// root is where proc and sys are; "" is the machine's own. While connection tracking is not loaded the error is
// conntrack.ErrNotLoaded; where only ctnetlink is not, ErrWouldLoad. It takes CAP_NET_ADMIN in the namespace.
//
// The socket is a raw one of the walk's own, for the reasons that internal/conntrack gives; closing it ends the dump.
// The kernel has the first chunk ready when write returns, and makes the next one inside read: there is nothing to wait
// for, and the socket does not block.
func Walk(ctx context.Context, root string, limit uint64, visit func(*Entry)) (Walked, error) {
	if err := ready(root, false); err != nil {
		return Walked{}, err
	}
	return walk(ctx, limit, visit)
}

func walk(ctx context.Context, limit uint64, visit func(*Entry)) (Walked, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return Walked{}, fmt.Errorf("open ctnetlink: %w", err)
	}
	defer unix.Close(fd)
	// Connected to the kernel (port 0), the socket takes messages from nobody else.
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return Walked{}, fmt.Errorf("connect ctnetlink: %w", err)
	}
	request := request()
	if _, err := unix.Write(fd, request[:]); err != nil {
		return Walked{}, fmt.Errorf("ask ctnetlink: %w", err)
	}
	d := dump{limit: limit, visit: visit}
	buf := make([]byte, Chunk)
	for !d.over() {
		if err := ctx.Err(); err != nil {
			return d.Walked, err
		}
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return d.Walked, fmt.Errorf("read ctnetlink: %w", err)
		}
		if err := d.parse(buf[:n]); errors.Is(err, unix.EPERM) {
			return d.Walked, fmt.Errorf("dump by ctnetlink needs CAP_NET_ADMIN: %w", err)
		} else if err != nil {
			return d.Walked, fmt.Errorf("read ctnetlink: %w", err)
		}
	}
	return d.Walked, nil
}

// ready returns why ctnetlink must not be asked: opening its socket makes the kernel load modules. nf_conntrack_netlink
// then holds nf_conntrack against `modprobe -r`; where conntrack is part of the kernel there is nothing to be held. load: it
// may be asked all the same.
func ready(root string, load bool) error {
	if !conntrack.Loaded(root) {
		return conntrack.ErrNotLoaded
	}
	if !load && WouldLoad(root) {
		return ErrWouldLoad
	}
	return nil
}

// WouldLoad reports whether a walk would make the kernel load nf_conntrack_netlink, and hold nf_conntrack by it.
func WouldLoad(root string) bool {
	netlink := filepath.Join(cmp.Or(root, "/"), "sys/module/nf_conntrack_netlink")
	return conntrack.IsModule(root) && unix.Access(netlink, unix.F_OK) != nil
}
