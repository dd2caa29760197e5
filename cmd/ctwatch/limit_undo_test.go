package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctwatch/ctwatch/internal/control"
	"github.com/ctwatch/ctwatch/internal/persist"
)

// TestUndoOfAnother: a daemon raises the limit after `limit undo` has looked at what it is to take back.
func TestUndoOfAnother(t *testing.T) {
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS(filepath.FromSlash("../../testdata/roots/debian13"))); err != nil {
		t.Fatal(err)
	}
	limit := filepath.Join(root, "proc/sys/net/netfilter/nf_conntrack_max")
	if err := errors.Join(os.MkdirAll(filepath.Dir(limit), 0o755), os.WriteFile(limit, []byte("131072\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	u := undoer{root: root, force: true, o: persist.Options{Root: root, Force: true}, out: &out}
	begin := func(from, to uint64) *persist.Set {
		t.Helper()
		if _, err := persist.Begin(u.o, persist.Set{Max: persist.Step{From: from, To: to}}); err != nil {
			t.Fatal(err)
		}
		set, err := persist.Last(u.o)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	looked := begin(65536, 131072)
	last := begin(131072, 262144)
	release, err := control.Lock(root)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	err = u.takeBack(looked)
	if !errors.Is(err, persist.ErrNotLast) || strings.Contains(err.Error(), "\n") {
		t.Errorf("want one line of another change, got %v", err)
	}
	if text, err := os.ReadFile(limit); err != nil || string(text) != "131072\n" {
		t.Errorf("the limit is %q, %v", text, err)
	}
	if s, err := control.Read(root); err != nil || s.Set != nil {
		t.Errorf("a running daemon is told of %+v, %v", s.Set, err)
	}
	if set, err := persist.Last(u.o); err != nil || set.ID != last.ID {
		t.Errorf("the last is %+v, %v", set, err)
	}
}
