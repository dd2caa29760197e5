package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// leash is how long a thread of ours may have a CPU to itself, without once waiting for anything, before all of them go
// back to where everybody is (RLIMIT_RTTIME).
const leash = 500 * time.Millisecond

// hurried is a run that goes before others, once it is attached: to load a program may take a CPU for long.
type hurried struct {
	log *slog.Logger
	end func() // nil: it does not
}

func (h *hurried) begin() {
	if h.end != nil {
		return
	}
	const late = "limits may be raised late while the CPUs are busy: "
	end, err := hurry(func() {
		h.log.Warn(late + "ctwatch had one to itself for too long, and does not go before others any more")
	})
	if h.end = end; err != nil {
		h.end = func() {}
		h.log.Warn(late + err.Error())
	}
}

func (h *hurried) close() {
	if h.end != nil {
		h.end()
	}
}

// hurry has this process go before others: while packets are being lost, those who send and receive them have the CPUs, and
// a raise that takes a millisecond of one would come tens of milliseconds later. Threads that are made later take after
// those that make them. They take turns (SCHED_RR): one that does not end must not keep the one that would end it from running.
// broken is called if the leash was needed. end goes back.
func hurry(broken func()) (end func(), err error) {
	before := unix.Rlimit{}
	if err := unix.Prlimit(0, unix.RLIMIT_RTTIME, &unix.Rlimit{Cur: uint64(leash.Microseconds()), Max: math.MaxUint64}, &before); err != nil {
		return nil, fmt.Errorf("bound real time: %w", err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGXCPU)
	if err := schedule(unix.SchedAttr{Policy: unix.SCHED_RR, Priority: 1}); err != nil {
		signal.Stop(signals)
		return nil, errors.Join(err, schedule(unix.SchedAttr{}))
	}
	done := make(chan struct{})
	go func() {
		defer signal.Stop(signals)
		select {
		case <-signals:
			_ = schedule(unix.SchedAttr{})
			broken()
		case <-done:
		}
	}()
	return func() {
		close(done)
		_ = schedule(unix.SchedAttr{})
		_ = unix.Prlimit(0, unix.RLIMIT_RTTIME, &before, nil)
	}, nil
}

// schedule sets how all threads of this process are scheduled. The zero SchedAttr is how any process is.
func schedule(attr unix.SchedAttr) error {
	attr.Size = unix.SizeofSchedAttr
	done := map[string]bool{}
	for more := true; more; { // a thread that was not reached yet may have made another
		more = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("raise own priority: %w", err)
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || done[task.Name()] {
				continue
			}
			// A thread may have ended meanwhile.
			if err := unix.SchedSetAttr(tid, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("raise own priority: %w", err)
			}
			done[task.Name()], more = true, true
		}
	}
	return nil
}
