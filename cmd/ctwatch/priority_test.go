package main

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/test/need"
)

// policies are those of this process's threads, by how many have them.
func policies(t *testing.T) map[uint32]int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	found := map[uint32]int{}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		attr, err := unix.SchedGetAttr(tid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		found[attr.Policy]++
	}
	return found
}

// TestHurry: every thread goes before others, until one has a CPU for itself for too long.
func TestHurry(t *testing.T) {
	need.Root(t)
	broken := make(chan struct{})
	end, err := hurry(func() { close(broken) })
	if err != nil {
		t.Fatal(err)
	}
	if got := policies(t); got[unix.SCHED_RR] == 0 || len(got) != 1 {
		t.Errorf("policies %v", got)
	}
	// As many as can run at once: a thread that hands its work to an idle one waits for the next.
	var spinners sync.WaitGroup
	deadline := time.Now().Add(20 * time.Second)
	for range runtime.GOMAXPROCS(0) {
		spinners.Go(func() {
			for {
				select {
				case <-broken:
					return
				default:
					if time.Now().After(deadline) {
						t.Error("the leash did not hold")
						return
					}
				}
			}
		})
	}
	spinners.Wait()
	if got := policies(t); got[unix.SCHED_NORMAL] == 0 || len(got) != 1 {
		t.Errorf("policies %v after that", got)
	}
	end()
	var limit unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_RTTIME, nil, &limit); err != nil || limit.Cur == uint64(leash.Microseconds()) {
		t.Errorf("limit %+v, %v", limit, err)
	}
}

func TestHurryEnds(t *testing.T) {
	need.Root(t)
	end, err := hurry(func() { t.Error("broken") })
	if err != nil {
		t.Fatal(err)
	}
	end()
	if got := policies(t); got[unix.SCHED_NORMAL] == 0 || len(got) != 1 {
		t.Errorf("policies %v", got)
	}
}
