package hook

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// work makes the calls, one after the other, until the Hook is closed and none is left.
func (h *Hook) work() {
	defer close(h.ended)
	defer close(h.results)
	rate := bucket{size: h.options.Burst, every: h.options.Every}
	for h.awaitCall() {
		// At the end nothing more can come too often.
		within(h.closing, rate.take(time.Now()))
		c, skipped, ok := h.begin()
		if !ok {
			h.giveUp()
			return
		}
		r, gone := h.run(c, skipped)
		h.end()
		h.tell(r)
		select { // one at a time, also where one does not die
		case <-gone:
		case <-h.closing:
			if !within(gone, 0) {
				h.giveUp()
				return
			}
		}
	}
}

// awaitCall waits until there is a call, and returns false where none is left and none will come.
func (h *Hook) awaitCall() bool {
	for {
		h.mu.Lock()
		some, closed := len(h.calls) > 0, h.closed
		h.mu.Unlock()
		if some || closed {
			return some
		}
		select {
		case <-h.wake:
		case <-h.closing:
		}
	}
}

// begin takes the next call, and how many were skipped before it. It is too late for it, ok is false, when what runs has
// to end.
func (h *Hook) begin() (c *call, skipped uint64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if within(h.kill, 0) {
		return nil, 0, false
	}
	c, skipped = h.calls[0], h.skipped
	c.started, h.skipped = true, 0
	return c, skipped, true
}

// giveUp skips the calls that are left.
func (h *Hook) giveUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.skip(uint64(len(h.calls)))
	h.calls = nil
}

// end makes room for another call.
func (h *Hook) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = h.calls[1:]
}

// tell passes a result on. Who reads none until the hook has to end, does not get those that found no room.
func (h *Hook) tell(r Result) {
	select {
	case h.results <- r:
		return
	default:
	}
	select {
	case h.results <- r:
	case <-h.kill:
	}
}

// run makes one call. gone is closed when nothing of it is left, which may be later: a process that hangs in the kernel
// does not die when it is killed.
func (h *Hook) run(c *call, skipped uint64) (r Result, gone <-chan struct{}) {
	begin := time.Now()
	r = Result{Record: c.record, Exit: -1, Waited: begin.Sub(c.at), Skipped: skipped}
	patience := time.NewTimer(h.options.Timeout)
	defer patience.Stop()
	out := output{limit: h.options.Output}
	starting := start(h.options.Path, c.environ(skipped), c.line, &out)
	var s started
	select {
	case s = <-starting:
	case <-patience.C:
		return h.neverStarted(r, begin, starting)
	case <-h.kill:
		return h.neverStarted(r, begin, starting)
	}
	if s.err != nil {
		r.Err, r.Took = s.err, time.Since(begin)
		nothing := make(chan struct{})
		close(nothing)
		return r, nothing
	}
	var ended bool
	r.TimedOut, ended = h.supervise(s.child, patience.C)
	r.Took = time.Since(begin)
	r.Left = ended && !within(s.child.silent, h.options.Grace)
	s.child.finish()
	r.Output, r.Discarded = out.text(), out.discarded
	if !ended {
		r.Err = fmt.Errorf("hook %s: its process %d does not die, it hangs in the kernel", h.options.Path, s.child.pid)
		return r, s.child.gone
	}
	<-s.child.gone
	if status := s.child.status; status.Signaled() {
		r.Signal = status.Signal()
	} else {
		r.Exit = status.ExitStatus()
	}
	return r, s.child.gone
}

// supervise waits until the hook has ended, and sees to it that it does.
func (h *Hook) supervise(c *child, patience <-chan time.Time) (timedOut, ended bool) {
	select {
	case <-c.exited:
		return false, true
	case <-patience:
	case <-h.kill:
	}
	for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL} {
		c.signal(s)
		if within(c.exited, h.options.Grace) {
			return true, true
		}
	}
	return true, false
}

// neverStarted gives up a call whose program has not started in time. Should it start after all, it is ended.
func (h *Hook) neverStarted(r Result, begin time.Time, starting <-chan started) (Result, <-chan struct{}) {
	r.TimedOut, r.Took = true, time.Since(begin)
	r.Err = fmt.Errorf("hook %s: the file system that it is on does not answer", h.options.Path)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if s := <-starting; s.child != nil {
			s.child.finish()
			<-s.child.gone
		}
	}()
	return r, gone
}

// within waits until a channel is closed, for so long at most, and reports whether it is.
func within(closed <-chan struct{}, limit time.Duration) bool {
	select {
	case <-closed:
		return true
	default:
	}
	if limit <= 0 {
		return false
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-closed:
		return true
	case <-timer.C:
		return false
	}
}
