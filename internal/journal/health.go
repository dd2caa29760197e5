package journal

import (
	"fmt"
	"time"
)

// noticeEvery is how often at most it is said that the journal cannot be written. That it can again is said once for each.
const noticeEvery = time.Minute

// health tells when there is something to say about the disk.
type health struct {
	err   error // nil when healthy
	since time.Time
	said  bool // that it is not healthy
	at    time.Time
}

// update takes the state that was found, and returns what to say, or "".
func (h *health) update(err error, now time.Time, lost uint64) string {
	if (h.err == nil) != (err == nil) {
		h.since = now
	}
	failing := h.err != nil
	h.err = err
	switch {
	case err != nil && !h.said && (h.at.IsZero() || now.Sub(h.at) >= noticeEvery):
		h.said, h.at = true, now
		return fmt.Sprintf("the journal is not complete: %v", err)
	case err == nil && failing && h.said:
		h.said = false
		return fmt.Sprintf("the journal is written again after %s; %d records are lost since the start",
			now.Sub(h.at).Round(time.Second), lost)
	}
	return ""
}
