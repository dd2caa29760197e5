package persist

import (
	"errors"
	"fmt"

	"github.com/ctwatch/ctwatch/internal/boot"
)

// ErrNothing is that there is nothing to undo.
var ErrNothing = errors.New("nothing to undo")

// ErrNotLast is that the Set which Undo was to take back is not the last any more.
var ErrNotLast = errors.New("nothing was undone: another change was made in the meantime, so look again at what `ctwatch limit show` tells as the last")

// ConflictError is that other files would win over ours at boot.
type ConflictError struct{ Conflicts []boot.Conflict }

func (e *ConflictError) Error() string {
	text := "others would win at the next boot"
	for i, c := range e.Conflicts {
		text += [2]string{": ", "; "}[min(i, 1)] + c.String()
	}
	return text
}

// EditedError is that a file of ours is not as ctwatch left it.
type EditedError struct{ Path, Why string }

func (e *EditedError) Error() string { return fmt.Sprintf("%s %s", e.Path, e.Why) }

// ReadOnlyError is that files cannot be written on this system.
type ReadOnlyError struct {
	Path   string // what could not be written
	Distro string // ID of /etc/os-release: nixos, talos, bottlerocket; "" if there is none
	Err    error  // EROFS, EPERM or EACCES
}

func (e *ReadOnlyError) Error() string {
	return fmt.Sprintf("%s cannot be written here: %v", e.Path, e.Err)
}
func (e *ReadOnlyError) Unwrap() error { return e.Err }

// UnsafeError is that a file or directory is not ours alone to write to.
type UnsafeError struct{ Path, Why string }

func (e *UnsafeError) Error() string { return fmt.Sprintf("%s %s", e.Path, e.Why) }
