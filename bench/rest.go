package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/test/lab"
)

const (
	namespaces = 100
	settle     = 15 * time.Second // what moved at the start is looked at more often for a while
	observe    = 60 * time.Second
)

// rest measures the daemon when nothing happens, on a machine with many namespaces.
func rest(ctx context.Context, l *lab.Lab, ctwatch string) (ok bool, err error) {
	for i := range namespaces {
		ns, err := l.Namespace(fmt.Sprintf("n%d", i))
		if err != nil {
			return false, err
		}
		if err := ns.Track(); err != nil {
			return false, err
		}
	}
	cmd := exec.CommandContext(ctx, ctwatch, "run", "--format", "json")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return false, err
	}
	defer func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		err = errors.Join(err, cmd.Wait())
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return false, errors.New("ctwatch did not start")
	}
	attached := time.Since(begun)
	go func() {
		for lines.Scan() { // keep the pipe empty
		}
	}()
	if err := sleep(ctx, settle); err != nil {
		return false, err
	}
	before, err := cpuTime(cmd.Process.Pid)
	if err != nil {
		return false, err
	}
	if err := sleep(ctx, observe); err != nil {
		return false, err
	}
	after, err := cpuTime(cmd.Process.Pid)
	if err != nil {
		return false, err
	}
	rss, err := peakRSS(cmd.Process.Pid)
	if err != nil {
		return false, err
	}
	cpu := 100 * float64(after-before) / float64(observe)
	fmt.Printf("the daemon at rest, %d namespaces that track, %v\n", namespaces, observe)
	fmt.Printf("  start to attached  %8d ms    wanted < 300\n", attached.Milliseconds())
	fmt.Printf("  CPU                %8.3f %%     wanted <= 0.1\n", cpu)
	fmt.Printf("  peak RSS           %8.1f MiB   wanted < 32\n", float64(rss)/(1<<20))
	return attached < 300*time.Millisecond && cpu <= 0.1 && rss < 32<<20, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// cpuTime is what all threads of a process spent on a CPU, from /proc/PID/task/TID/schedstat.
func cpuTime(pid int) (total time.Duration, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("parse %s: %w", f, err)
		}
		total += time.Duration(ns)
	}
	return total, nil
}

// peakRSS is VmHWM in bytes.
func peakRSS(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.ParseUint(strings.Fields(value)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no VmHWM in /proc/PID/status")
}
