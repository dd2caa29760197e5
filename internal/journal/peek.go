package journal

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/ctwatch/ctwatch/internal/record"
)

var errNoRecord = errors.New("not a record")

// kinds are those that this version knows, the frequent ones first.
var kinds = [...]string{
	record.KindSample, record.KindDrop, record.KindIncident, record.KindStart, record.KindAction, record.KindLimit,
	record.KindGap, record.KindStop,
}

// peek reads the envelope of a line, and of the rest no more than its end. The lines that the journal writes begin with
// it, in the order of its fields; body is then what follows. Of others all is read.
func peek(line []byte) (e record.Envelope, body []byte, err error) {
	line = bytes.TrimRight(line, " \t\r")
	if len(line) == 0 || line[len(line)-1] != '}' {
		return e, nil, errNoRecord
	}
	if e, body, ok := peekFast(line); ok {
		return e, body, nil
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return e, nil, err
	}
	if e.V < 1 || e.Kind == "" {
		return e, nil, errNoRecord
	}
	return e, nil, nil
}

// peekFast knows the form that record.Stamp and encoding/json give to an envelope.
func peekFast(line []byte) (e record.Envelope, body []byte, ok bool) {
	c := cursor{rest: line, ok: true}
	c.literal(`{"v":`)
	v := c.number()
	c.literal(`,"seq":`)
	e.Seq = c.number()
	c.literal(`,"time":"`)
	e.Time = c.time()
	c.literal(`","boottime_ns":`)
	e.Boottime = c.signed()
	c.literal(`,"kind":"`)
	kind := c.text()
	if !c.ok || v == 0 || v > 1<<30 || len(kind) == 0 || len(c.rest) == 0 || c.rest[0] != ',' && c.rest[0] != '}' {
		return record.Envelope{}, nil, false
	}
	e.V = int(v)
	for _, k := range kinds {
		if string(kind) == k {
			e.Kind = k
			return e, c.rest, true
		}
	}
	e.Kind = string(kind)
	return e, c.rest, true
}
