package census

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// message makes a netlink message, padded as the kernel does.
func message(kind, flags uint16, body ...byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr)
	binary.NativeEndian.PutUint32(b, uint32(len(b)+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags)
	b = append(b, body...)
	return append(b, make([]byte, align4(len(b))-len(b))...)
}

func errno(e unix.Errno) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(-int32(e))) }

func TestDump(t *testing.T) {
	entry := message(typeNew, unix.NLM_F_MULTI, append(make([]byte, sizeNfgenmsg), encode(plain, nil)...)...)
	broken := slices.Clone(entry)
	binary.NativeEndian.PutUint16(broken[sizeRequest:], 2)
	done := message(unix.NLMSG_DONE, unix.NLM_F_MULTI, errno(0)...)
	tests := map[string]struct {
		chunks [][]byte
		limit  uint64
		want   Walked
		err    error
	}{
		"an empty table":          {chunks: [][]byte{done}, want: Walked{Complete: true}},
		"entries, and the end":    {chunks: [][]byte{slices.Concat(entry, entry), entry, done}, want: Walked{Entries: 3, Complete: true}},
		"the end in the same":     {chunks: [][]byte{slices.Concat(entry, done)}, want: Walked{Entries: 1, Complete: true}},
		"interrupted":             {chunks: [][]byte{message(typeNew, unix.NLM_F_DUMP_INTR, entry[16:]...), done}, want: Walked{Entries: 1, Complete: true, Interrupted: true}},
		"interrupted at the end":  {chunks: [][]byte{entry, message(unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, errno(0)...)}, want: Walked{Entries: 1, Complete: true, Interrupted: true}},
		"up to the limit":         {chunks: [][]byte{entry, slices.Concat(entry, entry, broken)}, limit: 3, want: Walked{Entries: 3}},
		"others are passed over":  {chunks: [][]byte{slices.Concat(message(unix.NLMSG_NOOP, 0), message(typeGet, 0, 1), entry)}, want: Walked{Entries: 1}},
		"refused":                 {chunks: [][]byte{message(unix.NLMSG_ERROR, 0, errno(unix.EPERM)...)}, err: unix.EPERM},
		"failed in the end":       {chunks: [][]byte{entry, message(unix.NLMSG_DONE, 0, errno(unix.ENOMEM)...)}, want: Walked{Entries: 1}, err: unix.ENOMEM},
		"overrun":                 {chunks: [][]byte{message(unix.NLMSG_OVERRUN, 0)}, err: unix.ENOBUFS},
		"an entry that is none":   {chunks: [][]byte{broken}, err: errShortAttr},
		"an entry without family": {chunks: [][]byte{message(typeNew, 0, 2, 0)}, err: errShortMessage},
		"an end without status":   {chunks: [][]byte{message(unix.NLMSG_DONE, 0, 0)}, err: errShortMessage},
		"less than a header":      {chunks: [][]byte{entry[:15]}, err: errShortMessage},
		"a length below a header": {chunks: [][]byte{append([]byte{15, 0, 0, 0}, entry[4:]...)}, err: errShortMessage},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var visits uint64
			d := dump{limit: tt.limit, visit: func(e *Entry) {
				if visits++; *e != plain {
					t.Errorf("%+v, want %+v", *e, plain)
				}
			}}
			var err error
			for _, chunk := range tt.chunks {
				if err = d.parse(chunk); err != nil {
					break
				}
			}
			if d.Walked != tt.want || visits != tt.want.Entries || !errors.Is(err, tt.err) {
				t.Errorf("%+v, %d visits, %v; want %+v, %v", d.Walked, visits, err, tt.want, tt.err)
			}
		})
	}
}

// recordedChunk is all recorded messages in one, as a read of the socket gives them.
func recordedChunk(t testing.TB) (chunk []byte, entries int) {
	for _, r := range readRecorded(t) {
		chunk, entries = append(chunk, r.message...), entries+1
	}
	return chunk, entries
}

// TestDumpCutShort: wherever a chunk is cut, the entry that is cut is an error and is not counted.
func TestDumpCutShort(t *testing.T) {
	chunk, _ := recordedChunk(t)
	ends := map[int]uint64{0: 0}
	for at, n := 0, uint64(0); at < len(chunk); ends[at] = n {
		at, n = at+int(binary.NativeEndian.Uint32(chunk[at:])), n+1
	}
	var whole uint64
	for at := range chunk {
		d := dump{visit: func(*Entry) {}}
		err := d.parse(chunk[:at])
		if n, end := ends[at]; end {
			whole = n
		}
		if _, end := ends[at]; end != (err == nil) || d.Entries != whole || err != nil && !errors.Is(err, errShortMessage) {
			t.Fatalf("cut at %d: %d entries, want %d: %v", at, d.Entries, whole, err)
		}
	}
}

func TestNoAllocationPerEntry(t *testing.T) {
	chunk, entries := recordedChunk(t)
	d := dump{visit: newTally(timeouts{432_000, 300}, 0).add}
	parse := func() {
		if err := d.parse(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(1000, parse); n != 0 || entries < 10 {
		t.Errorf("%v allocations for %d entries", n, entries)
	}
}

// FuzzDump: the same bytes in one chunk, or cut where a message ends, are the same; nothing is told after an error.
func FuzzDump(f *testing.F) {
	one := readRecorded(f)[0].message // few bytes: it takes long to make many smaller
	f.Add(slices.Concat(one, one), uint64(1))
	f.Add(slices.Concat(one, message(unix.NLMSG_DONE, 0, errno(0)...)), uint64(0))
	f.Add(message(unix.NLMSG_ERROR, 0, errno(unix.EPERM)...), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, limit uint64) {
		var one, each []Entry
		whole := dump{limit: limit, visit: func(e *Entry) { one = append(one, *e) }}
		errWhole := whole.parse(b)
		parts := dump{limit: limit, visit: func(e *Entry) { each = append(each, *e) }}
		var err error
		for len(b) > 0 && err == nil && !parts.over() {
			size := len(b)
			if len(b) >= 4 {
				size = min(size, align4(int(min(uint32(len(b)), max(1, binary.NativeEndian.Uint32(b))))))
			}
			err = parts.parse(b[:size])
			b = b[size:]
		}
		if whole.Walked != parts.Walked || !slices.Equal(one, each) || (errWhole == nil) != (err == nil) {
			t.Fatalf("%+v %v, in parts %+v %v", whole.Walked, errWhole, parts.Walked, err)
		}
		if whole.Entries != uint64(len(one)) || limit > 0 && whole.Entries > limit {
			t.Fatalf("%d entries, %d visits, limit %d", whole.Entries, len(one), limit)
		}
	})
}

func BenchmarkEntry(b *testing.B) {
	entry := message(typeNew, unix.NLM_F_MULTI, append(make([]byte, sizeNfgenmsg), encode(plain, nil)...)...)
	src := bytes.Index(entry, plain.Src.AsSlice())
	for _, bb := range []struct {
		name  string
		visit func(*Entry)
		hosts uint32
	}{
		{"parsed", func(*Entry) {}, 1},
		{"counted", newTally(timeouts{432_000, 300}, 0).add, 1},
		{"counted, each from another source", newTally(timeouts{432_000, 300}, 0).add, 1 << 20},
	} {
		b.Run(bb.name, func(b *testing.B) {
			d := dump{visit: bb.visit}
			for i := uint32(0); b.Loop(); i++ {
				binary.BigEndian.PutUint32(entry[src:], 10<<24|i*2654435761%bb.hosts) // in no order, as hashes are in none
				if err := d.parse(entry); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
