package main

import (
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

const (
	// screenRoom is how many records wait for a slow reader. More are lost to it, which shows as gaps in seq.
	screenRoom = 8192
	// screenPatience is how long the end of a run waits for one.
	screenPatience = 2 * time.Second
)

// screen prints records beside the run, which it never keeps waiting.
type screen struct {
	records chan record.Record
	done    chan struct{}
	lost    int
}

// newScreen begins to print. failed is called once, with the first error.
func newScreen(p printer, failed func(error)) *screen {
	s := &screen{records: make(chan record.Record, screenRoom), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		broken := false
		for r := range s.records {
			if broken {
				continue
			}
			if err := p.Record(r); err != nil {
				broken = true
				failed(err)
			}
		}
	}()
	return s
}

func (s *screen) show(r record.Record) {
	select {
	case s.records <- r:
	default:
		s.lost++
	}
}

// close prints what is left, and returns how many records were not printed for want of room or time.
func (s *screen) close() int {
	close(s.records)
	select {
	case <-s.done:
	case <-time.After(screenPatience):
		s.lost += len(s.records)
	}
	return s.lost
}
