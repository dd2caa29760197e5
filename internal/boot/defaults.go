package boot

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// kernel is a kernel's release: which rules it goes by.
type kernel struct {
	release string // "" is unknown
	version        // upstream
	el      int    // of Red Hat's kernels, which take over later rules; 0 is another
}

type version [3]int

func (v version) before(major, minor int) bool {
	return v[0] < major || v[0] == major && v[1] < minor
}

var (
	releasePattern = regexp.MustCompile(`^(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?`)
	elPattern      = regexp.MustCompile(`\.el(\d{1,2})`)
)

func parseKernel(text string) kernel {
	k := kernel{release: strings.TrimSpace(text)}
	number := releasePattern.FindStringSubmatch(k.release)
	if number == nil {
		return kernel{}
	}
	for i := range k.version {
		k.version[i], _ = strconv.Atoi(number[i+1]) // the third may be missing
	}
	if el := elPattern.FindStringSubmatch(k.release); el != nil {
		k.el, _ = strconv.Atoi(el[1])
	}
	return k
}

// ipConntrack: the module has its old name (before 2.6.20, EL 5).
func (k kernel) ipConntrack() bool { return k.version == version{2, 6, 18} }

// module is conntrack's name as a module.
func (k kernel) module() string {
	if k.ipConntrack() {
		return "ip_conntrack"
	}
	return "nf_conntrack"
}

// oldNames: the sysctls have their old names, too (CONFIG_NF_CONNTRACK_PROC_COMPAT, not set from EL 7 on).
func (k kernel) oldNames() bool { return k.before(3, 0) }

// setsBuckets: nf_conntrack_buckets can be written (3183ab8997a4).
func (k kernel) setsBuckets() bool { return !k.before(4, 8) }

// tellsInTime: a module's uevent comes after its sysctls are there (38dc717e9715).
func (k kernel) tellsInTime() bool {
	if k.el != 0 && k.el < 9 {
		return false
	}
	backported := k.version[0] == 4 && k.version[1] == 14 || k.version[0] == 5 && (k.version[1] == 4 || k.version[1] == 10)
	return backported || !k.before(5, 12)
}

// rules are all that this package asks of a kernel.
func (k kernel) rules() [8]any {
	entries, buckets := k.defaults(1<<33, 0, 4096)
	return [...]any{k.ipConntrack(), k.oldNames(), k.setsBuckets(), k.tellsInTime(), k.before(6, 1), k.before(7, 0), entries, buckets}
}

// defaults are the limits that conntrack begins with: nf_conntrack_init_start. hashsize is the module's option, 0 if it is
// not given. They are 0 where they depend on a memory that is not known.
func (k kernel) defaults(memory, hashsize, pageSize uint64) (limit, buckets uint64) {
	const (
		mib = 1 << 20
		gib = 1 << 30
	)
	round := max(pageSize/8, 1) // nf_ct_alloc_hashtable; an hlist_nulls_head has 8 bytes
	switch {
	case hashsize != 0 && k.ipConntrack():
		return 8 * hashsize, hashsize
	case hashsize != 0:
		buckets = roundUp(hashsize, round)
		return 8 * buckets, buckets
	case memory == 0:
		return 0, 0
	case k.ipConntrack(): // a list_head has 16 bytes
		buckets = max(memory/16384/16, 16)
		if memory > gib {
			buckets = 8192
		}
		return 8 * buckets, buckets
	case k.el >= 9 || !k.before(5, 15): // d532bcd0b269
		buckets = memory / 16384 / 8
		switch {
		case memory > 4*gib:
			buckets = 262144
		case memory > gib:
			buckets = 65536
		}
		buckets = roundUp(max(buckets, 1024), round)
		return buckets, buckets
	}
	buckets = memory / 16384 / 8
	switch {
	case memory > 4*gib && (k.el >= 7 || !k.before(4, 0)): // 88eab472ec21
		buckets = 65536
	case memory > gib:
		buckets = 16384
	}
	buckets = roundUp(max(buckets, 32), round)
	return 4 * buckets, buckets
}

func roundUp(n, multiple uint64) uint64 { return (n + multiple - 1) / multiple * multiple }

var errNotNumber = errors.New("is not a number that the kernel takes")

// write is what a sysctl holds after a text was written to it, or why the kernel refuses it.
func (k kernel) write(l limit, text string, pageSize uint64) (uint64, error) {
	n, err := parseInt(text)
	if err != nil {
		return 0, err
	}
	if l == limitBuckets {
		if n <= 0 || n > math.MaxInt32/8 { // nf_conntrack_hash_resize
			return 0, fmt.Errorf("is out of range: %d", n)
		}
		return roundUp(uint64(n), max(pageSize/8, 1)), nil
	}
	if n < 0 && !k.before(6, 1) || n == 0 && !k.before(7, 0) {
		return 0, fmt.Errorf("is out of range: %d", n)
	}
	return uint64(uint32(n)), nil // a negative number was a large one before 6.1
}

// parseInt reads a number as proc_dointvec does: after white space, decimal, hexadecimal or octal, up to the end or to
// white space, and then whatever follows is passed over.
func parseInt(text string) (int64, error) {
	const digitsAtMost = 21 // TMPBUFLEN
	word := strings.TrimLeft(text, " \t\n\v\f\r")
	if end := strings.IndexAny(word, " \t\n"); end >= 0 {
		word = word[:end]
	}
	digits, negative := strings.CutPrefix(word, "-")
	if digits == "" || digits[0] == '+' || digits[0] == '-' || len(word) > digitsAtMost {
		return 0, errNotNumber
	}
	n, err := parseKernelUint(digits, 64)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && !negative && n > math.MaxInt32, err == nil && n > -math.MinInt32:
		return 0, errors.New("is out of range")
	case err != nil:
		return 0, errNotNumber
	case negative:
		return -int64(n), nil
	}
	return int64(n), nil
}

// parseKernelUint reads a number with base 0 as the kernel understands it: 0x and 0 begin hexadecimal and octal ones, and
// no others.
func parseKernelUint(digits string, bits int) (uint64, error) {
	lower := strings.ToLower(digits)
	base := 10
	switch {
	case strings.HasPrefix(lower, "0x"):
		base, lower = 16, lower[2:]
	case strings.HasPrefix(lower, "0") && len(lower) > 1:
		base, lower = 8, lower[1:]
	}
	if strings.ContainsAny(lower, "+-_") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(lower, base, bits)
}

// parseMemTotal is the first line of /proc/meminfo in bytes, 0 if it is not there.
func parseMemTotal(meminfo string) uint64 {
	for line := range strings.Lines(meminfo) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "MemTotal:" && f[2] == "kB" {
			kib, err := strconv.ParseUint(f[1], 10, 53)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
