package remediate

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory is what there is of it, and what an entry costs.
type Memory struct {
	Total     uint64 // bytes
	Available uint64 // bytes, without swapping (MemAvailable)
	PerEntry  uint64 // bytes of kernel memory, which cannot be swapped
	Measured  bool   // PerEntry is of this kernel; otherwise a generous guess
}

const (
	// extension is what an entry has beside its own object as soon as it has any extension (accounting, NAT, a helper): one
	// kmalloc-128, NF_CT_EXT_PREALLOC.
	extension = 128
	// guessed is what is reckoned where /proc/slabinfo cannot be read: it takes uid 0 or CAP_DAC_READ_SEARCH. The largest known
	// object has 384 bytes (2.6.18).
	guessed = 512
	// bucketSize is of a hash chain's head.
	bucketSize = 8
)

// ReadMemory reads root/proc ("" is the machine's own). It fails only where /proc/meminfo cannot be understood.
func ReadMemory(root string) (Memory, error) {
	m, err := Memory{PerEntry: guessed}.Again(root)
	if err != nil {
		return Memory{}, err
	}
	if slabs, err := os.ReadFile(filepath.Join(procDir(root), "slabinfo")); err == nil {
		if object := parseSlab(slabs, uint64(os.Getpagesize())); object > 0 {
			m.PerEntry, m.Measured = object+extension, true
		}
	}
	return m, nil
}

// Again reads how much there is now. What an entry costs stays what it is in a running kernel, and takes milliseconds to read.
func (m Memory) Again(root string) (Memory, error) {
	file := filepath.Join(procDir(root), "meminfo")
	text, err := os.ReadFile(file)
	if err != nil {
		return m, fmt.Errorf("read memory: %w", err)
	}
	now, err := parseMemory(text)
	if err != nil {
		return m, fmt.Errorf("read memory: %s: %w", file, err)
	}
	m.Total, m.Available = now.Total, now.Available
	return m, nil
}

func procDir(root string) string { return filepath.Join(cmp.Or(root, "/"), "proc") }

// parseMemory reads /proc/meminfo. Before 3.14 there is no MemAvailable: then what is free or cached is an estimate.
func parseMemory(text []byte) (Memory, error) {
	fields := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		if kib, err := strconv.ParseUint(f[1], 10, 53); err == nil {
			fields[strings.TrimSuffix(f[0], ":")] = kib << 10
		}
	}
	m := Memory{Total: fields["MemTotal"], Available: fields["MemAvailable"]}
	if m.Total == 0 {
		return Memory{}, errors.New("it tells no MemTotal")
	}
	if _, told := fields["MemAvailable"]; !told {
		m.Available = fields["MemFree"] + fields["Cached"]/2
	}
	m.Available = min(m.Available, m.Total)
	return m, nil
}

// parseSlab is how many bytes of slab pages an entry's object takes by /proc/slabinfo; 0 if there is no line for it. Until
// EL 7 each namespace has a slab of its own (nf_conntrack_ffff...), on CentOS 5 it is ip_conntrack. The largest counts.
func parseSlab(text []byte, pageSize uint64) (object uint64) {
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		// name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : ...
		if len(f) < 6 || f[0] != "nf_conntrack" && f[0] != "ip_conntrack" && !strings.HasPrefix(f[0], "nf_conntrack_ffff") {
			continue
		}
		perSlab, err1 := strconv.ParseUint(f[4], 10, 16)
		pages, err2 := strconv.ParseUint(f[5], 10, 16)
		if err1 == nil && err2 == nil && perSlab > 0 {
			object = max(object, (pages*pageSize+perSlab-1)/perSlab)
		}
	}
	return object
}
