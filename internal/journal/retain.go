package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// dayFile is one daily file.
type dayFile struct {
	day   string
	bytes int64
}

// expired chooses the files to remove, from files in order of their days: those that are older than maxAge (0: none are),
// and then the oldest while all together are over maxBytes (0: they never are). Today's is never chosen.
//
// Age is counted from today, but no more than one day after the newest other file: a clock that is years ahead for some
// minutes after boot does not empty the journal.
func expired(files []dayFile, today string, maxAge time.Duration, maxBytes int64) (remove, stay []dayFile) {
	now, newest, total := moment(today), time.Time{}, int64(0)
	for _, f := range files {
		total += f.bytes
		if f.day != today {
			newest = moment(f.day)
		}
	}
	if limit := newest.AddDate(0, 0, 1); limit.Before(now) {
		now = limit
	}
	for _, f := range files {
		old := maxAge > 0 && now.Sub(moment(f.day)) > maxAge
		if f.day != today && (old || maxBytes > 0 && total > maxBytes) {
			remove = append(remove, f)
			total -= f.bytes
		} else {
			stay = append(stay, f)
		}
	}
	return remove, stay
}

// moment is the beginning of a day.
func moment(day string) time.Time {
	t, _ := time.Parse(time.DateOnly, day) // is one: dayIn and dayOf name no others
	return t
}

// retain removes the files that are too old, or too much beside a number of bytes that are to be written. That it cannot
// does not keep us from writing.
func (a *appender) retain(room int64) {
	a.untidy = nil
	files, err := a.dir.days()
	if err != nil {
		a.untidy = fmt.Errorf("look for old files: %w", err)
		return
	}
	limit := a.maxBytes
	if limit > 0 {
		limit = max(1, limit-room)
	}
	remove, stay := expired(files, a.day, a.maxAge, limit)
	for _, f := range remove {
		if err := a.disk.Remove(a.dir.file(f.day)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			a.untidy = fmt.Errorf("remove an old file: %w", err)
			stay = append(stay, f)
		}
	}
	a.others = 0
	for _, f := range stay {
		if f.day != a.day {
			a.others += f.bytes
		}
	}
}

// withinBudget removes older files if the batch would make the journal longer than it may be. If that is not enough,
// state changes are written all the same, and the rest is lost.
func (a *appender) withinBudget(batch []entry) (fit, lost []entry) {
	room := int64(0)
	for i := range batch {
		room += int64(len(batch[i].line))
	}
	if a.maxBytes <= 0 || a.others+a.end+room <= a.maxBytes {
		a.full = nil
		return batch, nil
	}
	a.retain(room)
	size := a.others + a.end
	for _, e := range batch {
		if size+int64(len(e.line)) > a.maxBytes && e.class != classState {
			lost = append(lost, e)
			continue
		}
		size += int64(len(e.line))
		fit = append(fit, e)
	}
	if len(lost) > 0 {
		a.full = fmt.Errorf("%s: %w", a.dir.file(a.day), errBudget)
	}
	return fit, lost
}
