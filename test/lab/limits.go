package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The limits a lab may change, by their names in /proc/sys/net/netfilter. All are the whole machine's: see
// nf_conntrack_standalone.c.
const (
	// Max is the number of entries that each namespace's table may hold.
	Max = "nf_conntrack_max"
	// Buckets is the size of the one hash table; the kernel rounds it up to a multiple of 512.
	Buckets = "nf_conntrack_buckets"
	// ExpectMax is the number of expectations that each namespace may hold.
	ExpectMax = "nf_conntrack_expect_max"
)

// Limit reads Max, Buckets or ExpectMax.
func (l *Lab) Limit(name string) (uint64, error) {
	if err := checkLimit(name); err != nil {
		return 0, err
	}
	return readLimit(name)
}

// SetLimit changes Max, Buckets or ExpectMax until the lab ends; then the value found at the first call
// comes back.
func (l *Lab) SetLimit(name string, value uint64) error {
	if err := checkLimit(name); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("set %s: %w", name, os.ErrClosed)
	}
	if _, known := l.originals[name]; !known {
		original, err := readLimit(name)
		if err != nil {
			return err
		}
		// The journal first: from here on a death at any moment is undone.
		if err := l.journal.limit(name, original); err != nil {
			return fmt.Errorf("note %s: %w", name, err)
		}
		l.originals[name] = original
	}
	if err := os.WriteFile(limitPath(name), strconv.AppendUint(nil, value, 10), 0); err != nil {
		return fmt.Errorf("set %s to %d: %w", name, value, err)
	}
	return nil
}

func checkLimit(name string) error {
	if !slices.Contains([]string{Max, Buckets, ExpectMax}, name) {
		return fmt.Errorf("limit %q: %w", name, os.ErrInvalid)
	}
	return nil
}

func limitPath(name string) string { return filepath.Join("/proc/sys/net/netfilter", name) }

// readLimit reads any number in /proc/sys/net/netfilter, as the calling thread's namespace sees it.
func readLimit(name string) (uint64, error) {
	text, err := os.ReadFile(limitPath(name))
	if err != nil {
		return 0, err
	}
	value, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return value, nil
}
