package journal

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// errHang: the disk takes its time.
var errHang = errors.New("the disk does not answer")

// run writes until Close.
func (w *Writer) run() {
	defer close(w.done)
	defer w.files.closeFile()
	timer := time.NewTimer(w.o.retry)
	defer timer.Stop()
	wake := w.wake
	var syncAt time.Time // when something is to be synced
	for final := false; ; {
		select {
		case <-wake:
		case <-timer.C:
		case <-w.leave:
			final = true
		}
		err := w.write(final, !syncAt.IsZero() && !time.Now().Before(syncAt))
		if final {
			return
		}
		switch {
		case err != nil:
			// Not before: a disk in trouble is asked once a second, however much there is to write.
			wake, syncAt = nil, time.Time{}
			timer.Reset(w.o.retry)
		case len(w.files.unsynced) == 0:
			wake, syncAt = w.wake, time.Time{}
			timer.Stop()
		case syncAt.IsZero() || wake == nil:
			wake, syncAt = w.wake, time.Now().Add(w.o.sync)
			timer.Reset(w.o.sync)
		}
	}
}

// write writes what there is, and syncs what should not wait, or everything.
func (w *Writer) write(final, all bool) error {
	stop := w.watchdog()
	err := w.writeAll(final, all)
	if err == nil && !final {
		w.relock()
	}
	stop()
	w.report(cmp.Or(err, w.files.full))
	return err
}

func (w *Writer) writeAll(final, all bool) error {
	err := w.files.resume()
	for err == nil {
		batch := w.take(final)
		if len(batch) == 0 {
			break
		}
		for len(batch) > 0 && err == nil {
			day, n := batch[0].day(), 1
			for n < len(batch) && batch[n].day() == day {
				n++
			}
			var r result
			r, err = w.files.write(day, batch[:n:n])
			batch = batch[n:]
			if err != nil {
				r.back = append(r.back, batch...)
				batch = nil
			}
			w.settle(r, batch)
			if err == nil && w.files.urgent() {
				err = w.sync(batch)
			}
		}
	}
	// Also after an error: a full disk keeps what it has.
	if err != nil || final || all || w.files.untidy != nil {
		err = cmp.Or(err, w.sync(nil))
	}
	return cmp.Or(err, w.files.untidy)
}

func (w *Writer) sync(flying []entry) error {
	r, err := w.files.sync()
	if err != nil {
		r.back = append(r.back, flying...)
		flying = nil
	}
	w.settle(r, flying)
	return err
}

// take gets the next lines. Until settle says what became of them they are in flight.
func (w *Writer) take(final bool) []entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return nil
	}
	batch := w.tail.take(batchBytes, final)
	w.flying += records(batch)
	return batch
}

// settle says what became of lines that were taken, and which are still in flight beside those that are not synced.
func (w *Writer) settle(r result, flying []entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	w.flying = records(flying) + records(w.files.unsynced)
	for _, e := range r.gone {
		w.tail.lose(e, false)
	}
	for _, e := range r.lost {
		w.tail.lose(e, true)
	}
	w.tail.giveBack(r.back)
	if w.files.relist {
		w.files.relist = false
		w.roll.ListAll()
	}
}

// records counts the lines that are a record each: that of a loss stands for records that are counted already.
func records(entries []entry) int {
	n := 0
	for i := range entries {
		if entries[i].loss == nil {
			n++
		}
	}
	return n
}

// watchdog tells of a disk that hangs: nobody else would, since the goroutine that writes waits for it.
func (w *Writer) watchdog() (stop func()) {
	w.mu.Lock()
	w.round++
	w.writing = true
	round := w.round
	w.mu.Unlock()
	t := time.AfterFunc(w.o.hang, func() {
		w.tell(func() error {
			if !w.writing || w.round != round {
				return w.health.err
			}
			return fmt.Errorf("%s: %w for %s", w.o.Dir, errHang, w.o.hang)
		})
	})
	return func() {
		t.Stop()
		w.mu.Lock()
		w.writing = false
		w.mu.Unlock()
	}
}

func (w *Writer) report(err error) { w.tell(func() error { return err }) }

// tell takes note of how the disk does, and says it where there is something to say.
func (w *Writer) tell(state func() error) {
	w.telling.Lock()
	defer w.telling.Unlock()
	w.mu.Lock()
	text := w.health.update(state(), time.Now(), w.tail.lost)
	w.mu.Unlock()
	if text != "" {
		w.o.Notice(text)
	}
}
