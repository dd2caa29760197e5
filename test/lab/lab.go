// Package lab provokes, in network namespaces of its own, every way in which the kernel's connection tracking
// refuses a packet, and counts the refusals by means outside connection tracking. Tests, the demo and the
// benchmarks share it.
//
// A [Lab] is alone on the machine, because the limits it changes are the machine's. Whatever happens to its
// process, the limits come back and its namespaces go: see [Open].
//
// The causes, and what provokes them: a full table, [Namespace.FillUp]; a clash, [End.Clash]; a chain too long,
// [Lab.LongChains]; the drop counter for another reason, [End.SeqAdjust]. Two are out of reach on a kernel without
// fault injection. No memory for an entry: the cache is not charged to a cgroup that one could limit, so it takes a
// machine without any memory. An entry that is dying or stale at confirm: since Linux 5.19 there is no list by which to
// find an entry that is in no table yet, so nothing marks one as dying; and what makes extensions stale,
// nf_ct_iterate_destroy, when a module is unloaded, also throws away the packets that are held in queues.
//
// The lab runs no programs but /bin/sh (with umount and rm) and, for modules, modprobe, and needs root.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
)

// Lab is the right to change the machine's connection tracking limits, and the namespaces made under it.
type Lab struct {
	journal *journal
	janitor *janitor

	mu         sync.Mutex
	originals  map[string]uint64 // by limit, as found at the first SetLimit
	namespaces []*Namespace
	links      int // made so far: each has addresses of its own
	closed     bool
	closeErr   error
}

// Open waits for the lab of another process to end, for at most five minutes or until ctx ends, and opens this
// process's. The error of a wait in vain names the process that holds the lab.
//
// A janitor process in its own session learns of each change of a limit before it is made, and undoes the
// changes and deletes the namespaces when [Lab.Close] is called or when this process ends in any way. It keeps
// the machine-wide lock until that is done. What a lab left behind whose janitor was killed too, Open cleans
// up first.
func Open(ctx context.Context) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("open lab: %w", os.ErrPermission)
	}
	j, err := openJournal(ctx)
	if err != nil {
		return nil, fmt.Errorf("open lab: %w", err)
	}
	if err := j.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open lab: %w", err), j.Close())
	}
	jan, err := startJanitor(j)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open lab: %w", err), j.Close())
	}
	return &Lab{journal: j, janitor: jan, originals: make(map[string]uint64)}, nil
}

// Close restores every limit the lab has changed, whoever else changed it since, deletes every namespace and
// lets the next lab in. It may be called again, and then returns what it returned first.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.closeErr
	}
	l.closed = true
	var err error
	for _, n := range l.namespaces {
		err = errors.Join(err, n.Delete())
	}
	if l.janitor.finish() != nil {
		// Perhaps somebody killed the janitor. Another has all it needs in the journal.
		err = errors.Join(err, cleanUp(l.journal))
	}
	// Read the limits back before the lock is let go, while nobody else may change them.
	for name, want := range l.originals {
		got, readErr := readLimit(name)
		if readErr == nil && got != want {
			readErr = fmt.Errorf("%s is %d, was %d", name, got, want)
		}
		err = errors.Join(err, readErr)
	}
	if err = errors.Join(err, l.journal.Close()); err != nil {
		l.closeErr = fmt.Errorf("close lab: %w", err)
	}
	return l.closeErr
}
