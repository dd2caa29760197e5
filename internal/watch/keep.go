package watch

import (
	"cmp"
	"strings"
	"sync"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/persist"
	"github.com/ctwatch/ctwatch/internal/record"
)

// keeper sees to it that a raise can be taken back (`ctwatch limit undo`) and, if that is wanted, that it survives a
// reboot. Both write to disks, which may take long: raising does not wait for it.
type keeper struct {
	o       persist.Options
	persist bool
	raises  chan raise
	done    chan *record.Action
	ended   sync.WaitGroup
	once    sync.Once
}

// raise is what was done to the limits.
type raise struct{ from, to conntrack.Limits }

// mostRaises is how many raises wait to be kept. A run has less.
const mostRaises = 64

func newKeeper(o Options) *keeper {
	k := &keeper{
		o:       persist.Options{Root: cmp.Or(o.Files, o.Root), Version: o.Version},
		persist: o.Persist,
		raises:  make(chan raise, mostRaises),
		done:    make(chan *record.Action, mostRaises),
	}
	k.ended.Go(k.work)
	return k
}

func (k *keeper) keep(from, to conntrack.Limits) {
	select {
	case k.raises <- raise{from, to}:
	default:
	}
}

func (k *keeper) work() {
	for r := range k.raises {
		begun := time.Now()
		a := &record.Action{What: record.ActionPersist, From: r.from.Max, To: r.to.Max}
		err := k.note(r, a)
		switch {
		case err != nil:
			a.Result, a.Why = record.ResultFailed, err.Error()
		case !k.persist:
			continue // nobody wanted to know
		default:
			a.Result = record.ResultApplied
		}
		a.Took = time.Since(begun).Nanoseconds()
		a.Latency = a.Took
		k.done <- a
	}
}

// note keeps what the limits were, and writes files if that is wanted.
func (k *keeper) note(r raise, a *record.Action) error {
	set := persist.Set{By: "ctwatch run"}
	if r.to.Max != r.from.Max {
		set.Max = persist.Step{From: r.from.Max, To: r.to.Max}
	}
	limits := persist.Limits{Max: r.to.Max}
	if r.to.Buckets != r.from.Buckets {
		set.Buckets = persist.Step{From: r.from.Buckets, To: r.to.Buckets}
		limits.Buckets = r.to.Buckets
	}
	change, err := persist.Begin(k.o, set)
	if err != nil || !k.persist {
		return err
	}
	result, err := change.Persist(limits)
	if err == nil {
		a.Why = strings.Join(append([]string{result.Outlook.Why}, result.Notes...), "; ")
	}
	return err
}

// close lets what is under way be finished. It may be called again.
func (k *keeper) close() {
	k.once.Do(func() {
		close(k.raises)
		k.ended.Wait()
		close(k.done)
	})
}
