package metrics

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/test/need"
)

// promtool checks the metrics with Prometheus' own tool.
func promtool(t *testing.T, text []byte) {
	t.Helper()
	need.Tool(t, "promtool")
	c := exec.Command("promtool", "check", "metrics")
	c.Stdin = bytes.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool says %q (%v)", out, err)
	}
}

// parse checks the metrics with the parser that node_exporter uses, and returns how many series there are.
func parse(t *testing.T, text []byte) (series int) {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		series += len(f.Metric)
	}
	return series
}

func TestWriteTextfile(t *testing.T) {
	s := worst(t).state
	dir := t.TempDir()
	path := filepath.Join(dir, "ctwatch.prom")
	// What a killed run may leave, and what another may put there.
	if err := os.Symlink("/nowhere", filepath.Join(dir, ".ctwatch.prom.new")); err != nil {
		t.Fatal(err)
	}
	umask := unix.Umask(0o077)
	defer unix.Umask(umask)
	for range 2 {
		if err := s.WriteTextfile(path); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := parse(t, text); n < 200 || n > maxSeries {
		t.Errorf("%d series", n)
	}
	if strings.Contains(string(text), "\nprocess_") || strings.Contains(string(text), "\ngo_") {
		t.Error("there are metrics of the process, which node_exporter has, too")
	}
	promtool(t, text)
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o644 {
		t.Errorf("mode %v", info.Mode())
	}
	only(t, dir, "ctwatch.prom")
}

// only checks that nothing is left beside these files.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("%v is there, want %v", got, names)
	}
}

func TestTextfileCannotBeWritten(t *testing.T) {
	s := New("v")
	dir := t.TempDir()
	if err := s.WriteTextfile(filepath.Join(dir, "missing", "x.prom")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "x.prom"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteTextfile(filepath.Join(dir, "x.prom")); err == nil {
		t.Error("a directory was replaced")
	}
	only(t, dir, "x.prom")
}

// TestTextfileDiskFull: the old file stays whole, and the next one is written when there is room again.
func TestTextfileDiskFull(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	s := New("v")
	path := filepath.Join(dir, "ctwatch.prom")
	if err := s.WriteTextfile(path); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if err := s.WriteTextfile(path); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("disk full: %v", err)
	}
	only(t, dir, "ctwatch.prom", "filler")
	text, err := os.ReadFile(path)
	if err != nil || parse(t, text) < 50 {
		t.Errorf("the old file is damaged: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteTextfile(path); err != nil {
		t.Error(err)
	}
}
