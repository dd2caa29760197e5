package kmsg

import (
	"bytes"
	"strconv"
	"strings"
)

// message is a record of /dev/kmsg: "6,339,5140900,-;text", and lines " KEY=value" that are left out here
// (Documentation/ABI/testing/dev-kmsg).
type message struct {
	seq    uint64
	kernel bool   // not written by a program
	text   string // escapes undone
}

// parse reads one record. Fields that later kernels add before the semicolon are passed over.
func parse(record []byte) (m message, ok bool) {
	header, rest, ok := bytes.Cut(record, []byte{';'})
	if !ok {
		return message{}, false
	}
	fields := strings.SplitN(string(header), ",", 3)
	if len(fields) < 3 {
		return message{}, false
	}
	priority, err := strconv.ParseUint(fields[0], 10, 32)
	if err != nil {
		return message{}, false
	}
	if m.seq, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
		return message{}, false
	}
	m.kernel = priority>>3 == 0 // the facility; a program that writes 0 gets LOG_USER (devkmsg_write)
	text, _, _ := bytes.Cut(rest, []byte{'\n'})
	m.text = unescape(string(text))
	return m, true
}

// unescape undoes \xNN, as the kernel writes a backslash and what is not printable ASCII.
func unescape(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for s != "" {
		before, after, found := strings.Cut(s, `\x`)
		b.WriteString(before)
		s = after
		if !found {
			break
		}
		if len(after) >= 2 {
			if c, err := strconv.ParseUint(after[:2], 16, 8); err == nil {
				b.WriteByte(byte(c))
				s = after[2:]
				continue
			}
		}
		b.WriteString(`\x`)
	}
	return b.String()
}

// tableFull tells a line that says that a packet was dropped because a table was full, and the inode number of the
// namespace it names, 0 if none (__nf_conntrack_alloc):
//
//	ip_conntrack: table full, dropping packet.
//	nf_conntrack: table full, dropping packet.
//	nf_conntrack: table full, dropping packet
//	nf_conntrack: nf_conntrack: table full, dropping packet
//	nf_conntrack: nf_conntrack: table full in netns 4026532246, dropping packet
//
// The first is of 2.6.18, the next of 2.6.32. 6.12 has the name doubled (pr_fmt), and 6.18 names other namespaces than the
// host's.
func tableFull(line string) (inode uint64, ok bool) {
	rest, found := line, false
	for _, prefix := range []string{"nf_conntrack: ", "nf_conntrack: ", "ip_conntrack: "} {
		if after, is := strings.CutPrefix(rest, prefix); is {
			rest, found = after, true
		}
	}
	rest, is := strings.CutPrefix(rest, "table full")
	if !found || !is {
		return 0, false
	}
	if number, is := strings.CutPrefix(rest, " in netns "); is {
		digits, after, _ := strings.Cut(number, ",")
		n, err := strconv.ParseUint(digits, 10, 32) // ns_common.inum is 32 bits
		if err != nil || n == 0 {
			return 0, false
		}
		inode, rest = n, ","+after
	}
	if strings.TrimSuffix(rest, ".") != ", dropping packet" {
		return 0, false
	}
	return inode, true
}

// namesNetNS reports whether lines of a kernel with this release name the namespace unless it is the host's: since 6.18.
func namesNetNS(release string) bool {
	major, rest, _ := strings.Cut(release, ".")
	digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if digits >= 0 {
		rest = rest[:digits]
	}
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(rest)
	return errA == nil && errB == nil && (a > 6 || a == 6 && b >= 18)
}
