package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// needRoot skips a test that cannot be run by others.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces and the machine's connection tracking limits")
	}
}

// openLab is a lab for the length of a test.
func openLab(t *testing.T) *Lab {
	t.Helper()
	needRoot(t)
	l, err := Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, l.Close()) })
	return l
}

// newNamespace is a namespace of l.
func newNamespace(t *testing.T, l *Lab, name string) *Namespace {
	t.Helper()
	n, err := l.Namespace(name)
	check(t, err)
	return n
}

// linked are two namespaces with a link between; neither tracks, and both are mute.
func linked(t *testing.T, l *Lab) *Link {
	t.Helper()
	link, err := l.Link(newNamespace(t, l, "a"), newNamespace(t, l, "b"))
	check(t, err)
	check(t, link.A.Namespace.Mute())
	check(t, link.B.Namespace.Mute())
	return link
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equalOrFail[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// counted is what the kernel counts in n while f runs.
func counted(t *testing.T, n *Namespace, f func()) Counters {
	t.Helper()
	before, err := n.Kernel()
	check(t, err)
	f()
	after, err := n.Kernel()
	check(t, err)
	return after.Total.Sub(before.Total)
}

func TestCloseRestoresLimits(t *testing.T) {
	needRoot(t)
	l, err := Open(t.Context())
	check(t, err)
	defer l.Close()
	want := map[string]uint64{Max: 54321, Buckets: 2048, ExpectMax: 77}
	originals := map[string]uint64{}
	for name, value := range want {
		originals[name], err = l.Limit(name)
		check(t, err)
		// The first value found is the one to come back, not what is found at the second change.
		check(t, l.SetLimit(name, originals[name]+512))
		check(t, l.SetLimit(name, value))
		got, err := l.Limit(name)
		check(t, err)
		equalOrFail(t, name, value, got)
	}
	n := newNamespace(t, l, "limits")
	// Somebody else's change does not stay either.
	check(t, os.WriteFile(limitPath(Max), []byte("99999"), 0))
	check(t, l.Close())
	check(t, l.Close())
	for name, original := range originals {
		got, err := readLimit(name)
		check(t, err)
		equalOrFail(t, name+" after Close", original, got)
	}
	if _, err := os.Stat(n.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("namespace after Close: %v", err)
	}
	if _, err := l.Namespace("late"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("namespace of a closed lab: %v", err)
	}
	if err := l.SetLimit(Max, 1); !errors.Is(err, os.ErrClosed) {
		t.Errorf("limit of a closed lab: %v", err)
	}
}

func TestCloseWithoutJanitor(t *testing.T) {
	l := openLab(t)
	original, err := l.Limit(Max)
	check(t, err)
	check(t, l.SetLimit(Max, 54321))
	n := newNamespace(t, l, "orphan")
	check(t, l.janitor.cmd.Process.Kill())
	check(t, l.Close())
	got, err := readLimit(Max)
	check(t, err)
	equalOrFail(t, Max, original, got)
	if _, err := os.Stat(n.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("namespace after Close: %v", err)
	}
}

func TestUnknownLimit(t *testing.T) {
	l := openLab(t)
	if err := l.SetLimit("nf_conntrack_log_invalid", 1); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestOpenWaits(t *testing.T) {
	l := openLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockPoll)
	defer cancel()
	_, err := Open(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), fmt.Sprintf("held by process %d ", os.Getpid())) {
		t.Fatalf("second lab: %v", err)
	}
	original, err := readLimit(Max)
	check(t, err)
	check(t, l.SetLimit(Max, 4711))
	next := make(chan error)
	go func() {
		second, err := Open(t.Context())
		if err != nil {
			next <- err
			return
		}
		got, err := second.Limit(Max)
		if err == nil && got != original {
			err = fmt.Errorf("second lab opened with %s %d, want %d", Max, got, original)
		}
		next <- errors.Join(err, second.Close())
	}()
	check(t, l.Close())
	check(t, <-next)
}

func TestManyNamespaces(t *testing.T) {
	l := openLab(t)
	const count = 500
	cookies := map[uint64]bool{}
	all := make([]*Namespace, count)
	begin := time.Now()
	for i := range all {
		all[i] = newNamespace(t, l, fmt.Sprint(i))
		cookies[all[i].Cookie] = true
	}
	made := time.Since(begin)
	for _, n := range all {
		check(t, n.Delete())
		check(t, n.Delete())
	}
	t.Logf("%d made in %v, deleted in %v", count, made, time.Since(begin)-made)
	if len(cookies) != count && !cookies[0] {
		t.Errorf("%d namespaces, %d cookies", count, len(cookies))
	}
}

func TestNamespaceDo(t *testing.T) {
	l := openLab(t)
	n := newNamespace(t, l, "do")
	link := func() string {
		at, err := os.Readlink("/proc/thread-self/ns/net")
		check(t, err)
		return at
	}
	home := link()
	want := errors.New("an error of f")
	err := n.Do(func() error {
		equalOrFail(t, "namespace in Do", fmt.Sprintf("net:[%d]", n.Inode), link())
		return want
	})
	if !errors.Is(err, want) {
		t.Errorf("Do returned %v", err)
	}
	equalOrFail(t, "namespace after Do", home, link())
	check(t, n.Delete())
	if err := n.Do(func() error { return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Do in a deleted namespace: %v", err)
	}
}
