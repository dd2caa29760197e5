package journal

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// TestLockFollows: a directory that was removed and made again is locked again.
func TestLockFollows(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	w, err := Open(Options{Dir: dir, retry: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for seq := uint64(1); !Written(dir); seq++ {
		if time.Now().After(deadline) {
			t.Fatal("nobody holds the lock of the directory that was made again")
		}
		r := &record.Start{}
		record.Stamp(r, seq, time.Now(), time.Duration(seq))
		if err := w.Record(r); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

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
