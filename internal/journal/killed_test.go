package journal

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// writeUntilKilled writes records, as a process of its own, and says the seq of the last one that is synced.
func writeUntilKilled(dir string) {
	w, err := Open(Options{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	p := newPen()
	p.wall = time.Now()
	if err := w.Record(p.next(&record.Start{})); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for n := 0; ; n++ {
		if err := w.Record(p.mixed(n)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if n%8 > 0 {
			continue
		}
		for w.State().Pending > 0 {
			<-time.After(10 * time.Microsecond)
		}
		fmt.Println(p.seq)
	}
}

// TestKilled: what was synced is there after a kill -9, and after another one.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	var synced []uint64 // of each run, the last seq that was said to be
	for run := range 4 {
		synced = append(synced, kill(t, dir, 5+20*run))
	}
	last, runs := uint64(0), 0
	d, err := Read(context.Background(), dir, Window{}, func(l *Line) error {
		if _, err := l.Record(); err != nil {
			return err
		}
		switch {
		case l.Kind == record.KindStart:
			if runs > 0 && last < synced[runs-1] {
				t.Errorf("run %d: %d is the last, and %d was synced", runs, last, synced[runs-1])
			}
			runs++
		case l.Seq != last+1:
			t.Errorf("run %d: seq %d follows %d", runs, l.Seq, last)
		}
		last = l.Seq
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if runs != len(synced) || last < synced[runs-1] {
		t.Errorf("%d runs, want %d; %d is the last, and %d was synced", runs, len(synced), last, synced[len(synced)-1])
	}
	if d.Lines > len(synced) || d.Torn > 1 {
		t.Errorf("more than the ends of %d runs is damaged: %+v", len(synced), d)
	}
}

// kill runs a process that writes until it has said something a number of times, kills it, and returns what it said last.
func kill(t *testing.T, dir string, times int) uint64 {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CTWATCH_TEST_JOURNAL="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	lines := bufio.NewReader(out)
	last := uint64(0)
	for n := 0; ; n++ {
		line, err := lines.ReadString('\n')
		if err != nil {
			return last // all that it said before it was killed
		}
		if last, err = strconv.ParseUint(strings.TrimSpace(line), 10, 64); err != nil {
			t.Fatalf("the process said %q", line)
		}
		if n == times {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
