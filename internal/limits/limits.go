// Package limits reads and sets the running limits of connection tracking, by whatever names the kernel has them: those of
// today, of CentOS 6 and 7 (buckets by the module's parameter only) and of CentOS 5 (ip_conntrack).
package limits

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// What the kernel takes.
const (
	// Most is the largest max: the kernel holds it in an int.
	Most = math.MaxInt32
	// MostBuckets is the largest number of buckets: since 7.2 the kernel bounds it by INT_MAX / 8, earlier ones take no more
	// than what four gigabytes hold.
	MostBuckets = math.MaxInt32 / 8
)

// State is the running limits of a machine.
type State struct {
	Max     uint64 // entries that each network namespace may hold; 0 is no limit (kernels before 7.0)
	Buckets uint64 // of the hash table; an entry takes two places in it. 0 where the kernel does not tell
	Count   uint64 // entries in the namespace that the calling thread is in
	Counted bool   // Count could be read: kernels before 2.6.16 do not tell it
	Old     bool   // the names are those of ip_conntrack (CentOS 5)
	MaxFile string // that max is read from and written to
	// BucketsFile is the one that buckets are written to; "" where there is none.
	BucketsFile string
}

// Read reads the limits below root ("" is the machine's own). It returns conntrack.ErrNotLoaded where the kernel has no
// connection tracking now, and ErrNoProc where that cannot be told.
func Read(root string) (State, error) {
	l, err := find(root)
	if err != nil {
		return State{}, err
	}
	defer l.close()
	s := State{Old: l.old, MaxFile: l.path(l.max[0])}
	if s.Max, err = l.readNumber(l.max[0]); err != nil {
		return State{}, gone(err)
	}
	if s.Counted = l.count != ""; s.Counted {
		if s.Count, err = l.readNumber(l.count); err != nil {
			return State{}, gone(err)
		}
	}
	if file := l.bucketsFile(); file != "" {
		s.BucketsFile = l.path(file)
	}
	if s.Buckets, err = l.readBuckets(); err != nil {
		return State{}, gone(err)
	}
	return s, nil
}

// gone names what it means if a sysctl that was there a moment ago is not: the module was unloaded.
func gone(err error) error {
	if missing(err) {
		return conntrack.ErrNotLoaded
	}
	return err
}

func (t tree) readNumber(name string) (uint64, error) {
	text, err := t.read(name)
	if err != nil {
		return 0, err
	}
	n, err := parse(text)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", t.path(name), err)
	}
	return n, nil
}

// parse reads what the kernel prints. It holds 32 bits, and before 6.1 took any for max, printing a large one as negative.
func parse(text []byte) (uint64, error) {
	word := strings.TrimSpace(string(text))
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil || n < math.MinInt32 || n > math.MaxUint32 {
		return 0, fmt.Errorf("%.20q is no limit", word)
	}
	return uint64(uint32(n)), nil
}
