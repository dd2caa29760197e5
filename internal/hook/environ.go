package hook

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ctwatch/ctwatch/internal/record"
)

// environ is the environment of a call: words of ours, and numbers. What others chose, such as names and addresses, is in
// the document alone, where nothing evaluates it by accident.
func (c *call) environ(skipped uint64) []string {
	head := c.record.Head()
	env := []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG=C",
		"CTWATCH_KIND=" + head.Kind,
		"CTWATCH_TIME=" + strconv.FormatInt(head.Time.Unix(), 10),
		"CTWATCH_SEQ=" + strconv.FormatUint(head.Seq, 10),
		"CTWATCH_SKIPPED=" + strconv.FormatUint(skipped, 10),
	}
	number := func(name string, n uint64) { env = append(env, name+"="+strconv.FormatUint(n, 10)) }
	switch r := c.record.(type) {
	case *record.Incident:
		env = append(env, "CTWATCH_EVENT_ID="+plain(r.ID), "CTWATCH_PHASE="+plain(r.Phase))
		number("CTWATCH_NS", r.NS)
		number("CTWATCH_DROPS", r.Drops.Total())
		number("CTWATCH_UNATTRIBUTED", r.Unattributed)
		number("CTWATCH_EVICTED", r.Evicted)
		number("CTWATCH_PEAK_COUNT", r.PeakCount)
		number("CTWATCH_MAX", r.Limits.After)
		number("CTWATCH_BUCKETS", r.Buckets)
		number("CTWATCH_SECONDS", uint64(max(r.Duration, 0))/1e9)
	case *record.Action:
		// An action has no name. This one is never used again, as the number alone would be after a restart.
		id := fmt.Sprintf("action-%s-%d", head.Time.UTC().Format("20060102-150405"), head.Seq)
		env = append(env, "CTWATCH_EVENT_ID="+id, "CTWATCH_PHASE=")
		number("CTWATCH_NS", r.NS)
		number("CTWATCH_FROM", r.From)
		number("CTWATCH_TO", r.To)
	}
	return env
}

// plain is a word without what a shell would make something of: incidents' names and phases have nothing else in them.
func plain(word string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_':
			return r
		}
		return -1
	}, word)
}
