package journal

import (
	"errors"
	"testing"
)

// TestLock: one writes to a directory at a time, and readers can tell.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	if Written(dir) {
		t.Error("somebody writes where nobody does")
	}
	w, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrRefused) {
		t.Errorf("a second writer: %v", err)
	}
	if !Written(dir) {
		t.Error("nobody writes where somebody does")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if Written(dir) {
		t.Error("somebody writes after Close")
	}
}
