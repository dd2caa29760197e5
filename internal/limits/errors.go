package limits

import (
	"errors"
	"fmt"
)

// ErrNoProc: whether this machine's kernel has limits cannot be told, for want of a proc.
var ErrNoProc = errors.New("there is no /proc/sys: the limits cannot be seen from here")

// Why a limit cannot be written.
type Why string

// The reasons.
const (
	OtherNamespace Why = "only the initial network namespace may write it"
	ReadOnly       Why = "it is mounted read-only"
	Denied         Why = "permission denied"
	NoFile         Why = "this kernel has no file for it"
)

// UnwritableError: a limit cannot be written here.
type UnwritableError struct {
	Path string
	Why  Why
}

// Error says which and why.
func (e *UnwritableError) Error() string {
	if e.Path == "" {
		return "cannot be set: " + string(e.Why)
	}
	return fmt.Sprintf("write %s: %s", e.Path, e.Why)
}

// RangeError: no kernel takes the number.
type RangeError struct{ Value, Most uint64 }

// Error says which and what is possible.
func (e *RangeError) Error() string {
	return fmt.Sprintf("%d is out of range: at most %d", e.Value, e.Most)
}

// RejectedError: this kernel does not take the number.
type RejectedError struct {
	Path  string
	Value uint64
	Err   error
}

// Error says where, which, and what the kernel said.
func (e *RejectedError) Error() string {
	return fmt.Sprintf("write %d to %s: %v", e.Value, e.Path, e.Err)
}

// Unwrap returns what the kernel said.
func (e *RejectedError) Unwrap() error { return e.Err }

// DiffersError: another number was read back than was written. Somebody else wrote one at the same time.
type DiffersError struct {
	Path      string
	Want, Got uint64
}

// Error says where, and both numbers.
func (e *DiffersError) Error() string {
	return fmt.Sprintf("wrote %d to %s and read back %d: somebody else sets it, too", e.Want, e.Path, e.Got)
}
