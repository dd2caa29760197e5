package journal

import (
	"cmp"
	"context"
	"os"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// TestMain is also the process that TestKilled kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CTWATCH_TEST_JOURNAL"); dir != "" {
		writeUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// pen makes records in a row.
type pen struct {
	seq  uint64
	wall time.Time // of the next record
	boot time.Duration
}

func newPen() *pen { return &pen{wall: noon, boot: 1000 * time.Second} }

// next stamps a record, a second after the one before.
func (p *pen) next(r record.Record) record.Record {
	p.seq++
	record.Stamp(r, p.seq, p.wall, p.boot)
	p.wall = p.wall.Add(time.Second)
	p.boot += time.Second
	return r
}

// busy makes a sample that is not calm.
func (p *pen) busy() record.Record {
	return p.next(&record.Sample{Interval: 1e9, Lost: p.seq, NetNS: []record.NetNS{}})
}

func (p *pen) drop() record.Record { return p.next(&record.Drop{NS: 1, Src: "192.0.2.1"}) }

func (p *pen) limit() record.Record {
	return p.next(&record.Limit{Key: "nf_conntrack_max", From: 1, To: 2})
}

// mixed makes the n-th record of a mixture.
func (p *pen) mixed(n int) record.Record {
	switch n % 4 {
	case 0:
		return p.limit()
	case 1:
		return p.drop()
	}
	return p.busy()
}

// state makes a namespace's state.
func state(ns, count, limit uint64) record.NetNS {
	fill := float64(count) / float64(limit)
	n := record.NetNS{NS: ns, Cookie: ns, Name: "n", Count: &count, Max: &limit, Fill: &fill}
	if limit == 0 {
		n.Fill = nil
	}
	return n
}

func dropsOf(n uint64) (d conntrack.Drops) {
	d[conntrack.TableFull] = n
	return d
}

func open(t *testing.T, o Options) *Writer {
	t.Helper()
	if o.Now == nil {
		o.Now = func() time.Time { return noon }
	}
	o.retry = cmp.Or(o.retry, time.Millisecond)
	o.sync = cmp.Or(o.sync, time.Millisecond)
	w, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func write(t *testing.T, w *Writer, records ...record.Record) {
	t.Helper()
	for _, r := range records {
		if err := w.Record(r); err != nil {
			t.Fatal(err)
		}
	}
}

func closeWriter(t *testing.T, w *Writer) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		<-time.After(100 * time.Microsecond)
	}
}

func settled(t *testing.T, w *Writer) {
	t.Helper()
	until(t, "nothing waits for the disk", func() bool { s := w.State(); return s.Pending == 0 && s.Err == nil })
}

// line is what tests compare of a line.
type line struct {
	Seq  uint64
	Kind string
}

// readAll reads a journal, each record decoded.
func readAll(t *testing.T, dir string) ([]line, Damage) {
	t.Helper()
	var lines []line
	d, err := Read(context.Background(), dir, Window{}, func(l *Line) error {
		if _, err := l.Record(); err != nil {
			return err
		}
		lines = append(lines, line{l.Seq, l.Kind})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines, d
}

// once checks that no record is there twice or out of order, and returns those that are there. A gap record that tells of a
// loss has the place of the last that is counted as lost, which may be there all the same.
func once(t *testing.T, lines []line) map[uint64]bool {
	t.Helper()
	have := map[uint64]bool{}
	last := uint64(0)
	for _, l := range lines {
		if l.Seq < last || l.Seq == last && l.Kind != record.KindGap {
			t.Errorf("seq %d follows %d", l.Seq, last)
		}
		last = l.Seq
		if l.Kind != record.KindGap {
			have[l.Seq] = true
		}
	}
	return have
}
