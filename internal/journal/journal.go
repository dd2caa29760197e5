// Package journal keeps records in daily files that survive a full disk, a lost directory, a kill and a power loss.
//
// A file is named after the day (UTC) of its records' wall time, and holds one JSON object a line. Lines are only ever
// appended. Within a run records stand in the order of their seq, but for the gap records that tell of a loss, and runs in
// the order in which they were. Times may go back, where the clock was set back. Gaps in seq are normal: calm minutes are
// rolled up (Rollup).
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// ErrRefused: the directory, or what stands in the place of a file, is not what a journal may be written to. Waiting does
// not help.
var ErrRefused = errors.New("not usable for the journal")

// maxLine is the longest line, in bytes: longer ones are neither written nor read.
const maxLine = 1 << 20

const suffix = ".jsonl"

// Encode returns a record as the journal has it, with its newline.
func Encode(r record.Record) ([]byte, error) {
	line, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("journal a record: %w", err)
	}
	return append(line, '\n'), nil
}

// dayOf names the day of a moment.
func dayOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// dayIn returns the day that a file's name is for.
func dayIn(name string) (day string, ok bool) {
	day, ok = strings.CutSuffix(name, suffix)
	if !ok || len(day) != len(time.DateOnly) {
		return "", false
	}
	_, err := time.Parse(time.DateOnly, day)
	return day, err == nil
}
