package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/test/need"
)

// TestMain lets the tests start this binary as a process that only holds a probe.
func TestMain(m *testing.M) {
	if os.Getenv("CTWATCH_TEST_HOLD") != "" {
		hold()
	}
	os.Exit(m.Run())
}

// onProbes runs f for each probe that has programs and works here; CTWATCH_TEST_PROBE leaves one, and those of
// CTWATCH_TEST_PROBES must work.
func onProbes(t *testing.T, f func(t *testing.T, o Options)) {
	need.Root(t)
	for _, name := range []string{Fexit, Kprobe, Tracepoint} {
		if only := os.Getenv("CTWATCH_TEST_PROBE"); only != "" && only != name {
			continue
		}
		t.Run(name, func(t *testing.T) {
			o := Options{Probe: name, Samples: 100, Module: conntrack.IsModule("")}
			p, err := Open(o)
			if err != nil {
				need.Probe(t, name, err)
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			f(t, o)
		})
	}
}

func TestABI(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"sample", unsafe.Sizeof(programSample{}), sampleSize},
		{"table", unsafe.Sizeof(programTable{}), 136},
		{"cpu", unsafe.Sizeof(programCpu{}), 120 + 16*16 + 16*16},
	} {
		if c.got != c.want {
			t.Errorf("struct %s has %d bytes, in C %d", c.name, c.got, c.want)
		}
	}
}

func TestOpenNamed(t *testing.T) {
	need.Root(t)
	p, err := Open(Options{Probe: Tracepoint})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if diff := cmp.Diff([]string{"tp_btf/kfree_skb"}, p.Hooks); diff != "" || !p.Counts() {
		t.Errorf("hooks (-want +got):\n%s", diff)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.ReadEvent(new(Event)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("ReadEvent after Close: %v", err)
	}

	var unavailable *UnavailableError
	if _, err := Open(Options{Probe: "bogus"}); !errors.As(err, &unavailable) || unavailable.Works == "" {
		t.Errorf("a probe that does not exist: %v", err)
	}
}

// TestWalkKnowsEveryNamespace: also one that no file names and no process is in.
func TestWalkKnowsEveryNamespace(t *testing.T) {
	need.Root(t)
	p, err := Open(Options{Probe: Tracepoint})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	inode, free := hiddenNamespace(t)
	if err := p.Walk(); err != nil {
		t.Fatal(err)
	}
	alive := func() bool {
		tables, err := p.Tables(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(tables, func(table Table) bool { return table.Inode == inode && !table.Gone })
	}
	if !alive() {
		t.Error("a namespace that lives by a file descriptor alone is not known")
	}
	free()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if err := p.Walk(); err != nil {
			t.Fatal(err)
		}
		if !alive() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a namespace that is gone still counts as alive")
		}
	}
	// Long after, its slot is given back.
	if _, err := p.Tables(time.Now().Add(2 * forget)); err != nil {
		t.Fatal(err)
	}
	tables, err := p.Tables(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(tables, func(table Table) bool { return table.Inode == inode }) {
		t.Error("a namespace that is long gone keeps its slot")
	}
}

func TestOrder(t *testing.T) {
	if diff := cmp.Diff([]string{Fexit, Tracepoint, Kprobe}, order(false)); diff != "" {
		t.Errorf("built in (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{Kprobe, Tracepoint, Fexit}, order(true)); diff != "" {
		t.Errorf("module (-want +got):\n%s", diff)
	}
}

func TestMissingCapabilities(t *testing.T) {
	needs := []capability{capBPF, capPerfmon}
	for _, c := range []struct {
		name      string
		effective uint64
		want      []string
	}{
		{"none", 0, []string{"CAP_BPF", "CAP_PERFMON"}},
		{"one of two", 1 << capBPF, []string{"CAP_PERFMON"}},
		{"both", 1<<capBPF | 1<<capPerfmon, nil},
		{"CAP_SYS_ADMIN stands for all", 1 << capSysAdmin, nil},
	} {
		if diff := cmp.Diff(c.want, missingCapabilities(c.effective, needs)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestDecode(t *testing.T) {
	raw := programSample{
		TimeNs: 5, Cookie: 7, Inum: 9, Family: 4, Proto: 17, Hook: 3, Kind: uint8(programKindKIND_CLASH), Flags: 1,
		Sport: 0x3500, Dport: 0x3930, // 53 and 14649 as they lie on a little-endian machine's wire
	}
	copy(raw.Ifname[:], "eth0")
	copy(raw.Src[:], []byte{10, 0, 0, 1})
	copy(raw.Dst[:], []byte{10, 0, 0, 2})
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, raw); err != nil {
		t.Fatal(err)
	}
	var got Event
	if err := decode(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := Event{
		Boot: 5, Cookie: 7, Inode: 9, Cause: conntrack.Clash, Inferred: true, Proto: 17, Hook: "output", Ifname: "eth0",
		Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Sport: 53, Dport: 0x3039,
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := decode(b.Bytes()[:sampleSize-1], &got); err == nil {
		t.Error("a short sample was decoded")
	}
}
