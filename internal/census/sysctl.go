package census

import (
	"cmp"
	"fmt"
	"path/filepath"

	"github.com/prometheus/procfs"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// sysctls reads net.netfilter as the calling thread's namespace has it.
type sysctls struct{ proc procfs.FS }

func openSysctls(root string) (sysctls, error) {
	proc, err := procfs.NewFS(filepath.Join(cmp.Or(root, "/"), "proc"))
	if err != nil {
		return sysctls{}, fmt.Errorf("open proc: %w", err)
	}
	return sysctls{proc}, nil
}

func (s sysctls) table() (t table, err error) {
	if t.count, err = conntrack.ReadSysctl(s.proc, "nf_conntrack_count"); err != nil {
		return table{}, err
	}
	t.buckets, err = conntrack.ReadSysctl(s.proc, conntrack.KeyBuckets)
	return t, err
}

func (s sysctls) timeouts() (t timeouts, err error) {
	var v [3]uint64
	for i, name := range []string{
		"nf_conntrack_tcp_timeout_established",
		"nf_conntrack_tcp_timeout_unacknowledged",
		"nf_conntrack_tcp_timeout_max_retrans",
	} {
		if v[i], err = conntrack.ReadSysctl(s.proc, name); err != nil {
			return timeouts{}, err
		}
	}
	return timeouts{established: uint32(v[0]), unanswered: uint32(max(v[1], v[2]))}, nil
}
