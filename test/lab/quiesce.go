package lab

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long the lab waits for what takes a fast machine milliseconds.
const settle = time.Minute

// await waits until done says so, for at most settle.
func await(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		}
	}
}

// quiesce returns when every packet that was handed to a veth before the call has been through the receiver's
// hooks: no CPU has any in its backlog, and each has since run a thread of ours, which it does not do in the
// middle of a packet.
func quiesce() error {
	if err := await(context.Background(), "empty backlogs", backlogsEmpty); err != nil {
		return err
	}
	cpus, err := CPUs()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not given back: the thread ends with its affinity
		for _, cpu := range cpus {
			if err := pin(cpu); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return <-done
}

// backlogsEmpty looks at the column of /proc/net/softnet_stat that Linux 5.10 added: the packets in the CPU's
// backlog (softnet_seq_show). Without it, backlogs pass for empty.
func backlogsEmpty() (bool, error) {
	const column = 11
	text, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) <= column {
			continue
		}
		if n, err := strconv.ParseUint(fields[column], 16, 32); err != nil || n > 0 {
			return false, err
		}
	}
	return true, nil
}

// pin binds the calling thread to a CPU.
func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin thread to CPU %d: %w", cpu, err)
	}
	return nil
}

// yield lets other threads run on this CPU, which runtime.Gosched does not.
func yield() { _, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// CPUs are those this thread may run on.
func CPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read affinity: %w", err)
	}
	var cpus []int
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}
