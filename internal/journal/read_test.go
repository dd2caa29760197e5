package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// stopAt is a line of a stop record.
func stopAt(seq int, at string) string {
	return fmt.Sprintf(`{"v":1,"seq":%d,"time":"%s","boottime_ns":1,"kind":"stop","totals":{},"evicted":0,"lost":0,"unattributed":0,"uptime_ns":0}`, seq, at) + "\n"
}

func files(t *testing.T, texts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestWindow(t *testing.T) {
	limit := `{"v":1,"seq":7,"time":"2026-11-23T12:00:00.5Z","boottime_ns":1,"kind":"limit"}` + "\n"
	dir := files(t, map[string]string{
		"2026-11-22.jsonl": stopAt(1, "2026-11-22T00:00:00Z") + stopAt(2, "2026-11-22T23:59:59.999999999Z"),
		// The clock was set back and forth.
		"2026-11-23.jsonl": stopAt(3, "2026-11-23T10:00:00Z") + stopAt(4, "2026-11-23T12:00:00Z") + stopAt(5, "2026-11-23T08:00:00Z") +
			stopAt(6, "2026-11-23T12:00:00.123Z") + limit,
		"2026-11-24.jsonl":  stopAt(8, "2026-11-24T00:00:00Z"),
		"2026-11-24.jsonl~": "garbage\n",
		"2026-13-24.jsonl":  "garbage\n",
	})
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		name string
		w    Window
		want []uint64
	}{
		{"all", Window{}, []uint64{1, 2, 3, 4, 5, 6, 7, 8}},
		{"kinds", Window{Kinds: []string{"limit", "gap"}}, []uint64{7}},
		{"since", Window{Since: at("2026-11-23T12:00:00Z")}, []uint64{4, 6, 7, 8}},
		{"until is not in it", Window{Until: at("2026-11-23T12:00:00Z")}, []uint64{1, 2, 3, 5}},
		{"a second", Window{Since: at("2026-11-23T12:00:00Z"), Until: at("2026-11-23T12:00:00.5Z")}, []uint64{4, 6}},
		{"in another zone", Window{Since: at("2026-11-23T09:00:00+01:00"), Until: at("2026-11-23T09:00:01+01:00")}, []uint64{5}},
		{"nothing", Window{Since: at("2026-11-25T00:00:00Z")}, nil},
		{"back to front", Window{Since: at("2026-11-24T00:00:00Z"), Until: at("2026-11-22T00:00:00Z")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []uint64
			d, err := Read(context.Background(), dir, c.w, func(l *Line) error {
				got = append(got, l.Seq)
				return nil
			})
			if err != nil || d != (Damage{}) {
				t.Fatal(d, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestDeepWindow: files outside the window are not opened.
func TestDeepWindow(t *testing.T) {
	dir := files(t, map[string]string{"2026-11-22.jsonl": "garbage\n", "2026-11-23.jsonl": stopAt(1, "2026-11-23T10:00:00Z"), "2026-11-24.jsonl": newerFile})
	d, err := Read(context.Background(), dir, Window{Since: noon.Add(-6 * time.Hour), Until: noon}, func(*Line) error { return nil })
	if err != nil || d != (Damage{}) {
		t.Error(d, err)
	}
}

func TestDamage(t *testing.T) {
	good := stopAt(1, "2026-11-23T10:00:00Z")
	long := strings.Replace(good, `"kind"`, `"x":"`+strings.Repeat("x", maxLine)+`","kind"`, 1)
	for _, c := range []struct {
		name, text string
		records    int
		want       Damage
	}{
		{"none", good + good, 2, Damage{}},
		{"empty", "", 0, Damage{}},
		{"torn end", good + good[:40], 1, Damage{Torn: 1}},
		{"a record without its newline", good + good[:len(good)-1], 2, Damage{}},
		{"torn in the middle", good + good[:40] + "\n" + good, 2, Damage{Lines: 1, Bytes: 41, First: fmt.Sprint(len(good))}},
		{"zeros of a power loss", good + strings.Repeat("\x00", 4096) + "\n" + good, 2, Damage{Lines: 1, Bytes: 4097, First: fmt.Sprint(len(good))}},
		{"an empty line", "\n" + good, 1, Damage{Lines: 1, Bytes: 1, First: "0"}},
		{"two garbage lines", "{}\n[]\n", 0, Damage{Lines: 2, Bytes: 6, First: "0"}},
		{"too long", long + good, 1, Damage{Lines: 1, Bytes: int64(len(long)), First: "0"}},
		{"too long without an end", good + long[:len(long)-1], 1, Damage{Torn: 1}},
		{"beyond the envelope", strings.Replace(good, "evicted", "evicte\x01", 1) + good, 1, Damage{Lines: 1, Bytes: int64(len(good)), First: "0"}},
		{"a wrong type", strings.Replace(good, `"evicted":0`, `"evicted":"0"`, 1) + good, 1, Damage{Lines: 1, Bytes: int64(len(good)) + 2, First: "0"}},
		{"no version", strings.Replace(good, `"v":1`, `"v":0`, 1) + good, 1, Damage{Lines: 1, Bytes: int64(len(good)), First: "0"}},
		{"an unknown kind", strings.Replace(good, "stop", "halt", 1) + good, 1, Damage{Unknown: 1}},
		{"fields in another order", `{"kind":"stop", "v":1, "seq":1, "time":"2026-11-23T11:00:00+01:00"}` + "\n", 1, Damage{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := files(t, map[string]string{today: c.text})
			if c.want.First != "" {
				c.want.First = filepath.Join(dir, today) + ":" + c.want.First
			}
			lines, got := readAll(t, dir)
			if diff := cmp.Diff(c.want, got); diff != "" || len(lines) != c.records {
				t.Errorf("%d records, want %d (-want +got):\n%s", len(lines), c.records, diff)
			}
		})
	}
}

func TestReadFails(t *testing.T) {
	none := func(*Line) error { return nil }
	if _, err := Read(context.Background(), filepath.Join(t.TempDir(), "missing"), Window{}, none); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
	if d, err := Read(context.Background(), t.TempDir(), Window{}, none); err != nil || d != (Damage{}) {
		t.Errorf("of an empty directory: %+v, %v", d, err)
	}
	dir := files(t, map[string]string{today: newerFile})
	_, err := Read(context.Background(), dir, Window{}, none)
	if !errors.Is(err, record.ErrNewer) || !strings.Contains(err.Error(), filepath.Join(dir, today)+", line 2") {
		t.Errorf("of a newer version: %v", err)
	}
	dir = files(t, map[string]string{today: stopAt(1, "2026-11-23T10:00:00Z") + stopAt(2, "2026-11-23T10:00:00Z")})
	calls := 0
	_, err = Read(context.Background(), dir, Window{}, func(*Line) error { calls++; return io.ErrClosedPipe })
	if !errors.Is(err, io.ErrClosedPipe) || calls != 1 {
		t.Errorf("with a function that fails: %v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err = Read(ctx, dir, Window{}, none); !errors.Is(err, context.Canceled) {
		t.Errorf("when it is cancelled: %v", err)
	}
}

// TestStrangers: what is no regular file is neither followed nor waited for.
func TestStrangers(t *testing.T) {
	dir := files(t, map[string]string{today: stopAt(1, "2026-11-23T10:00:00Z")})
	if err := errors.Join(unix.Mkfifo(filepath.Join(dir, "2026-11-20.jsonl"), 0o640), os.Mkdir(filepath.Join(dir, "2026-11-21.jsonl"), 0o750),
		os.Symlink(filepath.Join(dir, today), filepath.Join(dir, "2026-11-22.jsonl"))); err != nil {
		t.Fatal(err)
	}
	if lines, d := readAll(t, dir); len(lines) != 1 || d != (Damage{}) {
		t.Errorf("read %v, %+v", lines, d)
	}
}

// sampleJournal is the text of a journal with every kind of record.
func sampleJournal(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/v1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// shortLines returns some of its lines: the others only take longer.
func shortLines(t *testing.T) (lines []string) {
	t.Helper()
	for l := range strings.Lines(string(sampleJournal(t))) {
		if len(l) < 300 {
			lines = append(lines, l)
		}
	}
	return lines
}

// readText reads the text of a file.
func readText(text []byte) (raw []string, d Damage, err error) {
	err = readFile(context.Background(), bytes.NewReader(text), "f", Window{}, func(l *Line) error {
		if _, err := l.Record(); err != nil {
			return err
		}
		raw = append(raw, string(l.Raw))
		return nil
	}, &d)
	return raw, d, err
}

// TestTruncated cuts a journal at every byte: all lines before are read, and the rest is one torn line.
func TestTruncated(t *testing.T) {
	text := []byte(strings.Join(shortLines(t), ""))
	for n := range text {
		whole := bytes.Count(text[:n], []byte("\n"))
		torn := 0
		switch {
		case text[n] == '\n': // a whole record, but for that
			whole++
		case n > 0 && text[n-1] != '\n':
			torn = 1
		}
		raw, d, err := readText(text[:n])
		if len(raw) != whole || d != (Damage{Torn: torn}) || err != nil {
			t.Fatalf("cut at %d: %d records, want %d; %+v, %v", n, len(raw), whole, d, err)
		}
	}
}

// TestFlipped changes every byte of a journal: all other lines are read. The one it is in is damaged, or still a record.
func TestFlipped(t *testing.T) {
	lines := shortLines(t)
	text := []byte(strings.Join(lines, ""))
	start, in := 0, 0
	for n := range text {
		if n >= start+len(lines[in]) {
			start += len(lines[in])
			in++
		}
		for _, bit := range []byte{0x01, 0x02, 0x20, 0x80, 0xff} {
			changed := bytes.Clone(text)
			changed[n] ^= bit
			raw, d, err := readText(changed)
			if errors.Is(err, record.ErrNewer) && n == start+len(`{"v":`) {
				continue // it says so, and means this line
			}
			if err != nil {
				t.Fatalf("byte %d is %q: %v", n, changed[n], err)
			}
			want := map[string]int{}
			for i, l := range lines {
				if i != in && (i != in+1 || text[n] != '\n') {
					want[strings.TrimSuffix(l, "\n")]++
				}
			}
			for _, r := range raw {
				want[r]--
			}
			for l, n := range want {
				if n > 0 {
					t.Fatalf("a byte was changed to %q, and another line is not read: %s", changed[n], l)
				}
			}
			account(t, changed, raw, d)
		}
	}
}

// account checks that the records and the damage are all of a file.
func account(t *testing.T, text []byte, raw []string, d Damage) {
	t.Helper()
	lines := bytes.Count(text, []byte("\n"))
	rest := text[bytes.LastIndexByte(text, '\n')+1:]
	if len(rest) > 0 && d.Torn == 0 {
		lines++
	}
	if got := len(raw) + d.Lines + d.Unknown; got != lines || d.Torn > 1 || d.Torn == 1 && json.Valid(rest) {
		t.Fatalf("%d records, %+v: not all of %d lines", len(raw), d, lines)
	}
	size := d.Bytes + int64(lines-d.Lines)
	if len(rest) > 0 {
		size += int64(d.Torn*len(rest) + d.Torn - 1) // without a newline
	}
	for _, r := range raw {
		size += int64(len(r))
	}
	// A last line without its newline that is damaged was taken one too low.
	off := int64(len(text)) - size
	if d.Unknown == 0 && off != 0 && (off != 1 || len(rest) == 0 || d.Lines == 0) {
		t.Fatalf("%d records, %+v: %d bytes, not all of %d", len(raw), d, size, len(text))
	}
}

// FuzzRead: whatever a file holds, its lines are records, damage, torn or of unknown kinds, and what encoding/json knows as a
// record is one.
func FuzzRead(f *testing.F) {
	text, err := os.ReadFile("testdata/v1.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for l := range bytes.Lines(text) {
		f.Add(l)
	}
	f.Add([]byte(newerFile))
	f.Add([]byte(stopAt(1, "2026-11-23T10:00:00Z") + "\x00\x00\n{}\n" + stopAt(2, "2026-11-31T10:00:00Z")))
	f.Fuzz(func(t *testing.T, text []byte) {
		raw, d, err := readText(text)
		if errors.Is(err, record.ErrNewer) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		account(t, text, raw, d)
		read := map[string]int{}
		for _, r := range raw {
			read[r]++
		}
		for l := range strings.Lines(string(text)) {
			l = strings.TrimSuffix(l, "\n")
			if _, err := record.Parse([]byte(l)); err == nil && len(l) <= maxLine && !repeats([]byte(l)) {
				if read[l]--; read[l] < 0 {
					t.Errorf("is a record, and was not read: %q", l)
				}
			}
		}
	})
}

// repeats reports whether a key of an object comes twice, in whatever case: encoding/json takes the last, a peek the first,
// and nobody writes such a line.
func repeats(line []byte) bool {
	d := json.NewDecoder(bytes.NewReader(line))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return false
	}
	seen := map[string]bool{}
	for d.More() {
		key, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			return false
		}
		k := strings.ToLower(fmt.Sprint(key))
		if seen[k] {
			return true
		}
		seen[k] = true
	}
	return false
}

// FuzzLine: what is read without encoding/json is what that makes of it.
func FuzzLine(f *testing.F) {
	for _, s := range []string{"2026-11-23T10:00:00Z", "2026-02-29T10:00:00.1Z", "2024-02-29T23:59:60Z", "2026-11-23T10:00:00.1234567891Z", "2026-11-23T10:00:00,1Z"} {
		f.Add([]byte(strings.TrimSuffix(stopAt(1, s), "\n")))
	}
	f.Add([]byte(`{"v":01,"seq":18446744073709551616,"time":"2026-11-23T10:00:00Z","boottime_ns":-1,"kind":"stop"}`))
	text, err := os.ReadFile("testdata/v1.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for l := range bytes.Lines(text) {
		f.Add(bytes.TrimSuffix(l, []byte("\n")))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		e, body, ok := peekFast(line)
		want, err := record.Parse(line)
		if !ok || repeats(line) {
			return
		}
		if err == nil {
			if diff := cmp.Diff(*want.Head(), e); diff != "" {
				t.Errorf("(-encoding/json +peek):\n%s", diff)
			}
		}
		if got := new(decoder).decode(e, body); got != nil {
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v (-encoding/json +decode):\n%s", err, diff)
			}
		}
	})
}

// TestFast: what the journal writes is not left to encoding/json, also where somebody gave a record a new field.
func TestFast(t *testing.T) {
	n := record.NetNS{Name: "é"}
	fill(reflect.ValueOf(&n).Elem())
	d := record.Drop{Cause: conntrack.Clash, Inferred: true}
	fill(reflect.ValueOf(&d).Elem())
	p := newPen()
	for _, r := range []record.Record{p.busy(), p.sample(state(1, 1, 3), record.NetNS{}, n), p.next(&record.Drop{}), p.next(&d), p.limit()} {
		text, err := Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		e, body, ok := peekFast(bytes.TrimSpace(text))
		if !ok || e != *r.Head() {
			t.Errorf("the envelope is not read: %s", text)
		}
		if e.Kind == record.KindLimit {
			continue
		}
		got := (&decoder{words: map[string]string{}}).decode(e, body)
		want, err := record.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// fill sets all fields that are zero.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case !f.IsZero() || f.Kind() == reflect.Struct:
		case f.Kind() == reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case f.Kind() == reflect.String:
			f.SetString("x")
		case f.Kind() == reflect.Bool:
			f.SetBool(true)
		case f.CanUint():
			f.SetUint(3)
		case f.Kind() == reflect.Array:
			for i := range f.Len() {
				f.Index(i).SetUint(uint64(i + 1))
			}
		}
	}
}
