package hook

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/test/need"
)

// patience is how long a test waits for what is to happen at once.
const patience = 30 * time.Second

// TestMain is also what copies of the test binary do that are called as a hook, or that call one.
func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == "binary-hook":
		binaryHook()
	case os.Getenv("HOOK_TEST_CALLER") != "":
		caller(os.Getenv("HOOK_TEST_CALLER"))
	default:
		os.Exit(m.Run())
	}
}

// binaryHook tells what it was given.
func binaryHook() {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	fmt.Printf("%sArgs: %q\n", status, os.Args)
	for _, file := range openFiles() {
		fmt.Println("File:", file)
	}
	document, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	fmt.Printf("Document: %s", document)
}

// caller is a process that calls a hook once, and prints what that printed.
func caller(path string) {
	h, err := Open(Options{Path: path, Timeout: time.Hour})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	h.Call(stamped(&record.Incident{ID: "1", Phase: record.PhaseOpen}))
	r := <-h.Done()
	fmt.Printf("%sResult: %v %v\n", r.Output, r.Exit, r.Err)
}

// openFiles lists this process's files but for the runtime's own and the one that lists them.
func openFiles() (files []string) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "/sys/fs/cgroup/") {
			continue
		}
		to, _, _ = strings.Cut(to, ":")
		files = append(files, e.Name()+" "+to)
	}
	return files
}

// directory makes a directory in which a hook may be, which no temporary directory is.
func directory(t *testing.T) string {
	t.Helper()
	need.Root(t)
	dir, err := os.MkdirTemp("/var/lib", "ctwatch-hook-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// script writes a hook for the shell into a directory of its own. $dir is that, in the script.
func script(t *testing.T, body string) string {
	t.Helper()
	dir := directory(t)
	path := filepath.Join(dir, "hook")
	write(t, path, "#!/bin/sh\ndir="+dir+"\n"+body+"\n", 0o755)
	return path
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// open opens a hook, and sees to it that nothing of it is left after the test.
func open(t *testing.T, o Options) *Hook {
	t.Helper()
	noLeaks(t)
	h, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// noLeaks has the test fail if at its end there are more goroutines, or other files or children, than now.
func noLeaks(t *testing.T) {
	t.Helper()
	routines, rest := runtime.NumGoroutine(), filesAndChildren()
	t.Cleanup(func() {
		await(t, "everything is given back", func() bool {
			return runtime.NumGoroutine() <= routines && filesAndChildren() == rest
		})
		if t.Failed() {
			t.Logf("before: %d goroutines, %s\nafter:  %d goroutines, %s", routines, rest, runtime.NumGoroutine(), filesAndChildren())
		}
	})
}

func filesAndChildren() string {
	var children []byte
	if tasks, err := filepath.Glob("/proc/self/task/*/children"); err == nil {
		for _, task := range tasks {
			text, _ := os.ReadFile(task)
			children = append(children, text...)
		}
	}
	return fmt.Sprintf("files %q, children %q", openFiles(), children)
}

// await waits until a condition is met.
func await(t *testing.T, what string, met func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for !met() {
		if time.Now().After(deadline) {
			t.Errorf("waited in vain until %s", what)
			return
		}
		<-poll.C
	}
}

// next waits for a result.
func next(t *testing.T, h *Hook) Result {
	t.Helper()
	select {
	case r, ok := <-h.Done():
		if !ok {
			t.Fatal("no more results")
		}
		return r
	case <-time.After(patience):
		t.Fatal("no result")
	}
	panic("unreachable")
}

// alone makes one call, which must end by itself.
func alone(t *testing.T, h *Hook, r record.Record) Result {
	t.Helper()
	if !h.Call(stamped(r)) {
		t.Fatal("not called")
	}
	return next(t, h)
}

func stamped(r record.Record) record.Record {
	record.Stamp(r, 7, time.Date(2026, 11, 25, 3, 4, 5, 0, time.UTC), time.Second)
	return r
}

func incident(id, phase string) *record.Incident {
	i := &record.Incident{ID: id, Phase: phase}
	stamped(i)
	return i
}

// dead reports whether a process is no more. Whose parent has not asked for how it ended is dead all the same.
func dead(pid int) bool {
	state, _ := stat(pid)
	return state == "" || state == "Z"
}

// groupDead reports whether all of a process group are.
func groupDead(t *testing.T, group int) bool {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		pid, err := strconv.Atoi(filepath.Base(process))
		if err != nil {
			t.Fatal(err)
		}
		if state, of := stat(pid); of == group && state != "" && state != "Z" {
			return false
		}
	}
	return true
}

// stat is a process's state and group; empty of one that is no more.
func stat(pid int) (state string, group int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	_, after, _ := strings.Cut(string(text), ") ")
	var parent int
	if _, err := fmt.Sscan(after, &state, &parent, &group); err != nil {
		return "", 0
	}
	return state, group
}
