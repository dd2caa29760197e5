package watch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ctwatch/ctwatch/internal/boot"
	"github.com/ctwatch/ctwatch/internal/census"
	"github.com/ctwatch/ctwatch/internal/netns"
	"github.com/ctwatch/ctwatch/internal/record"
)

const (
	// bootAge is how old what the next boot gives may be, where many tables are looked into one after the other.
	bootAge = 10 * time.Second
	// lookPause is what comes before each look: a look keeps a CPU busy for twice as long.
	lookPause = 10 * time.Millisecond
	// mostSurveys is how many tables wait to be looked into at a time.
	mostSurveys = 64
)

// surveyor looks into tables, one after the other, and into the files that say what the next boot gives. Both may take
// long: counting does not wait for it.
type surveyor struct {
	finder  *netns.Finder
	root    string
	ctx     context.Context
	cancel  context.CancelFunc
	wanted  chan netns.Namespace
	done    chan survey
	pending int
	ended   sync.WaitGroup
}

// survey is what one look found.
type survey struct {
	ns      netns.Namespace // the zero Namespace: only for what the next boot gives
	fillers *record.Fillers
	err     error // why there are no fillers
	boot    boot.Outlook
	bootErr error
}

func newSurveyor(f *netns.Finder, root string) *surveyor {
	s := &surveyor{finder: f, root: root, wanted: make(chan netns.Namespace, mostSurveys), done: make(chan survey, mostSurveys)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.ended.Go(s.work)
	return s
}

// ask has the table of a namespace looked into, and reports whether there is room for one more.
func (s *surveyor) ask(ns netns.Namespace) bool {
	if s.pending == mostSurveys {
		return false
	}
	s.pending++
	s.wanted <- ns
	return true
}

func (s *surveyor) work() {
	var outlook boot.Outlook
	var bootErr error
	var read time.Time
	for ns := range s.wanted {
		found := survey{ns: ns}
		if ns.Path != "" {
			s.pause()
			found.err = s.finder.Enter(ns, func() (err error) {
				found.fillers, err = census.Take(s.ctx, census.Options{Root: s.root, Limit: census.Sample})
				return err
			})
			if errors.Is(found.err, netns.ErrGone) {
				found.err = errors.New("the namespace is gone")
			}
		}
		if time.Since(read) >= bootAge || ns.Path == "" {
			read = time.Now()
			outlook, bootErr = boot.Read(s.root)
		}
		found.boot, found.bootErr = outlook, bootErr
		s.done <- found
	}
}

// pause leaves the CPUs to whoever is told of the incident, and some time between two looks.
func (s *surveyor) pause() {
	select {
	case <-time.After(lookPause):
	case <-s.ctx.Done():
	}
}

func (s *surveyor) close() {
	s.cancel()
	close(s.wanted)
	s.ended.Wait()
}
