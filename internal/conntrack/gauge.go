package conntrack

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// KeyCount is the sysctl below net.netfilter that tells how many entries a namespace's table holds.
const KeyCount = "nf_conntrack_count"

// Gauge is one number of net.netfilter in one namespace, held open: to read it takes a microsecond, and nobody has to
// enter the namespace. It does not keep the namespace, nor the module. It is for one goroutine at a time.
type Gauge struct {
	f   *os.File
	buf [32]byte
}

// OpenGauge opens a number, such as KeyCount, as the calling thread's namespace has it, below root ("" is the machine's own).
func OpenGauge(root, name string) (*Gauge, error) {
	f, err := os.Open(filepath.Join(procDir(root), "sys/net/netfilter", name))
	if err != nil {
		return nil, err
	}
	return &Gauge{f: f}, nil
}

// Read reads the number as it is now. It fails once the module is unloaded; of a namespace that is gone it may go on to
// tell the last number.
func (g *Gauge) Read() (uint64, error) {
	n, err := g.f.ReadAt(g.buf[:], 0)
	if n == 0 {
		return 0, err
	}
	v, err := strconv.ParseInt(strings.TrimSpace(string(g.buf[:n])), 10, 64)
	return uint64(uint32(v)), err // a large max is printed as negative before 6.1
}

// Close lets go of the number.
func (g *Gauge) Close() error { return g.f.Close() }
