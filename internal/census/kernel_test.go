package census

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/test/lab"
	"github.com/ctwatch/ctwatch/test/need"
)

// oneOfEach are entries of each kind, as options of conntrack(8).
const oneOfEach = `
-p tcp -s 192.0.2.1 -d 198.51.100.7 --sport 40000 --dport 443 --state ESTABLISHED -t 431000 -u SEEN_REPLY,ASSURED --mark 7
-p tcp -s 192.0.2.1 -d 198.51.100.7 --sport 40001 --dport 443 --state SYN_SENT2 -t 1000
-p tcp -s 2001:db8::1 -d 2001:db8::2 --sport 40000 --dport 80 --state SYN_SENT -t 1000
-p udp -s 192.0.2.2 -d 198.51.100.7 --sport 5 --dport 53 -t 1000 --zone 9
-p udp -s ::ffff:192.0.2.2 -d 2001:db8::2 --sport 5 --dport 53 -t 1000 -u SEEN_REPLY
-p udp -s 192.0.2.9 -d 198.51.100.7 --sport 6 --dport 53 -t 1000 --src-nat 203.0.113.1 -u SEEN_REPLY
-p icmp -s 192.0.2.2 -d 198.51.100.7 --icmp-type 8 --icmp-code 0 --icmp-id 77 -t 1000
-p icmpv6 -s 2001:db8::3 -d 2001:db8::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 77 -t 1000
-p sctp -s 192.0.2.3 -d 198.51.100.7 --sport 5 --dport 3868 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2 -t 1000
-p gre -s 192.0.2.3 -d 198.51.100.7 --srckey 5 --dstkey 6 -t 1000
-p udplite -s 192.0.2.3 -d 198.51.100.7 --sport 5 --dport 6 -t 1000
-p 89 -s 192.0.2.3 -d 198.51.100.7 -t 1000
`

func needsKernel(t *testing.T) {
	t.Helper()
	need.Root(t)
	need.Tool(t, "conntrack")
}

// TestWalkAgainstConntrack compares what the walk and conntrack(8) say of entries of each kind. With -update it records
// what the kernel says of them.
func TestWalkAgainstConntrack(t *testing.T) {
	needsKernel(t)
	inNamespace(t, func(ctx context.Context) {
		insert(t, oneOfEach)
		var got []Entry
		walked, err := Walk(ctx, "", 0, func(e *Entry) { got = append(got, forLine(*e)) })
		if err != nil {
			t.Error(err)
			return
		}
		lines := listed(t)
		if *update {
			recordDump(t)
		}
		want := make([]Entry, len(lines))
		for i, line := range lines {
			if want[i], err = conntrackLine(line); err != nil {
				t.Error(err)
			}
		}
		byText := cmpopts.SortSlices(func(a, b Entry) bool { return fmt.Sprint(a) < fmt.Sprint(b) })
		// A second may have passed in between.
		if diff := gocmp.Diff(want, got, byText, equateAddrs, cmpopts.IgnoreFields(Entry{}, "Timeout")); diff != "" {
			t.Errorf("-conntrack +walk:\n%s", diff)
		}
		if n := uint64(strings.Count(oneOfEach, "\n") - 1); walked != (Walked{Entries: n, Complete: true}) {
			t.Errorf("%+v, want %d entries", walked, n)
		}
	})
}

var equateAddrs = cmpopts.EquateComparable(netip.Addr{})

// listed is what conntrack(8) lists in the calling thread's namespace.
func listed(t *testing.T) []string {
	t.Helper()
	return slices.Concat(runConntrack(t, "-L", "-f", "ipv4"), runConntrack(t, "-L", "-f", "ipv6"))
}

// recordDump writes testdata/<kernel>/dump.txt: of each entry the kernel's bytes, and conntrack(8)'s line, which lists them
// in the same order when asked for both families.
func recordDump(t *testing.T) {
	t.Helper()
	lines := runConntrack(t, "-L")
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	request, buf := request(), make([]byte, Chunk)
	err = unix.Sendto(fd, request[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	n, errRead := unix.Read(fd, buf)
	if err := errors.Join(err, errRead); err != nil {
		t.Error(err)
		return
	}
	var text bytes.Buffer
	for b := buf[:n]; len(b) > 0 && len(lines) > 0; lines = lines[1:] {
		size := binary.NativeEndian.Uint32(b)
		fmt.Fprintf(&text, "%s\n%s\n", lines[0], hex.EncodeToString(b[:size]))
		b = b[align4(int(size)):]
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Error(err)
		return
	}
	release := strings.SplitN(unix.ByteSliceToString(uts.Release[:]), ".", 3)
	path := filepath.Join("testdata", release[0]+"."+release[1], "dump.txt")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text.Bytes(), 0o644)); err != nil {
		t.Error(err)
	}
}

// openLab opens the lab with one namespace, whose table has room for 100,000 entries.
func openLab(t *testing.T) (*lab.Lab, *lab.Namespace) {
	t.Helper()
	needsKernel(t)
	l, err := lab.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	ns, err := l.Namespace("census")
	if err := errors.Join(err, l.SetLimit(lab.Max, 100_000)); err != nil {
		t.Fatal(err)
	}
	return l, ns
}

// inside runs f in the namespace.
func inside(t *testing.T, ns *lab.Namespace, f func() error) {
	t.Helper()
	if err := ns.Do(f); err != nil {
		t.Error(err)
	}
}

// TestTakeAgainstConntrack compares each figure of a whole census with what conntrack(8) lists.
func TestTakeAgainstConntrack(t *testing.T) {
	_, ns := openLab(t)
	inside(t, ns, func() error {
		restore(t, mixed(rand.New(rand.NewPCG(1, 1)), 5000))
		exact := countLines(t, listed(t))
		f, err := Take(t.Context(), Options{})
		if err != nil {
			return err
		}
		n := exact.total.entries
		want := &record.Fillers{Time: f.Time, Took: f.Took, Entries: n, Walked: n, Exact: true, IdleFor: 600e9,
			Replied: float64(exact.total.replied) / float64(n), Assured: float64(exact.total.assured) / float64(n),
			Idle: float64(exact.idle) / float64(n)}
		if diff := gocmp.Diff(want, f, cmpopts.EquateApprox(0, 1e-12),
			cmpopts.IgnoreFields(record.Fillers{}, "Src", "SrcNet", "Dst", "Dport", "Proto", "State")); diff != "" {
			t.Errorf("-conntrack +census\n%s", diff)
		}
		if n != 5000 || exact.idle == 0 || f.Took <= 0 || time.Since(f.Time) > time.Minute {
			t.Errorf("%d entries, %d of them idle, at %v in %d ns", n, exact.idle, f.Time, f.Took)
		}
		checkRows(t, "src", f.Src, exact.src, n)
		checkRows(t, "src_net", f.SrcNet, exact.srcNet, n)
		checkRows(t, "dst", f.Dst, exact.dst, n)
		checkRows(t, "dport", f.Dport, exact.dport, n)
		checkRows(t, "proto", f.Proto, exact.proto, n)
		checkRows(t, "state", f.State, exact.state, n)
		return nil
	})
}

// TestSampleError takes samples of tables whose entries are known, each anew, and compares what they are off by with the
// error that they state: the 95 % intervals must hold the truth in 95 % of the cases or more, and not by being boundless.
func TestSampleError(t *testing.T) {
	_, ns := openLab(t)
	const entries, limit = 3000, 500
	rounds := 40
	if testing.Short() {
		rounds = 25
	}
	var intervals, missed int
	var off, stated float64
	inside(t, ns, func() error {
		for round := range rounds {
			runConntrack(t, "-F")
			restore(t, mixed(rand.New(rand.NewPCG(2, uint64(round))), entries))
			exact := countLines(t, listed(t))
			f, err := Take(t.Context(), Options{Limit: limit, Rows: 1000})
			if err != nil {
				return err
			}
			if f.Exact || f.Walked != limit || f.Entries != entries {
				return fmt.Errorf("exact %v, walked %d of %d", f.Exact, f.Walked, f.Entries)
			}
			check := func(got, half float64, n uint64) {
				distance := math.Abs(got - float64(n)/entries)
				intervals, off, stated = intervals+1, off+distance, stated+half
				if half > f.Error+1e-12 {
					t.Errorf("a share is off by %v, any by %v", half, f.Error)
				}
				if distance > half {
					missed++
				}
			}
			check(f.Replied, f.Error, exact.total.replied)
			check(f.Assured, f.Error, exact.total.assured)
			check(f.Idle, f.Error, exact.idle)
			// Of the sources those that are chosen beforehand: the largest of a sample are so by chance too.
			sources := []string{"10.1.0.0", "10.1.0.1", "10.1.0.2", "10.1.0.9", "2001:db8::"}
			for _, rows := range []struct {
				rows  []record.Share
				exact map[string]count
				keys  []string
			}{{f.Src, exact.src, sources}, {f.Proto, exact.proto, nil}, {f.State, exact.state, nil}, {f.Dst, exact.dst, nil}} {
				for _, row := range rows.rows {
					if rows.keys == nil || slices.Contains(rows.keys, row.Key) {
						check(row.Share, row.Error, rows.exact[row.Key].entries)
					}
				}
			}
		}
		return nil
	})
	t.Logf("%d of %d intervals do not hold the truth; off by %.4f on average, stated are %.4f",
		missed, intervals, off/float64(intervals), stated/float64(intervals))
	if missed*100 > intervals*6 { // 5 %, and chance: the kernel's hash is another each time
		t.Errorf("%d of %d intervals do not hold the truth", missed, intervals)
	}
	if stated > 4*off {
		t.Errorf("shares are off by %.4f on average, the stated error is %.4f", off/float64(intervals), stated/float64(intervals))
	}
}

// TestExpired: entries that are expired and still in the table are not counted, and do not make a census inexact.
func TestExpired(t *testing.T) {
	_, ns := openLab(t)
	inside(t, ns, func() error {
		s, err := openSysctls("")
		if err != nil {
			return err
		}
		var before table
		for before.count <= 100 { // the kernel may come by and remove expired entries itself
			runConntrack(t, "-F")
			fillExpired(t)
			if before, err = s.table(); err != nil {
				return err
			}
			f, err := Take(t.Context(), Options{})
			if err != nil {
				return err
			}
			if f.Walked != 100 || f.Entries != 100 || !f.Exact {
				return fmt.Errorf("walked %d of %d, exact %v; the table held %d before", f.Walked, f.Entries, f.Exact, before.count)
			}
		}
		return nil
	})
}

// fillExpired makes 100 entries that last and 200 that are expired when it returns.
func fillExpired(t *testing.T) {
	t.Helper()
	var lines []string
	for i := range 300 {
		timeout := 1
		if i%3 == 0 {
			timeout = 1000
		}
		lines = append(lines, fmt.Sprintf("-p udp -s 192.0.2.1 -d 192.0.2.2 --sport %d --dport 53 -t %d", 1024+i, timeout))
	}
	restore(t, lines)
	// Who asks for one entry removes that one alone, if it is expired. That of the highest port was made last.
	last := []string{"-G", "-p", "udp", "-s", "192.0.2.1", "-d", "192.0.2.2", "--sport", "1323", "--dport", "53"}
	for exec.CommandContext(t.Context(), "conntrack", last...).Run() == nil {
	}
}

// TestLimit stops where it is told, and when the context ends.
func TestLimit(t *testing.T) {
	_, ns := openLab(t)
	if err := ns.Fill(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	inside(t, ns, func() error {
		for limit, want := range map[uint64]Walked{
			1:    {Entries: 1},
			7:    {Entries: 7},
			500:  {Entries: 500},
			1001: {Entries: 1000, Complete: true},
			0:    {Entries: 1000, Complete: true},
		} {
			var n uint64
			got, err := Walk(t.Context(), "", limit, func(*Entry) { n++ })
			if err != nil || got != want || n != want.Entries {
				t.Errorf("limit %d: %+v and %d visits, want %+v: %v", limit, got, n, want, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		got, err := Walk(ctx, "", 0, func(*Entry) { cancel() })
		if !errors.Is(err, context.Canceled) || got.Entries == 0 || got.Entries > 100 {
			t.Errorf("when cancelled: %+v, %v", got, err)
		}
		if f, err := Take(ctx, Options{}); !errors.Is(err, context.Canceled) || f != nil {
			t.Errorf("when cancelled: %+v, %v", f, err)
		}
		return nil
	})
}

// TestAgainstLab compares a census of the lab's own entries with the lab's count of them.
func TestAgainstLab(t *testing.T) {
	_, ns := openLab(t)
	if err := errors.Join(ns.Fill(t.Context(), 3000), ns.FillEvictable(t.Context(), 2000), ns.FillIdle(t.Context(), 1000, time.Hour)); err != nil {
		t.Fatal(err)
	}
	inside(t, ns, func() error {
		f, err := Take(t.Context(), Options{})
		entries, errLab := ns.Entries()
		if err := errors.Join(err, errLab); err != nil {
			return err
		}
		n := float64(entries.Total)
		if f.Walked != entries.Total || f.Replied != float64(entries.Replied)/n || f.Assured != float64(entries.Assured)/n || f.Idle != 1000/n {
			t.Errorf("%+v, want %+v", f, entries)
		}
		// There are more sources than a ranking has room for: what it says of one still holds.
		for _, row := range f.Src {
			if row.Entries != 1 || row.Error == 0 || row.Error > 6./keys {
				t.Errorf("%+v of a source with one entry", row)
			}
		}
		return nil
	})
}

// TestResize: a resize in the middle of a walk shows, which the kernel does not say by itself.
func TestResize(t *testing.T) {
	l, ns := openLab(t)
	if err := ns.Fill(t.Context(), 2000); err != nil {
		t.Fatal(err)
	}
	buckets, err := l.Limit(lab.Buckets)
	if err != nil {
		t.Fatal(err)
	}
	inside(t, ns, func() error {
		s, err := openSysctls("")
		if err != nil {
			return err
		}
		before, errBefore := s.table()
		var resized bool
		walked, errWalk := Walk(t.Context(), "", 0, func(*Entry) {
			if !resized {
				set := make(chan error)
				go func() { set <- l.SetLimit(lab.Buckets, buckets+4096) }() // this thread's namespace may not
				resized, err = true, <-set
			}
		})
		after, errAfter := s.table()
		if err := errors.Join(err, errBefore, errWalk, errAfter); err != nil {
			return err
		}
		t.Logf("%+v", walked)
		if f, _ := judge(walked, before, after); !f.Interrupted || f.Exact {
			t.Errorf("%+v after %+v became %+v", f, before, after)
		}
		return nil
	})
}

// TestSparseTable: a table of nearly nothing among a million buckets is left alone.
func TestSparseTable(t *testing.T) {
	l, ns := openLab(t)
	if err := errors.Join(l.SetLimit(lab.Buckets, 1<<20), ns.Fill(t.Context(), 5)); err != nil {
		t.Fatal(err)
	}
	inside(t, ns, func() error {
		if f, err := Take(t.Context(), Options{}); !errors.Is(err, ErrSparse) || f != nil {
			t.Errorf("%+v, %v", f, err)
		}
		return nil
	})
}

// TestWithoutCapability says what is missing.
func TestWithoutCapability(t *testing.T) {
	needsKernel(t)
	inNamespace(t, func(ctx context.Context) {
		insert(t, "-p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 -t 1000") // loads ctnetlink, where that is a module
		var data [2]unix.CapUserData                                              // none; of this thread alone
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
			t.Errorf("drop capabilities: %v", err)
			return
		}
		_, err := Take(ctx, Options{})
		if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "needs CAP_NET_ADMIN") {
			t.Errorf("without capabilities: %v", err)
		}
	})
}
