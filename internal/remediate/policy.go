// Package remediate decides when the limits of connection tracking are raised, to what, and when not.
package remediate

import (
	"fmt"
	"math"
)

// Mode is what may be done.
type Mode string

// The modes.
const (
	Off    Mode = "off"     // nothing: nobody even thinks about it
	DryRun Mode = "dry-run" // what would be done is recorded
	On     Mode = "on"
)

// Modes are all of them.
func Modes() []Mode { return []Mode{Off, DryRun, On} }

// Policy is what an operator wants of decisions. [DefaultPolicy] is where to begin.
type Policy struct {
	RaiseAt        float64 // fill of a table, 0 to 1, from which on growth is answered
	MaxLimit       uint64  // entries, the most that is set; 0 is as many as memory allows
	MemoryFraction float64 // of all memory, 0 to 1, that new entries may take at most
}

// Seed is the limit that is set at least, where memory allows: what busy servers are given by those who learned it the hard
// way. With 384 bytes an entry it may cost 192 MiB.
const Seed = 1 << 19

// comfortable is the fill that a plan brings the peak to: above it people begin to worry.
const comfortable = 0.2

// DefaultPolicy answers growth from half of the limit on, with 8 % of memory at most.
func DefaultPolicy() Policy { return Policy{RaiseAt: 0.5, MemoryFraction: 0.08} }

// FieldError: a field of a policy cannot be what it is.
type FieldError struct {
	Field string // its name in Policy
	Value any
	Want  string
}

// Error says which, and what it could be.
func (e *FieldError) Error() string { return fmt.Sprintf("%s %v: %s", e.Field, e.Value, e.Want) }

// Check returns a *FieldError for the first field that cannot be what it is.
func (p Policy) Check() error {
	switch {
	case !(p.RaiseAt > 0 && p.RaiseAt <= 1):
		return &FieldError{"RaiseAt", p.RaiseAt, "it is a fill over 0 and up to 1"}
	case !(p.MemoryFraction > 0 && p.MemoryFraction <= mostMemory):
		return &FieldError{"MemoryFraction", p.MemoryFraction, fmt.Sprintf("it is a part of memory over 0 and up to %v", mostMemory)}
	case p.MaxLimit > math.MaxInt32:
		return &FieldError{"MaxLimit", p.MaxLimit, fmt.Sprintf("the kernel takes %d at most", math.MaxInt32)}
	}
	return nil
}

// mostMemory is the largest part of memory that anybody may want entries to take: they cannot be swapped.
const mostMemory = 0.5
