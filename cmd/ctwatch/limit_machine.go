package main

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/netns"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

// machine is what decisions about its limits rest on.
type machine struct {
	root    string
	booted  bool // there is a proc: it is no image of a machine
	loaded  bool
	state   limits.State
	tables  []table // each namespace's, the fullest first; at least one where conntrack is loaded
	unseen  int     // namespaces whose table could not be read
	denied  int     // processes whose namespace we may not see
	memory  remediate.Memory
	noMem   error  // why memory is not known
	release string // of the kernel; "" is not known
}

// table is the one of a network namespace.
type table struct {
	NS    uint64 `json:"ns"`
	Name  string `json:"name"` // untrusted text; "" where nobody named it
	Count uint64 `json:"count"`
}

func (t table) String() string { return netnsName(t.Name, t.NS) }

// lookAtMachine reads what there is. That conntrack is not loaded, or that there is no proc, is no error here.
func lookAtMachine(root string) (*machine, error) {
	m := &machine{root: root}
	m.memory, m.noMem = remediate.ReadMemory(root)
	_, err := os.Stat(filepath.Join("/", root, "proc/sys"))
	m.booted = err == nil
	release, _ := os.ReadFile(filepath.Join("/", root, "proc/sys/kernel/osrelease"))
	m.release = strings.TrimSpace(string(release))
	m.state, err = limits.Read(root)
	if errors.Is(err, conntrack.ErrNotLoaded) || errors.Is(err, limits.ErrNoProc) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	m.loaded = true
	if err := m.readTables(); err != nil || len(m.tables) == 0 {
		// Below a root there may be files only, of one namespace.
		m.tables = []table{{Name: "host", Count: m.state.Count}}
		if root == "" {
			m.tables[0].Name = "this namespace"
		}
	}
	slices.SortStableFunc(m.tables, func(a, b table) int { return cmp.Compare(b.Count, a.Count) })
	return m, nil
}

// readTables reads the count of each namespace: the limit holds in each on its own.
func (m *machine) readTables() error {
	finder, err := netns.NewFinder(m.root)
	if err != nil {
		return err
	}
	defer finder.Close()
	look, err := finder.Scan()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		m.denied = look.Denied
	}
	for _, ns := range look.Namespaces {
		t := table{NS: ns.Inode, Name: ns.Name}
		err := finder.Enter(ns, func() error {
			s, err := limits.Read(m.root)
			t.Count = s.Count
			return err
		})
		switch {
		case errors.Is(err, netns.ErrGone):
		case err != nil:
			m.unseen++
		default:
			m.tables = append(m.tables, t)
		}
	}
	return nil
}

// fullest is the table with the most entries.
func (m *machine) fullest() table {
	if len(m.tables) == 0 {
		return table{}
	}
	return m.tables[0]
}

// busy is how many tables hold more than a tenth of what the fullest does.
func (m *machine) busy() int {
	n := 0
	for _, t := range m.tables {
		if t.Count > m.fullest().Count/10 {
			n++
		}
	}
	return max(n, 1)
}

// usage is how the tables are used, with what is known of their past.
func (m *machine) usage(peak uint64) remediate.Usage {
	return remediate.Usage{Count: m.fullest().Count, Peak: max(peak, m.fullest().Count), Max: m.state.Max, Buckets: m.state.Buckets, Busy: m.busy()}
}

// cost is how many bytes limits cost if as many tables as are busy now were full.
func (m *machine) cost(entries, buckets uint64) uint64 {
	return entries*m.memory.PerEntry*uint64(m.busy()) + buckets*bytesPerBucket
}

const bytesPerBucket = 8 // a pointer

// inUse is how many bytes entries and buckets take now.
func (m *machine) inUse() uint64 {
	var entries uint64
	for _, t := range m.tables {
		entries += t.Count
	}
	return entries*m.memory.PerEntry + m.state.Buckets*bytesPerBucket
}

// fill is how full a table is; nil where there is no limit.
func (m *machine) fill(t table) *float64 {
	if m.state.Max == 0 {
		return nil
	}
	fill := float64(t.Count) / float64(m.state.Max)
	return &fill
}
