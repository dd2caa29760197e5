package record

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ErrNewer: the record is of a later version of ctwatch, and may mean what this one does not know.
var ErrNewer = errors.New("record of a newer version")

// ErrKind: the record is of no kind that this version knows.
var ErrKind = errors.New("record of an unknown kind")

// Parse reads one line as Marshal wrote it. It fails with ErrNewer or ErrKind, or because the line is no record.
func Parse(line []byte) (Record, error) {
	var e Envelope
	if err := json.Unmarshal(line, &e); err != nil {
		return nil, err
	}
	if e.V > Version {
		return nil, fmt.Errorf("%w: version %d, and this ctwatch knows %d", ErrNewer, e.V, Version)
	}
	r := New(e.Kind)
	switch {
	case e.V < 1:
		return nil, errors.New("no version")
	case r == nil:
		return nil, fmt.Errorf("%w: %q", ErrKind, e.Kind)
	}
	if err := json.Unmarshal(line, r); err != nil {
		return nil, err
	}
	return r, nil
}

// New returns an empty record of a kind, and nil for one that this version does not know.
func New(kind string) Record {
	switch kind {
	case KindStart:
		return new(Start)
	case KindSample:
		return new(Sample)
	case KindDrop:
		return new(Drop)
	case KindIncident:
		return new(Incident)
	case KindAction:
		return new(Action)
	case KindLimit:
		return new(Limit)
	case KindGap:
		return new(Gap)
	case KindStop:
		return new(Stop)
	}
	return nil
}
