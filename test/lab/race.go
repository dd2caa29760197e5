package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"golang.org/x/sys/unix"
)

// helperModule is a module whose unloading makes the kernel go through all entries (nf_ct_iterate_destroy), for one may
// have a helper of it.
const helperModule = "nf_conntrack_tftp"

// Race has connection tracking refuse n packets, at most 65536, because their entries are not fit any more when they are
// to be confirmed: the packets are held, and meanwhile a helper's module is unloaded, at which every entry that is in no
// table yet becomes dying (before Linux 5.19) or has stale extensions (until 7.0, and 6.12.106). Newer kernels refuse none.
// Refused is what did not arrive at the peer. The namespace masquerades from then on, and the peer is muted.
//
// errors.ErrUnsupported means that there is no such module.
func (e *End) Race(ctx context.Context, k Kind, n int) (Sent, error) {
	if err := exec.Command("modprobe", helperModule).Run(); err != nil {
		return Sent{}, fmt.Errorf("load %s: %w: %w", helperModule, err, errors.ErrUnsupported)
	}
	// With an extension to grow stale.
	if err := e.Namespace.Masquerade(); err != nil {
		return Sent{}, err
	}
	first := e.link.take(n)
	var packets []heldPacket
	for i := range n {
		packets = append(packets, heldPacket{from: e, flow: first + flow(i)})
	}
	sent, err := e.holdAndRelease(ctx, k, packets, func() error { return unix.DeleteModule(helperModule, 0) })
	if err != nil {
		return sent, fmt.Errorf("provoke races in %s: %w", e.Namespace.Name, err)
	}
	sent.Flow = uint32(first)
	return sent, nil
}
