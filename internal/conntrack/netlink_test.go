package conntrack

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestAnswer(t *testing.T) {
	row := func(v uint32) (c Counters) {
		for i := range c {
			c[i] = v + uint32(i)
		}
		return c
	}
	tests := map[string]struct {
		pieces [][]byte
		want   Snapshot
		max    bool
		done   bool
		err    error
	}{
		"one piece": {
			pieces: [][]byte{join(stats(7, 4096), statsCPU(0, knownAll, row(10)), statsCPU(1, knownAll, row(20)), done(0))},
			want:   Snapshot{Count: 7, Max: 4096, Known: knownAll, CPU: []Counters{row(10), row(20)}},
			max:    true, done: true,
		},
		"many pieces": {
			pieces: [][]byte{stats(7, 4096), statsCPU(0, knownAll, row(10)), statsCPU(1, knownAll, row(20)), done(0)},
			want:   Snapshot{Count: 7, Max: 4096, Known: knownAll, CPU: []Counters{row(10), row(20)}},
			max:    true, done: true,
		},
		"EL7 has no max and no clash_resolve": {
			pieces: [][]byte{message(typeStats, nfgenmsg(0), attr(attrGlobalEntries, 3)),
				statsCPU(0, knownEL7, Counters{CounterDrop: 5}), done(0)},
			want: Snapshot{Count: 3, Known: knownEL7, CPU: []Counters{{CounterDrop: 5}}},
			done: true,
		},
		"a CPU number left out": {
			pieces: [][]byte{statsCPU(2, 1<<CounterDrop, Counters{CounterDrop: 1})},
			want:   Snapshot{Known: 1 << CounterDrop, CPU: []Counters{{}, {}, {CounterDrop: 1}}},
		},
		"unknown attributes and messages": {
			pieces: [][]byte{message(0x1234, []byte("?")), message(typeStatsCPU, nfgenmsg(0), attr(99, 1),
				[]byte{6, 0, 100, 0, 1, 2, 0, 0}, attr(10, 4), []byte{4, 0, 10, 0}), message(unix.NLMSG_NOOP)},
			want: Snapshot{Known: 1 << CounterDrop, CPU: []Counters{{CounterDrop: 4}}},
		},
		"acknowledged":           {pieces: [][]byte{failure(0)}},
		"not permitted":          {pieces: [][]byte{failure(unix.EPERM)}, err: unix.EPERM},
		"dump failed at its end": {pieces: [][]byte{done(unix.ENOBUFS)}, done: true, err: unix.ENOBUFS},
		"overrun":                {pieces: [][]byte{message(unix.NLMSG_OVERRUN)}, err: unix.ENOBUFS},
		"cut header":             {pieces: [][]byte{done(0)[:15]}, err: errShortMessage},
		"cut message":            {pieces: [][]byte{stats(1, 2)[:30]}, err: errShortMessage},
		"no errno":               {pieces: [][]byte{message(unix.NLMSG_ERROR)}, err: errShortMessage},
		"no nfgenmsg":            {pieces: [][]byte{message(typeStatsCPU, []byte{0, 0})}, err: errShortMessage},
		"cut attribute":          {pieces: [][]byte{message(typeStats, nfgenmsg(0), []byte{8, 0, 1, 0, 0, 0})}, err: errShortAttr},
		"attribute of size 0":    {pieces: [][]byte{message(typeStats, nfgenmsg(0), []byte{0, 0, 1, 0})}, err: errShortAttr},
		"bytes after the last":   {pieces: [][]byte{message(typeStats, nfgenmsg(0), []byte{0, 0})}, err: errShortAttr},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got Snapshot
			a := answer{snap: &got}
			var err error
			for _, piece := range tt.pieces {
				err = errors.Join(err, a.parse(piece))
			}
			if !errors.Is(err, tt.err) || (err != nil) != (tt.err != nil) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if a.hasMax != tt.max || a.done != tt.done {
				t.Errorf("hasMax %v done %v, want %v %v", a.hasMax, a.done, tt.max, tt.done)
			}
		})
	}
}

// FuzzAnswer checks that what was read, written as the kernel writes it, reads the same, and that nothing is read out
// of less than the kernel would have sent.
func FuzzAnswer(f *testing.F) {
	f.Add(join(stats(7, 4096), statsCPU(0, knownAll, Counters{1, 2, 3}), statsCPU(1, knownAll, Counters{}), done(0)))
	f.Add(join(statsCPU(3, knownEL7, Counters{4, 5, 6}), done(0)))
	f.Add(join(failure(unix.EPERM), message(unix.NLMSG_OVERRUN)))
	f.Add(message(typeStats, nfgenmsg(0), []byte{8, 0, 1, 0, 0, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again Snapshot
		a := answer{snap: &s}
		if a.parse(b) != nil {
			return
		}
		if n := NumCounters * 8; len(s.CPU) > 1<<16 || s.Known != 0 && len(b) < unix.SizeofNlMsghdr+8 {
			t.Fatalf("%d CPUs and counters %q out of %d bytes, a CPU takes %d", len(s.CPU), s.Known, len(b), n)
		}
		var pieces []byte
		for i, c := range s.CPU {
			pieces = append(pieces, statsCPU(uint16(i), s.Known, c)...)
		}
		if a.hasMax {
			pieces = append(pieces, stats(uint32(s.Count), uint32(s.Max))...)
		} else {
			pieces = append(pieces, message(typeStats, nfgenmsg(0), attr(attrGlobalEntries, uint32(s.Count)))...)
		}
		if err := (&answer{snap: &again}).parse(pieces); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, again); diff != "" {
			t.Errorf("-first +again:\n%s", diff)
		}
	})
}

func stats(count, limit uint32) []byte {
	return message(typeStats, nfgenmsg(0), attr(attrGlobalEntries, count), attr(attrGlobalMaxEntries, limit))
}

func statsCPU(cpu uint16, known CounterSet, c Counters) []byte {
	parts := [][]byte{nfgenmsg(cpu)}
	for id := range uint16(32) {
		if counter, ok := counterOfAttr(id); ok && known.Has(counter) {
			parts = append(parts, attr(id, c[counter]))
		}
	}
	return message(typeStatsCPU, parts...)
}

func done(errno unix.Errno) []byte { return message(unix.NLMSG_DONE, status(errno)) }

// failure is a struct nlmsgerr: the errno and the header of the request.
func failure(errno unix.Errno) []byte {
	return message(unix.NLMSG_ERROR, status(errno), make([]byte, unix.SizeofNlMsghdr))
}

func status(errno unix.Errno) []byte {
	return binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
}

func nfgenmsg(cpu uint16) []byte { return binary.BigEndian.AppendUint16([]byte{0, 0}, cpu) }

func attr(id uint16, v uint32) []byte {
	b := binary.NativeEndian.AppendUint16(nil, 8)
	b = binary.NativeEndian.AppendUint16(b, id)
	return binary.BigEndian.AppendUint32(b, v)
}

func message(kind uint16, parts ...[]byte) []byte {
	body := join(parts...)
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, make([]byte, 10)...) // flags, sequence, port
	b = append(b, body...)
	return append(b, make([]byte, align4(len(b))-len(b))...)
}

func join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}
