package lab

import (
	"context"
	"runtime"
	"sort"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pace is how often what is due is sent.
	pace = time.Millisecond
	// burst is how many frames a system call sends when nothing holds them back: few, so that the time of each is
	// known to some tens of microseconds.
	burst = 16
)

// stream sends the first packets of a ramp's connections.
type stream struct {
	Ramp
	path  *Path
	first flow
	count int

	fd       int
	begun    time.Time
	took     time.Duration
	sendings []sending
}

// sending is a system call: from which place in the ramp on it sent, and from when to when, since the beginning.
type sending struct {
	from       int
	began, end time.Duration
}

func newStream(p *Path, r Ramp) *stream {
	count := r.To - r.From
	return &stream{
		Ramp: r, path: p, count: count, first: p.Client.link.take(count), fd: -1,
		sendings: make([]sending, 0, count/burst+1),
	}
}

// open opens the socket.
func (s *stream) open() error {
	end := s.path.Client
	return end.Namespace.Do(func() (err error) {
		s.fd, err = openWire(end.Index, 0)
		return err
	})
}

// run sends all, from a thread of its own.
func (s *stream) run(ctx context.Context) error {
	end := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		end <- s.send(ctx)
	}()
	return <-end
}

func (s *stream) send(ctx context.Context) error {
	w := newWriter(batch)
	size := batch
	if s.Rate == 0 {
		size = burst
	}
	size = max(size/len(s.Kinds), 1) * len(s.Kinds) // so that each place of a batch has the same kind every time
	frames := make([]*frame, size)
	for i := range frames {
		frames[i] = s.path.Client.newFrame(s.path.Server, s.Kinds[i%len(s.Kinds)], rampPort)
		frames[i].spread()
		if s.OneNet {
			frames[i].narrow()
		}
	}
	s.begun = time.Now()
	for done := 0; done < s.count; {
		if err := ctx.Err(); err != nil {
			return err
		}
		began := time.Since(s.begun)
		n := min(size, s.due(began)-done)
		if n < len(s.Kinds) && done+n < s.count {
			s.wait(done + len(s.Kinds))
			continue
		}
		if done+n < s.count {
			n -= n % len(s.Kinds)
		}
		w.clear()
		for i := range n {
			frames[i].set(s.first + flow(done+i))
			w.add(frames[i].bytes)
		}
		if err := w.flush(s.fd); err != nil {
			return err
		}
		s.sendings = append(s.sendings, sending{done, began, time.Since(s.begun)})
		done += n
	}
	s.took = time.Since(s.begun)
	return nil
}

// due is how many connections are to have begun after some time.
func (s *stream) due(after time.Duration) int {
	if s.Rate == 0 {
		return s.count
	}
	return min(s.count, int(after.Seconds()*float64(s.Rate)))
}

// wait returns when so many connections are due, and not before the next beat.
func (s *stream) wait(count int) {
	at := time.Duration(float64(count)/float64(s.Rate)*float64(time.Second)) + time.Microsecond
	left := unix.NsecToTimespec(int64(max(pace, at-time.Since(s.begun))))
	_ = unix.Nanosleep(&left, nil) // a signal ends it early, and then it is called again
}

// outage is the time between the sending of the first connection that did not arrive and that of the last.
func (s *stream) outage(arrived flows) time.Duration {
	first, last := -1, -1
	for i := range s.count {
		if !arrived.has(i) {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first < 0 {
		return 0
	}
	return s.sending(last).end - s.sending(first).began
}

// sending is the system call that sent a connection's packet.
func (s *stream) sending(i int) sending {
	return s.sendings[sort.Search(len(s.sendings), func(j int) bool { return s.sendings[j].from > i })-1]
}

// Close closes the socket.
func (s *stream) Close() error {
	if s.fd < 0 {
		return nil
	}
	return unix.Close(s.fd)
}
