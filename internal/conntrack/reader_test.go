package conntrack

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// machine lays out a root with conntrack as a module, of which nf_conntrack_netlink is not loaded: a reader must not
// ask ctnetlink there, and does not.
func machine(t *testing.T, stat string) string {
	t.Helper()
	root := t.TempDir()
	write(t, filepath.Join(root, "sys/module/nf_conntrack/initstate"), "live\n")
	write(t, filepath.Join(root, "proc/sys/net/netfilter/nf_conntrack_count"), "17\n")
	write(t, filepath.Join(root, "proc/sys/net/netfilter/nf_conntrack_max"), "4096\n")
	write(t, filepath.Join(root, statFile), stat)
	return root
}

const statFile = "proc/thread-self/net/stat/nf_conntrack"

func TestReadFallsBack(t *testing.T) {
	tests := map[string]struct {
		stat   string
		source Source
		count  uint64
		known  CounterSet
		cpus   int
		passed []string // parts of what Passed says
	}{
		"to procfs": {stat: string(fixture(t, "6.18")), source: Procfs, count: 4096, known: knownAll, cpus: 2,
			passed: []string{errWouldLoad.Error()}},
		"to sysctl": {stat: "entries drop\n00000000\n", source: Sysctl, count: 17,
			passed: []string{errWouldLoad.Error(), "/nf_conntrack: line 2: 1 of 2 columns"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := NewReader(machine(t, tt.stat))
			if err != nil {
				t.Fatal(err)
			}
			s := Snapshot{Count: 1, CPU: []Counters{{1}, {2}, {3}}} // must leave no trace
			if err := r.Read(&s); err != nil {
				t.Fatal(err)
			}
			if s.Source != tt.source || s.Count != tt.count || s.Max != 4096 || s.Known != tt.known || len(s.CPU) != tt.cpus {
				t.Errorf("read %+v", s)
			}
			for _, part := range tt.passed {
				if s.Passed == nil || !strings.Contains(s.Passed.Error(), part) {
					t.Errorf("passed over because of %v, want %q in it", s.Passed, part)
				}
			}
		})
	}
}

func TestReadNotLoaded(t *testing.T) {
	root := machine(t, string(fixture(t, "6.18")))
	r, err := NewReader(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(countPath(root)); err != nil {
		t.Fatal(err)
	}
	s := Snapshot{Count: 1}
	if err := r.Read(&s); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("error %v, want %v", err, ErrNotLoaded)
	}
	if s.Count != 0 || s.Source != 0 {
		t.Errorf("read %+v, want nothing", s)
	}
	// It may go while it is read.
	write(t, countPath(root), "17\n")
	if err := os.Remove(filepath.Join(root, "proc/sys/net/netfilter/nf_conntrack_max")); err != nil {
		t.Fatal(err)
	}
	if err := r.Read(&s); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("without a max: error %v, want %v", err, ErrNotLoaded)
	}
}

func TestMoved(t *testing.T) {
	look := func(failed ...uint32) *Snapshot {
		var s Snapshot
		for _, v := range failed {
			s.CPU = append(s.CPU, Counters{CounterInsertFailed: v, CounterDrop: v * 7})
		}
		return &s
	}
	var r Reader
	for i, tt := range []struct {
		s    *Snapshot
		want bool
	}{
		{look(), false}, {look(0, 0), true}, {look(0, 0), false}, {look(0, 1), true}, {look(0, 1), false}, {look(1, 0), true},
		{look(1), true}, {look(1), false}, {look(1, 0, 5), true}, {look(1, 0, 5), false},
	} {
		if got := r.moved(tt.s); got != tt.want {
			t.Errorf("look %d: moved %v, want %v", i, got, tt.want)
		}
	}
}
