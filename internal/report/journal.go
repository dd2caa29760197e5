package report

import (
	"context"
	"time"

	"github.com/ctwatch/ctwatch/internal/journal"
	"github.com/ctwatch/ctwatch/internal/record"
)

// FromJournal is the source that a journal's directory is.
func FromJournal(dir string) Source {
	return func(ctx context.Context, w Window, each func(record.Record) error) (Damage, error) {
		until := w.Until
		if !until.IsZero() {
			until = until.Add(time.Nanosecond) // the journal's windows end before it
		}
		var lost uint64
		d, err := journal.Read(ctx, dir, journal.Window{Since: w.Since, Until: until, Kinds: w.Kinds}, func(l *journal.Line) error {
			r, err := l.Record()
			if err != nil {
				return err
			}
			if gap, ok := r.(*record.Gap); ok {
				lost += gap.Lost
			}
			return each(r)
		})
		return Damage{Lines: uint64(d.Lines), Unknown: uint64(d.Unknown), Lost: lost, Unread: uint64(d.Unread)}, err
	}
}
