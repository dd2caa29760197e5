package kmsg

import "strings"

// most is how many namespaces are counted apart. The log carries two lines a second, so that it takes half an hour at
// least until so many others are named after one.
const most = 4096

// tally is what was counted.
type tally struct {
	names   bool            // lines name their namespace unless it is the host's
	named   map[uint64]line // by inode number
	host    uint64          // lines that name none, where others do
	anybody uint64          // lines that name none, where none does
	missed  uint64

	next        uint64 // sequence number that the next record should have; 0 before the first
	overwritten bool   // records were lost before the next
}

// line counts the lines of a namespace.
type line struct {
	count uint64
	last  uint64 // sequence number
}

// Lines is how many lines since Open, as of the last Read, said that the table of a namespace was full. A line that names
// a namespace counts for that one. One that names none is the host's where the kernel names all others (6.18, or where a
// line with a name came before); on older kernels nobody can tell whose it is, and it counts for every namespace. So ask
// for namespaces in trouble only, and take the number there for the most that it can be. It never goes back, unless 4096
// other namespaces were named since this one last was.
func (t *tally) Lines(inode uint64, host bool) uint64 {
	n := t.named[inode].count + t.anybody
	if host {
		n += t.host
	}
	return n
}

// Attributed reports whether the kernel says whose table is full. If not, Lines is the same number for every namespace.
func (t *tally) Attributed() bool { return t.names }

// Missed is how many records, of whatever kind, were overwritten before they were read: if it is not 0, Lines may be too
// small.
func (t *tally) Missed() uint64 { return t.missed }

// take counts one record of /dev/kmsg.
func (t *tally) take(record []byte) {
	m, ok := parse(record)
	if !ok {
		return
	}
	t.follow(m.seq)
	if !m.kernel {
		return
	}
	for text := range strings.SplitSeq(m.text, "\n") {
		if inode, ok := tableFull(text); ok {
			t.count(inode, m.seq)
		}
	}
}

// follow notes which records were lost before this one. Where the first was, nobody knows how many went before it.
func (t *tally) follow(seq uint64) {
	switch {
	case t.overwritten && t.next == 0:
		t.missed++
	case t.overwritten && seq > t.next:
		t.missed += seq - t.next
	}
	t.next, t.overwritten = seq+1, false
}

func (t *tally) count(inode, seq uint64) {
	switch {
	case inode != 0:
		t.names = true
		if t.named == nil {
			t.named = make(map[uint64]line)
		}
		_, known := t.named[inode]
		if !known && len(t.named) == most {
			t.forgetOldest()
		}
		t.named[inode] = line{t.named[inode].count + 1, seq}
	case t.names:
		t.host++
	default:
		t.anybody++
	}
}

func (t *tally) forgetOldest() {
	var oldest uint64
	for inode, l := range t.named {
		if oldest == 0 || l.last < t.named[oldest].last {
			oldest = inode
		}
	}
	delete(t.named, oldest)
}
