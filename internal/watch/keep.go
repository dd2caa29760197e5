package watch

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/persist"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

// keepPatience is how long the end of a run waits for a disk.
const keepPatience = 5 * time.Second

// keeper sees to it that a raise can be taken back (`ctwatch limit undo`) and, if that is wanted, that it survives a
// reboot. Both write to disks, which may take long: raising does not wait for it.
type keeper struct {
	o        persist.Options
	persist  bool
	now      func() (conntrack.Limits, error) // what runs
	patience time.Duration
	done     <-chan *record.Action // what became of it; closed by close
	told     chan *record.Action
	ended    chan struct{}
	gaveUp   chan struct{} // nobody waits any more
	once     sync.Once

	mu      sync.Mutex
	changed *sync.Cond
	waiting []*raise // the first is under way; few, as raises are
	closed  bool
}

// raise is what was done to the limits, and what becomes of keeping it.
type raise struct {
	from, to conntrack.Limits
	action   *record.Action
}

func newKeeper(o Options) *keeper {
	k := &keeper{
		o:        persist.Options{Root: cmp.Or(o.Files, o.Root), Version: o.Version},
		persist:  o.Persist,
		now:      func() (conntrack.Limits, error) { return conntrack.ReadLimits(o.Root) },
		patience: keepPatience,
		told:     make(chan *record.Action),
		ended:    make(chan struct{}),
		gaveUp:   make(chan struct{}),
	}
	k.done = k.told
	k.changed = sync.NewCond(&k.mu)
	go k.work()
	return k
}

// keep has a raise kept, if it was one. It does not wait.
func (k *keeper) keep(from, to conntrack.Limits) {
	if from.Max == to.Max && from.Buckets == to.Buckets {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting = append(k.waiting, &raise{from, to, newPersisted(from, to)})
	k.changed.Signal()
}

func newPersisted(from, to conntrack.Limits) *record.Action {
	return &record.Action{What: record.ActionPersist, From: from.Max, To: to.Max}
}

func (k *keeper) work() {
	defer close(k.ended)
	for r := k.first(); r != nil; r = k.next() {
		begun, a := time.Now(), r.action
		why, err := k.note(r)
		switch {
		case err != nil:
			a.Result, a.Why = record.ResultFailed, err.Error()
		case !k.persist:
			continue // nobody wanted to know
		case why != "":
			a.Result, a.Why = record.ResultRefused, why
		default:
			a.Result = record.ResultApplied
		}
		a.Took = time.Since(begun).Nanoseconds()
		a.Latency = a.Took
		select {
		case k.told <- a:
		case <-k.gaveUp:
			return
		}
	}
}

// first waits for the raise to be kept first; nil is the end.
func (k *keeper) first() *raise {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.waiting) == 0 && !k.closed {
		k.changed.Wait()
	}
	if len(k.waiting) == 0 {
		return nil
	}
	return k.waiting[0]
}

// next is the first after the one that is done with.
func (k *keeper) next() *raise {
	k.mu.Lock()
	k.waiting = k.waiting[min(1, len(k.waiting)):] // close may have taken all
	k.mu.Unlock()
	return k.first()
}

// note keeps what the limits were, and writes files if that is wanted. refused is why it did not write them.
func (k *keeper) note(r *raise) (refused string, err error) {
	set := persist.Set{By: "ctwatch run"}
	limits := persist.Limits{Max: r.to.Max}
	if r.to.Max != r.from.Max {
		set.Max = persist.Step{From: r.from.Max, To: r.to.Max}
	}
	if r.to.Buckets != r.from.Buckets {
		set.Buckets = persist.Step{From: r.from.Buckets, To: r.to.Buckets}
		limits.Buckets = r.to.Buckets
	}
	change, err := persist.Begin(k.o, set)
	if err != nil || !k.persist {
		return "", err
	}
	if refused = k.outdated(limits); refused != "" {
		return refused, nil
	}
	result, err := change.Persist(limits)
	if err == nil {
		r.action.Why = strings.Join(append([]string{result.Outlook.Why}, result.Notes...), "; ")
	}
	return "", err
}

// outdated says why limits are not what runs any more, if so. Who lowers the limit after the files were written has to
// remove them as well, by `ctwatch limit unpersist`: they stay, and the next boot sets what they say.
func (k *keeper) outdated(l persist.Limits) string {
	now, err := k.now()
	switch {
	case err != nil:
		return fmt.Sprintf("no file was written, for what runs now is not known: %v", err)
	case now.Max != l.Max:
		return fmt.Sprintf("no file was written, for the limit is %s now, and not the %s that it was raised to",
			remediate.Thousands(now.Max), remediate.Thousands(l.Max))
	case l.Buckets != 0 && now.Buckets != l.Buckets:
		return fmt.Sprintf("no file was written, for there are %s buckets now, and not the %s that there were after the raise",
			remediate.Thousands(now.Buckets), remediate.Thousands(l.Buckets))
	}
	return ""
}

// close lets what waits be finished, for as long as its patience lasts, and leaves the rest of what there is to tell in
// done. It may be called again. What a disk still does after that is put back by the next limit command, if it was cut off.
func (k *keeper) close() {
	k.once.Do(func() {
		k.mu.Lock()
		k.closed = true
		k.changed.Signal()
		k.mu.Unlock()
		told := k.finish()
		done := make(chan *record.Action, len(told))
		for _, a := range told {
			done <- a
		}
		close(done)
		k.done = done
	})
}

// finish waits for what is still to be told.
func (k *keeper) finish() (told []*record.Action) {
	patience := time.NewTimer(k.patience)
	defer patience.Stop()
	for {
		select {
		case a := <-k.told:
			told = append(told, a)
		case <-k.ended:
			return told
		case <-patience.C:
			return append(told, k.giveUp(told)...)
		}
	}
}

// giveUp leaves what waits undone, and tells that.
func (k *keeper) giveUp(told []*record.Action) (failed []*record.Action) {
	close(k.gaveUp)
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, r := range k.waiting {
		if slices.Contains(told, r.action) {
			continue
		}
		a := newPersisted(r.from, r.to) // the other one is still being written to
		a.Result, a.Took, a.Latency = record.ResultFailed, k.patience.Nanoseconds(), k.patience.Nanoseconds()
		a.Why = fmt.Sprintf("the disk did not answer within %v, and the run ended: ", k.patience)
		switch {
		case i > 0:
			a.Why += "this raise still waited to be kept, and cannot be undone"
		case k.persist:
			a.Why += "whether this raise can be undone, and whether it survives a reboot, is not known"
		default:
			a.Why += "whether this raise can be undone is not known"
		}
		failed = append(failed, a)
	}
	k.waiting = nil
	return failed
}
