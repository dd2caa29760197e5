package watch

import (
	"errors"

	"github.com/ctwatch/ctwatch/internal/hook"
	"github.com/ctwatch/ctwatch/internal/record"
)

// called is what became of calls of the hook.
func (w *watcher) called() <-chan hook.Result {
	if w.o.Hook == nil {
		return nil
	}
	return w.o.Hook.Done()
}

// call calls the hook for a record that is worth it. It does not wait.
func (w *watcher) call(r record.Record) {
	if w.o.Hook != nil && w.filter.Worthy(r) {
		w.o.Hook.Call(r)
	}
}

// endCalls lets the hook end, and records what became of its last calls.
func (w *watcher) endCalls() error {
	if w.o.Hook == nil {
		return nil
	}
	errs := []error{w.o.Hook.Close()}
	for r := range w.o.Hook.Done() {
		errs = append(errs, w.record(r.Action()))
	}
	return errors.Join(errs...)
}
