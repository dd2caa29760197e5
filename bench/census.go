package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/census"
	"github.com/ctwatch/ctwatch/test/lab"
)

const (
	tableSize    = 1_000_000
	tableBuckets = 1 << 20
	walks        = 7  // of each kind
	samples      = 21 // they are short
)

// walkTable measures the walk of a table of a million entries, each from another source: nothing is harder to rank.
func walkTable(ctx context.Context, l *lab.Lab) (ok bool, err error) {
	ns, err := l.Namespace("large")
	if err != nil {
		return false, err
	}
	if err := errors.Join(l.SetLimit(lab.Max, tableSize), l.SetLimit(lab.Buckets, tableBuckets)); err != nil {
		return false, err
	}
	if err := ns.Fill(ctx, tableSize); err != nil {
		return false, err
	}
	err = ns.Do(func() error {
		ok, err = compareWalks(ctx)
		return err
	})
	return ok, err
}

// compareWalks has each walk of the whole table follow a bare dump, with which it is compared. It needs a thread in the
// namespace of the table.
func compareWalks(ctx context.Context) (ok bool, err error) {
	var bare, whole, sample []spent
	var growth, ratios []float64
	for range walks {
		b, err := timed(dumpBare)
		if err != nil {
			return false, err
		}
		var w spent
		grown, err := growthOf(func() error {
			w, err = timed(func() error { return takeOne(ctx, 0) })
			return err
		})
		if err != nil {
			return false, err
		}
		bare, whole, growth = append(bare, b), append(whole, w), append(growth, grown)
		ratios = append(ratios, w.cpu/b.cpu)
	}
	for range samples {
		s, err := timed(func() error { return takeOne(ctx, census.Sample) })
		if err != nil {
			return false, err
		}
		sample = append(sample, s)
	}
	ratio, ms, mib := median(ratios), 1000*median(walls(sample)), slices.Max(growth)/(1<<20)
	fmt.Printf("census of %d entries, %d walks of each kind in turn, medians\n", tableSize, walks)
	fmt.Printf("  bare dump        %8.3f s     %.3f s of CPU\n", median(walls(bare)), median(cpus(bare)))
	fmt.Printf("  whole census     %8.3f s     %.3f s of CPU\n", median(walls(whole)), median(cpus(whole)))
	fmt.Printf("  ratio of CPU     %8.2f       wanted <= 1.2\n", ratio)
	fmt.Printf("  sample of %-6d %8.1f ms     wanted <= 50\n", census.Sample, ms)
	fmt.Printf("  peak RSS grew by %8.1f MiB    wanted <= 32\n", mib)
	if spread := slices.Max(walls(bare)) / slices.Min(walls(bare)); spread > 1.1 {
		fmt.Printf("  noisy: the slowest bare dump took %.2f times as long as the fastest\n", spread)
	}
	return ratio <= 1.2 && ms <= 50 && mib <= 32, nil
}

// spent is seconds: on the clock, and of the CPU by this thread, which is the same unless others want the CPU too.
type spent struct{ wall, cpu float64 }

func walls(all []spent) (v []float64) {
	for _, s := range all {
		v = append(v, s.wall)
	}
	return v
}

func cpus(all []spent) (v []float64) {
	for _, s := range all {
		v = append(v, s.cpu)
	}
	return v
}

// timed needs a locked thread.
func timed(f func() error) (spent, error) {
	var before, after unix.Timespec
	begun := time.Now()
	err := errors.Join(unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &before), f(),
		unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &after))
	return spent{time.Since(begun).Seconds(), time.Duration(after.Nano() - before.Nano()).Seconds()}, err
}

// takeOne takes a census and checks that it is one.
func takeOne(ctx context.Context, limit uint64) error {
	f, err := census.Take(ctx, census.Options{Limit: limit})
	if err != nil {
		return err
	}
	want := uint64(tableSize)
	if limit > 0 {
		want = limit
	}
	if f.Walked != want || f.Entries != tableSize {
		return fmt.Errorf("walked %d of %d entries, not %d of %d", f.Walked, f.Entries, want, tableSize)
	}
	return nil
}

// dumpBare reads the table as a census does, and throws it away.
func dumpBare() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request := make([]byte, unix.SizeofNlMsghdr+4)
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], unix.NFNL_SUBSYS_CTNETLINK<<8|1) // IPCTNL_MSG_CT_GET
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, census.Chunk)
	for {
		if _, err := unix.Read(fd, buf); err != nil {
			return err
		}
		switch binary.NativeEndian.Uint16(buf[4:]) {
		case unix.NLMSG_DONE: // comes alone
			return nil
		case unix.NLMSG_ERROR:
			return errors.New("the kernel refused the dump")
		}
	}
}

// growthOf returns by how many bytes f raises the process's memory at its peak.
func growthOf(f func() error) (bytes float64, err error) {
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the peak is now what there is
		return 0, err
	}
	before, err := peakRSS(os.Getpid())
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := peakRSS(os.Getpid())
	return float64(after - before), err
}
