package census

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

var (
	errShortAttr = errors.New("attribute is cut short")
	errSize      = errors.New("attribute has another size than expected")
)

// cut takes the first attribute off b.
func cut(b []byte) (kind uint16, value, rest []byte, err error) {
	if len(b) < unix.SizeofNlAttr {
		return 0, nil, nil, errShortAttr
	}
	size := int(binary.NativeEndian.Uint16(b))
	kind = binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
	if size < unix.SizeofNlAttr || size > len(b) {
		return kind, nil, nil, errShortAttr
	}
	return kind, b[unix.SizeofNlAttr:size], b[min(align4(size), len(b)):], nil
}

func align4(n int) int { return (n + 3) &^ 3 }

func u8(b []byte, v *uint8) error {
	if len(b) != 1 {
		return errSize
	}
	*v = b[0]
	return nil
}

func be16(b []byte, v *uint16) error {
	if len(b) != 2 {
		return errSize
	}
	*v = binary.BigEndian.Uint16(b)
	return nil
}

func be32(b []byte, v *uint32) error {
	if len(b) != 4 {
		return errSize
	}
	*v = binary.BigEndian.Uint32(b)
	return nil
}

func addr4(b []byte, v *netip.Addr) error {
	if len(b) != 4 {
		return errSize
	}
	*v = netip.AddrFrom4([4]byte(b))
	return nil
}

func addr6(b []byte, v *netip.Addr) error {
	if len(b) != 16 {
		return errSize
	}
	*v = netip.AddrFrom16([16]byte(b))
	return nil
}
