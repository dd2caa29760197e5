// Package hook calls the operator's program when an incident opens, grows or closes, and after each action of ctwatch.
//
// The hook is somebody else's program, run as root on a machine that is in trouble, with text in its hands that came from
// the network. So it runs without capabilities and without a shell of ours, gets that text on its standard input and
// nowhere else, and may hang, flood or fork as it likes: whoever calls it never waits, and one hook runs at a time.
package hook

import (
	"cmp"
	"encoding/json"
	"path/filepath"
	"sync"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// unread is how many results wait for their reader. When there are more, the next call waits, and calls are skipped.
const unread = 16

// Options says what is called, and how long and how often it may run.
type Options struct {
	// Path is the program's, absolute and without symbolic links. It and every directory above it are root's, and nobody
	// else may write to them.
	Path    string
	Timeout time.Duration // until it is told to end (SIGTERM); 0 is 10 s
	Grace   time.Duration // from then until it is killed, and from its end until children give its output up; 0 is 2 s
	Linger  time.Duration // how long Close lets it run on; 0 is 5 s
	Output  int           // bytes of its output that are kept; 0 is 64 KiB

	// Burst calls may come at once (0 is 10), and one more for each Every (0 is 10 s) that has passed. Whoever can fill the
	// table from outside can make incidents come and go as he likes. Without a limit he would also decide how often a
	// program of root's runs, how many mails go out, and what the short messages cost. A call that comes too early waits;
	// those that come meanwhile are skipped, as behind a hook that is slow.
	Burst int
	Every time.Duration
}

func (o Options) withDefaults() Options {
	o.Path = filepath.Clean(o.Path)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	o.Grace = cmp.Or(o.Grace, 2*time.Second)
	o.Linger = cmp.Or(o.Linger, 5*time.Second)
	o.Output = cmp.Or(o.Output, 64<<10)
	o.Burst = cmp.Or(o.Burst, 10)
	o.Every = cmp.Or(o.Every, 10*time.Second)
	return o
}

// Hook is the operator's program, and the calls of it.
type Hook struct {
	options Options
	results chan Result
	wake    chan struct{} // there is a call
	closing chan struct{} // closed when no more calls come
	kill    chan struct{} // closed when what runs has to end
	ended   chan struct{} // closed when the worker has

	mu      sync.Mutex
	closed  bool
	calls   []*call // at most one that runs or is next, and one that waits behind it
	skipped uint64  // since the last call began
	total   uint64  // skipped, all
}

// call is one record that the hook is to be told.
type call struct {
	record  record.Record // a copy of what was given to Call
	line    []byte        // the same as JSON
	at      time.Time
	started bool
}

func newCall(r record.Record) (*call, error) {
	line, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	same, err := record.Parse(line)
	if err != nil {
		return nil, err
	}
	return &call{record: same, line: append(line, '\n'), at: time.Now()}, nil
}

// Open checks that the program is fit to be called, as a *UnfitError says where it is not, and makes ready to call it.
//
// The program is not held open: a path is checked again at each call, and what is then found there is run. So a hook that
// an editor or a package replaced is used in its new form, and one that has become unfit since is not run.
func Open(o Options) (*Hook, error) {
	o = o.withDefaults()
	if err := tryOut(o.Path); err != nil {
		return nil, err
	}
	if err := closeOnExec(); err != nil {
		return nil, err
	}
	h := &Hook{
		options: o,
		results: make(chan Result, unread),
		wake:    make(chan struct{}, 1),
		closing: make(chan struct{}),
		kill:    make(chan struct{}),
		ended:   make(chan struct{}),
	}
	go h.work()
	return h, nil
}

// Call has the hook told of an incident or an action, and never waits. The record has its envelope (record.Stamp) and may
// be changed as soon as Call returns. One call runs and one more waits; a record for which there is no room is skipped:
// Call returns false, and the next call that begins is told how many were. A newer record of an incident takes the place
// of an update of it that still waits, which is then skipped.
func (h *Hook) Call(r record.Record) bool {
	c, err := newCall(r)
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.calls) - 1
	switch {
	case err != nil || h.closed:
		h.skip(1)
		return false
	case last >= 0 && !h.calls[last].started && supersedes(c.record, h.calls[last].record):
		h.skip(1)
		h.calls[last] = c
	case len(h.calls) == 2:
		h.skip(1)
		return false
	default:
		h.calls = append(h.calls, c)
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return true
}

// skip counts calls that are not made. h.mu is held.
func (h *Hook) skip(n uint64) {
	h.skipped += n
	h.total += n
}

// Skipped is how many calls have been skipped so far.
func (h *Hook) Skipped() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

// Done tells how each call ended, in their order. It is closed after Close, when all has been told. Somebody has to read
// it: after 16 results that nobody took, the hook is not called.
func (h *Hook) Done() <-chan Result { return h.results }

// Close takes no more calls, lets the one that runs and the one that waits end for as long as Options.Linger, kills what
// runs then, and closes Done. It takes Linger and three times Grace at most, and may be called again. How the last calls
// ended, Done tells; the error is nil, and there to make it an io.Closer.
func (h *Hook) Close() error {
	h.mu.Lock()
	first := !h.closed
	h.closed = true
	h.mu.Unlock()
	if first {
		close(h.closing)
		if !within(h.ended, h.options.Linger) {
			close(h.kill)
		}
	}
	<-h.ended
	return nil
}
