package persist

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestKeptBuckets: who persists a max alone keeps the buckets that files of ours set, wherever they are.
func TestKeptBuckets(t *testing.T) {
	for _, name := range roots(t) {
		t.Run(name, func(t *testing.T) {
			root := copyRoot(t, name)
			kept := func(want uint64) {
				t.Helper()
				if got, err := KeptBuckets(options(root)); err != nil || got != want {
					t.Errorf("buckets kept: %d, %v; want %d", got, err, want)
				}
			}
			kept(0)
			_, err := Persist(options(root), half)
			must(t, err)
			kept(half.Buckets)
			first, err := Persist(options(root), Limits{Max: 700000})
			must(t, err)
			kept(half.Buckets)
			got := snapshot(t, root)
			second, err := Persist(options(root), Limits{Max: 700000, Buckets: half.Buckets})
			must(t, err)
			if diff := cmp.Diff(got, snapshot(t, root)); diff != "" {
				t.Errorf("not as if the buckets had been named: %s", diff)
			}
			if diff := cmp.Diff(second.Outlook, first.Outlook); diff != "" {
				t.Errorf("outlook (-named +kept): %s", diff)
			}
			c, err := Begin(options(root), Set{Max: Step{700000, 800000}})
			must(t, err)
			_, err = c.Persist(Limits{Max: 800000})
			must(t, err)
			kept(half.Buckets)
			_, err = Unpersist(options(root))
			must(t, err)
			kept(0)
		})
	}
}

// TestKeptBucketsOfOthers: buckets in files that are not ours are not ours to keep.
func TestKeptBucketsOfOthers(t *testing.T) {
	root := copyRoot(t, "debian13")
	must(t, os.WriteFile(filepath.Join(root, "etc/sysctl.d/10-others.conf"), []byte("net.netfilter.nf_conntrack_buckets = 4096\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, modprobeConf), []byte("options nf_conntrack hashsize=4096\n"), 0o644))
	if got, err := KeptBuckets(options(root)); err != nil || got != 0 {
		t.Errorf("buckets kept: %d, %v", got, err)
	}
}

// TestBackupsAreFew: Sets that change no files are pruned, too.
func TestBackupsAreFew(t *testing.T) {
	root := copyRoot(t, "debian13")
	var last string
	for range kept + 5 {
		c, err := Begin(options(root), Set{Max: Step{1, 2}})
		must(t, err)
		last = c.ID()
	}
	names, err := filepath.Glob(filepath.Join(root, backups, "*"))
	must(t, err)
	if len(names) != kept {
		t.Errorf("%d backups, want %d", len(names), kept)
	}
	if set, err := Last(options(root)); err != nil || set.ID != last {
		t.Errorf("the last is %+v, %v; want %s", set, err, last)
	}
}

// TestUndoOfAnother: what was looked at is undone, or nothing is.
func TestUndoOfAnother(t *testing.T) {
	root := copyRoot(t, "debian13")
	_, err := Persist(options(root), half)
	must(t, err)
	looked, err := Last(options(root))
	must(t, err)
	_, err = Persist(options(root), Limits{Max: 700000})
	must(t, err)
	before := snapshot(t, root)
	if _, _, err := Undo(options(root), looked.ID); !errors.Is(err, ErrNotLast) {
		t.Errorf("undone: %v", err)
	}
	if after := snapshot(t, root); !maps.Equal(before, after) {
		t.Errorf("files changed: %s", cmp.Diff(before, after))
	}
	last, err := Last(options(root))
	must(t, err)
	if last.ID == looked.ID {
		t.Fatalf("the last is still %s", last.ID)
	}
	if _, _, err := Undo(options(root), last.ID); err != nil {
		t.Errorf("the last is not undone: %v", err)
	}
	if _, _, err := Undo(options(root), looked.ID); err != nil {
		t.Errorf("the one before is not undone: %v", err)
	}
}
