package census

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// recorded is a message of a kernel's, and what conntrack(8) printed of it.
type recorded struct {
	line    string
	message []byte
}

// readRecorded reads all of testdata.
func readRecorded(t testing.TB) (all []recorded) {
	t.Helper()
	paths, err := filepath.Glob("testdata/*/dump.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			r := recorded{line: lines.Text()}
			lines.Scan()
			if r.message, err = hex.DecodeString(lines.Text()); err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
	}
	return all
}

func TestParseRecorded(t *testing.T) {
	for _, r := range readRecorded(t) {
		want, err := conntrackLine(r.line)
		if err != nil {
			t.Fatal(err)
		}
		var got Entry
		if err := got.parse(r.message[sizeRequest:]); err != nil {
			t.Errorf("%s: %v", r.line, err)
		}
		if got.Status&(1<<3) == 0 { // IPS_CONFIRMED
			t.Errorf("%s: status %x is not confirmed", r.line, got.Status)
		}
		if diff := cmp.Diff(want, forLine(got), equateAddrs); diff != "" {
			t.Errorf("%s: -want +got\n%s", r.line, diff)
		}
	}
}

// encode makes the attributes of an entry, with others that are passed over before and after each.
func encode(e Entry, other []byte) []byte {
	attr := func(kind uint16, value ...[]byte) (b []byte) {
		b = binary.NativeEndian.AppendUint16(nil, 0)
		b = binary.NativeEndian.AppendUint16(b, kind)
		for _, v := range value {
			b = append(b, v...)
		}
		binary.NativeEndian.PutUint16(b, uint16(len(b)))
		return append(b, make([]byte, align4(len(b))-len(b))...)
	}
	junk := attr(99, other)
	nest := func(kind uint16, value ...[]byte) []byte {
		return attr(kind|unix.NLA_F_NESTED, append(append([][]byte{junk}, value...), junk)...)
	}
	be16 := func(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
	be32 := func(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
	src, dst := uint16(attrIPv4Src), uint16(attrIPv4Dst)
	if e.Src.Is6() {
		src, dst = attrIPv6Src, attrIPv6Dst
	}
	tuple := func(kind uint16, from, to netip.Addr) []byte {
		return nest(kind,
			nest(attrTupleIP, attr(src, from.AsSlice()), attr(dst, to.AsSlice())),
			nest(attrTupleProto, attr(attrProtoNum, []byte{e.Proto}), attr(attrSrcPort, be16(e.SrcPort)), attr(attrDstPort, be16(e.DstPort))))
	}
	b := junk
	b = append(b, tuple(attrTupleOrig, e.Src, e.Dst)...)
	b = append(b, tuple(2, e.Dst, e.Src)...) // CTA_TUPLE_REPLY
	b = append(b, attr(attrStatus, be32(e.Status))...)
	b = append(b, attr(attrTimeout, be32(e.Timeout))...)
	return append(b, nest(attrProtoInfo, nest(attrProtoInfoTCP, attr(attrState, []byte{e.State})))...)
}

var plain = Entry{
	Proto: unix.IPPROTO_TCP, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"),
	SrcPort: 1, DstPort: 2, Status: 0x18e, Timeout: 3, State: 4,
}

func TestParseErrors(t *testing.T) {
	good := encode(plain, nil)
	find := func(part ...byte) int { // where an attribute's header is
		for i := range good {
			if string(good[i:i+len(part)]) == string(part) {
				return i
			}
		}
		t.Fatalf("% x is not in % x", part, good)
		return 0
	}
	tests := map[string]struct {
		at   int
		with []byte
		want error
	}{
		"attribute longer than the message": {find(8, 0, attrStatus, 0), []byte{0xff, 0xff}, errShortAttr},
		"attribute shorter than its header": {find(8, 0, attrStatus, 0), []byte{3, 0}, errShortAttr},
		"address of 3 bytes":                {find(8, 0, attrIPv4Src, 0), []byte{7, 0}, errSize},
		"IPv6 address of 4 bytes":           {find(8, 0, attrIPv4Src, 0), []byte{8, 0, attrIPv6Src, 0}, errSize},
		"port of 4 bytes":                   {find(6, 0, attrDstPort, 0), []byte{8, 0}, errSize},
		"status of 3 bytes":                 {find(8, 0, attrStatus, 0), []byte{7, 0}, errSize},
		"protocol of no bytes":              {find(5, 0, attrProtoNum, 0), []byte{4, 0}, errSize},
		"no protocol":                       {find(5, 0, attrProtoNum, 0), []byte{5, 0, 98, 0}, errNoTuple},
		"no destination":                    {find(8, 0, attrIPv4Dst, 0), []byte{8, 0, 98, 0}, errNoTuple},
		"no tuple":                          {find(4, 0, 99, 0) + 6, []byte{98, 0x80}, errNoTuple},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := append([]byte(nil), good...)
			copy(b[tt.at:], tt.with)
			var e Entry
			if err := e.parse(b); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// FuzzEntry: whatever an entry holds and whatever stands around it, it is read as it is; cut anywhere it is an error or
// lacks what was cut off, but has nothing else.
func FuzzEntry(f *testing.F) {
	f.Add(uint8(6), []byte{192, 0, 2, 1}, []byte{192, 0, 2, 2}, uint16(1), uint16(443), uint32(0xe), uint32(432000), uint8(3), []byte{}, uint(20))
	f.Add(uint8(17), make([]byte, 16), make([]byte, 16), uint16(0), uint16(0), uint32(0), uint32(0), uint8(0), []byte{1, 2, 3, 4, 5}, uint(77))
	f.Fuzz(func(t *testing.T, proto uint8, src, dst []byte, sport, dport uint16, status, timeout uint32, state uint8, other []byte, at uint) {
		from, okSrc := netip.AddrFromSlice(src)
		to, okDst := netip.AddrFromSlice(dst)
		if !okSrc || !okDst || from.BitLen() != to.BitLen() || proto == 0 || len(other) > 1000 {
			t.Skip()
		}
		want := Entry{proto, from, to, sport, dport, status, timeout, state}
		b := encode(want, other)
		var got Entry
		if err := got.parse(b); err != nil || got != want {
			t.Fatalf("%+v, want %+v: %v", got, want, err)
		}
		if err := got.parse(b[:at%uint(len(b))]); err != nil {
			return
		}
		for _, part := range []struct{ got, want any }{
			{got.Src, from}, {got.Dst, to}, {got.Proto, proto}, {got.SrcPort, sport}, {got.DstPort, dport},
		} {
			if part.got != part.want {
				t.Fatalf("cut at %d: %+v, want %+v", at%uint(len(b)), got, want)
			}
		}
		if got.Status != 0 && got.Status != status || got.Timeout != 0 && got.Timeout != timeout || got.State != 0 && got.State != state {
			t.Fatalf("cut at %d: %+v, want %+v", at%uint(len(b)), got, want)
		}
	})
}

// FuzzParse: what is taken for an entry is one, and is the same when written anew.
func FuzzParse(f *testing.F) {
	for _, r := range readRecorded(f) {
		f.Add(r.message[sizeRequest:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, again Entry
		if e.parse(b) != nil {
			return
		}
		if e.Proto == 0 || !e.Src.IsValid() || e.Src.BitLen() != e.Dst.BitLen() {
			t.Fatalf("%+v is not an entry", e)
		}
		if err := again.parse(encode(e, nil)); err != nil || again != e {
			t.Fatalf("%+v, written anew %+v: %v", e, again, err)
		}
	})
}
