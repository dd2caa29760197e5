package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// LimitWrite is a write of a limit through /proc/sys, whichever mount of proc it came by. It is seen before the kernel takes
// it: To is what somebody wanted, and what became of it shows in the limit itself. The kernel refuses what is out of range,
// rounds buckets up, and ignores a write that goes on where another of the same open file ended.
type LimitWrite struct {
	Boot   time.Duration // since boot, suspend included
	Key    string        // nf_conntrack_max or nf_conntrack_buckets
	From   uint64        // 0 also where the kernel did not tell
	To     uint64        // read as the kernel does; one that is negative as older kernels take it, in 32 bits
	PID    int           // process, as the first PID namespace numbers it
	Comm   string        // of its thread, untrusted text
	Cgroup uint64        // id in the cgroup2 hierarchy: the inode number of the cgroup's directory
}

// limitWriteSize is sizeof(struct limit_write), bpf/abi.h.
const limitWriteSize = 136

var (
	errNoNumber = errors.New("not a number")
	errBeyond   = errors.New("the number stands behind too many blanks")
)

func decodeLimit(raw []byte, w *LimitWrite) error {
	var r programLimitWrite
	if len(raw) < limitWriteSize {
		return fmt.Errorf("decode a write of a limit: %d bytes instead of %d", len(raw), limitWriteSize)
	}
	if _, err := binary.Decode(raw, binary.NativeEndian, &r); err != nil {
		return fmt.Errorf("decode a write of a limit: %w", err)
	}
	*w = LimitWrite{Boot: time.Duration(r.TimeNs), Key: limitName(programLimit(r.Limit)), PID: int(r.Pid), Cgroup: r.Cgroup}
	comm, _, _ := bytes.Cut(r.Comm[:], []byte{0})
	w.Comm = string(comm)
	from, _, _ := bytes.Cut(r.From[:], []byte{0})
	w.From, _ = parseLimit(from)
	to, whole := r.To[:], r.ToLen >= 0
	if whole {
		to = to[:min(int(r.ToLen), len(to))]
	} else {
		to = to[:len(to)-1]
		if len(skipSpaces(to)) < longestLimit {
			return errBeyond
		}
	}
	var ok bool
	if w.To, ok = parseLimit(to); !ok {
		return errNoNumber
	}
	return nil
}

// limitName is the limit's name in /proc/sys/net/netfilter.
func limitName(l programLimit) string {
	if l == programLimitLIMIT_BUCKETS {
		return conntrack.KeyBuckets
	}
	return conntrack.KeyMax
}

// longestLimit is how far the kernel looks for the end of a number: TMPBUFLEN - 1 in kernel/sysctl.c.
const longestLimit = 21

// parseLimit reads the first number of what is written to a sysctl, as proc_get_long() in kernel/sysctl.c does: blanks before
// it, a sign, decimal, octal or hexadecimal digits, and then the end or a blank. The kernel takes no more than fits its int.
func parseLimit(text []byte) (uint64, bool) {
	text = skipSpaces(text)
	text = text[:min(len(text), longestLimit)]
	if end := bytes.IndexAny(text, " \t\n"); end >= 0 {
		text = text[:end]
	} else if len(text) == longestLimit {
		return 0, false
	}
	digits, negative := bytes.CutPrefix(text, []byte("-"))
	value, ok := parseDigits(string(digits))
	if !ok || negative && value > 1<<31 {
		return 0, false
	}
	if negative {
		value = uint64(uint32(-value))
	}
	return value, true
}

// parseDigits follows _parse_integer(), lib/kstrtox.c.
func parseDigits(s string) (uint64, bool) {
	base := 10
	if len(s) > 1 && s[0] == '0' {
		base, s = 8, s[1:]
		if len(s) > 1 && (s[0] == 'x' || s[0] == 'X') {
			base, s = 16, s[1:]
		}
	}
	value, err := strconv.ParseUint(s, base, 64)
	return value, err == nil
}

// skipSpaces skips what isspace() is true of in the kernel: the blanks of ASCII, and 0xa0.
func skipSpaces(text []byte) []byte {
	for len(text) > 0 && (text[0] == ' ' || text[0] >= '\t' && text[0] <= '\r' || text[0] == 0xa0) {
		text = text[1:]
	}
	return text
}
