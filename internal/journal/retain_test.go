package journal

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/record"
)

func TestExpired(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name  string
		files []dayFile
		today string
		age   time.Duration
		bytes int64
		want  []string
	}{
		{"none", nil, "2026-11-23", day, 1, nil},
		{"by age", []dayFile{{"2026-11-20", 1}, {"2026-11-21", 1}, {"2026-11-22", 1}, {"2026-11-23", 1}}, "2026-11-23", 2 * day, 0, []string{"2026-11-20"}},
		{"by size, oldest first", []dayFile{{"2026-11-20", 50}, {"2026-11-21", 10}, {"2026-11-22", 40}, {"2026-11-23", 20}}, "2026-11-23", 0, 75, []string{"2026-11-20"}},
		{"never today's", []dayFile{{"2026-11-22", 1}, {"2026-11-23", 100}}, "2026-11-23", day, 10, []string{"2026-11-22"}},
		{"of the future, by size only", []dayFile{{"2026-11-23", 10}, {"2026-11-24", 10}}, "2026-11-23", day, 15, []string{"2026-11-24"}},
		{"a clock years ahead", []dayFile{{"2026-11-20", 1}, {"2026-11-21", 1}, {"2026-11-22", 1}, {"2099-01-01", 0}}, "2099-01-01", 3 * day, 0, nil},
		{"after weeks without a run", []dayFile{{"2026-09-01", 1}, {"2026-09-04", 1}, {"2026-11-23", 1}}, "2026-11-23", 2 * day, 0, []string{"2026-09-01"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			remove, stay := expired(c.files, c.today, c.age, c.bytes)
			var got []string
			for _, f := range remove {
				got = append(got, f.day)
			}
			if diff := cmp.Diff(c.want, got); diff != "" || len(remove)+len(stay) != len(c.files) {
				t.Errorf("%d stay (-want +got):\n%s", len(stay), diff)
			}
		})
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestRetention removes old files when the journal is opened, when a day begins and when it is too much; and nothing else.
func TestRetention(t *testing.T) {
	k := strings.Repeat("x", 999) + "\n"
	dir := files(t, map[string]string{
		"2026-10-01.jsonl": k, "2026-11-20.jsonl": k, "2026-11-21.jsonl": k, "2026-11-22.jsonl": k,
		"2026-10-01.jsonl.bak": k, "2026-10-01.json": k, "notes": k,
	})
	if err := os.Symlink("notes", filepath.Join(dir, "2026-10-02.jsonl")); err != nil {
		t.Fatal(err)
	}
	others := []string{"2026-10-01.json", "2026-10-01.jsonl.bak", "2026-10-02.jsonl"}
	check := func(when string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(append(append([]string{}, others...), append(want, "notes")...), list(t, dir)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	w := open(t, Options{Dir: dir, MaxAge: 3 * 24 * time.Hour, MaxBytes: 4000})
	check("when it is opened", "2026-11-20.jsonl", "2026-11-21.jsonl", "2026-11-22.jsonl")
	p := newPen()
	write(t, w, p.limit())
	settled(t, w)
	p.wall = p.wall.AddDate(0, 0, 1)
	write(t, w, p.limit())
	settled(t, w)
	check("when a day begins", "2026-11-21.jsonl", "2026-11-22.jsonl", today, "2026-11-24.jsonl")
	for range 15 { // some 2400 bytes
		write(t, w, p.limit())
	}
	settled(t, w)
	check("when it is too much", "2026-11-22.jsonl", today, "2026-11-24.jsonl")
	closeWriter(t, w)
}

// TestBudget: when today's file alone is too much, state changes are written, and it is said what is not.
func TestBudget(t *testing.T) {
	dir := t.TempDir()
	notices := make(chan string, 100)
	w := open(t, Options{Dir: dir, MaxBytes: 2000, Notice: func(s string) { notices <- s }})
	p := newPen()
	n := 0
	for ; w.State().Lost == 0; n += 2 {
		write(t, w, p.busy(), p.limit())
		until(t, "it is written", func() bool { return w.State().Pending == 0 })
	}
	for range 3 {
		write(t, w, p.busy(), p.limit())
		n += 2
	}
	until(t, "it is written", func() bool { return w.State().Pending == 0 })
	if s := w.State(); !errors.Is(s.Err, errBudget) || s.Lost != 4 {
		t.Errorf("the state is %+v, want 4 lost", s)
	}
	closeWriter(t, w)
	if len(notices) != 1 {
		t.Errorf("%d notices, want 1", len(notices))
	}
	told, kinds := uint64(0), map[string]int{}
	_, err := Read(context.Background(), dir, Window{}, func(l *Line) error {
		kinds[l.Kind]++
		if l.Kind != record.KindGap {
			return nil
		}
		var gap record.Gap
		err := json.Unmarshal(l.Raw, &gap)
		told += gap.Lost
		return err
	})
	if err != nil || kinds[record.KindLimit] != n/2 || kinds[record.KindSample] != n/2-4 || told != 4 {
		t.Errorf("there are %v, want %d limits and %d samples; %d are told of as lost, want 4 (%v)", kinds, n/2, n/2-4, told, err)
	}
	w = open(t, Options{Dir: dir, MaxBytes: 2000})
	p.wall = p.wall.AddDate(0, 0, 1)
	write(t, w, p.busy())
	settled(t, w)
	if got := list(t, dir); !cmp.Equal([]string{"2026-11-24.jsonl"}, got) {
		t.Errorf("on the next day there are %v", got)
	}
}

// stuck is a disk from which nothing can be removed.
type stuck struct{ osDisk }

func (stuck) Remove(string) error { return syscall.EACCES }

// TestCannotRemove: that old files cannot be removed is said, and keeps nobody from writing.
func TestCannotRemove(t *testing.T) {
	dir := files(t, map[string]string{"2020-01-01.jsonl": "", "2026-11-22.jsonl": ""})
	w := open(t, Options{Dir: dir, disk: stuck{}})
	write(t, w, newPen().limit())
	until(t, "it is written", func() bool { s := w.State(); return s.Pending == 0 && errors.Is(s.Err, syscall.EACCES) })
	closeWriter(t, w)
	if lines, _ := readAll(t, dir); len(lines) != 1 {
		t.Errorf("there are %v, want 1", lines)
	}
}
