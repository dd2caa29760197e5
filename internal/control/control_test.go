package control

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	set  = Set{ID: "20261124T120000-1", What: WhatSet, Max: 524288, Buckets: 131072, At: noon, By: "root (pid 7)"}
)

func TestState(t *testing.T) {
	root := t.TempDir()
	expect(t, root, State{})
	release, err := Lock(root)
	must(t, err)
	defer release()

	must(t, NoteSet(root, &set))
	expect(t, root, State{Set: &set})
	must(t, Pause(root, Paused{noon, "alice"}))
	expect(t, root, State{Set: &set, Paused: &Paused{noon, "alice"}})
	later := noon.Add(time.Minute)
	must(t, Resume(root, later))
	expect(t, root, State{Set: &set, ResumedAt: &later})
	must(t, NoteSet(root, nil))
	expect(t, root, State{ResumedAt: &later})

	info, err := os.Stat(Path(root))
	must(t, err)
	if info.Mode() != 0o644 {
		t.Errorf("mode %v, want one that everybody can read", info.Mode())
	}
	entries, err := os.ReadDir(filepath.Dir(Path(root)))
	must(t, err)
	if len(entries) != 2 { // the state and the lock
		t.Errorf("left behind: %v", entries)
	}
}

func TestForm(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Dir(Path(root)), 0o755))
	must(t, NoteSet(root, &set))
	must(t, Pause(root, Paused{noon, "alice"}))
	const want = `{"paused":{"at":"2026-11-24T12:00:00Z","by":"alice"},"set":{"id":"20261124T120000-1","what":"set",` +
		`"max":524288,"buckets":131072,"at":"2026-11-24T12:00:00Z","by":"root (pid 7)"}}` + "\n"
	got, err := os.ReadFile(Path(root))
	must(t, err)
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestUntrusted: what others could have written says nothing, and is replaced.
func TestUntrusted(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"writable by a group": func(p string) error { return os.Chmod(p, 0o664) },
		"writable by all":     func(p string) error { return os.Chmod(p, 0o646) },
		"a link": func(p string) error {
			return errors.Join(os.Rename(p, p+".real"), os.Symlink(p+".real", p))
		},
		"no JSON": func(p string) error { return os.WriteFile(p, []byte("{"), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			must(t, os.MkdirAll(filepath.Dir(Path(root)), 0o755))
			must(t, Pause(root, Paused{noon, "mallory"}))
			must(t, spoil(Path(root)))
			if s, err := Read(root); err == nil || s != (State{}) {
				t.Errorf("%+v (%v), want an error", s, err)
			}
			must(t, NoteSet(root, &set))
			expect(t, root, State{Set: &set})
		})
	}
}

// TestLock has many take the lock, each of whom adds one to what the one before wrote.
func TestLock(t *testing.T) {
	root := t.TempDir()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			release, err := Lock(root)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			s, err := Read(root)
			if s.Set == nil {
				s.Set = &Set{}
			}
			s.Set.Max++
			if err := errors.Join(err, NoteSet(root, s.Set)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	expect(t, root, State{Set: &Set{Max: 20}})

	release, err := Lock(root)
	must(t, err)
	if _, err := lock(root, 0); !errors.Is(err, ErrBusy) {
		t.Errorf("error %v, want that it is held", err)
	}
	release()
	release, err = lock(root, 0)
	must(t, err)
	release()
}

// TestHostileImage: no link of an image leads what is written out of it.
func TestHostileImage(t *testing.T) {
	for link, deep := range map[string]string{"run": "ctwatch", "run/ctwatch": ""} {
		t.Run(link, func(t *testing.T) {
			root, outside := t.TempDir(), t.TempDir()
			must(t, os.MkdirAll(filepath.Join(root, filepath.Dir(link)), 0o755))
			must(t, os.MkdirAll(filepath.Join(outside, deep), 0o755))
			must(t, os.Symlink(outside, filepath.Join(root, link)))
			_, locked := Lock(root)
			_, running := LockRun(root)
			_, read := Read(root)
			_, _, asked := Running(root)
			for what, err := range map[string]error{"Lock": locked, "LockRun": running, "Read": read, "Running": asked, "Pause": Pause(root, Paused{noon, "alice"})} {
				if err == nil || !strings.Contains(err.Error(), "escapes") {
					t.Errorf("%s: error %v, want that it leads out", what, err)
				}
			}
			for _, dir := range []string{outside, filepath.Join(outside, deep)} {
				entries, err := os.ReadDir(dir)
				must(t, err)
				for _, e := range entries {
					if e.Name() != "ctwatch" {
						t.Errorf("%s was made", filepath.Join(dir, e.Name()))
					}
				}
			}
		})
	}
}

func TestLockRun(t *testing.T) {
	root := t.TempDir()
	if running, _, err := Running(root); running || err != nil {
		t.Errorf("before: %v, %v", running, err)
	}
	release, err := LockRun(root)
	must(t, err)
	self := strconv.Itoa(os.Getpid())
	if running, pid, err := Running(root); !running || pid != self || err != nil {
		t.Errorf("meanwhile: %v, %q, %v", running, pid, err)
	}
	var other *RunningError
	if _, err := LockRun(root); !errors.As(err, &other) || other.PID != self {
		t.Errorf("error %v (%+v), want that %s runs", err, other, self)
	}
	release()
	if running, _, err := Running(root); running || err != nil {
		t.Errorf("after: %v, %v", running, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"paused":{"at":"2026-11-24T12:00:00Z","by":"alice"}}`))
	f.Add([]byte(`{"resumed_at":"2026-11-24T12:00:00+01:00","set":{"max":18446744073709551615}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parse(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parse(again); err != nil || !cmp.Equal(s, got) {
			t.Errorf("%s comes back as %s (%v)", text, again, err)
		}
	})
}

func expect(t *testing.T, root string, want State) {
	t.Helper()
	got, err := Read(root)
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
