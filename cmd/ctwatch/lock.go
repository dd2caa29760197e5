package main

import (
	"errors"
	"fmt"

	"github.com/ctwatch/ctwatch/internal/control"
)

// runningError: another instance holds the lock.
type runningError struct{ holder string }

func (e runningError) Error() string { return "another instance is running" + e.holder }

// errNoLock: the lock could not be tried, for want of a place to keep it. That is no reason not to count.
var errNoLock = errors.New("no lock could be taken, so a second instance would not be noticed")

// lock takes the lock of a run, which the kernel gives back however we end.
func lock(root string) (release func(), err error) {
	release, err = control.LockRun(root)
	var running *control.RunningError
	switch {
	case errors.As(err, &running) && running.PID != "":
		return nil, runningError{fmt.Sprintf(" (pid %s)", printable(running.PID))}
	case errors.As(err, &running):
		return nil, runningError{}
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errNoLock, err)
	}
	return release, nil
}
