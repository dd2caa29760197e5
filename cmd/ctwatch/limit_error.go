package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/persist"
	"github.com/ctwatch/ctwatch/internal/recipe"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

// explainLimit says how to exit after an error about limits, and what to do.
func explainLimit(err error, root string) error { return explainWith(err, root, 0, 0) }

// explainWith gives recipes with the limits that were asked for.
func explainWith(err error, root string, max, buckets uint64) error {
	var unwritable *limits.UnwritableError
	var rejected *limits.RejectedError
	var readOnly *persist.ReadOnlyError
	var conflict *persist.ConflictError
	var edited *persist.EditedError
	var unsafe *persist.UnsafeError
	var hinted hintedError
	switch {
	case err == nil || errors.As(err, &hinted):
		return err
	case errors.Is(err, conntrack.ErrNotLoaded):
		return impossibleError{"conntrack is not loaded: there is no running limit", fmt.Sprintf(
			"`ctwatch limit persist %d` makes a limit hold from the first load on; ctwatch does not load the module", example(max))}
	case errors.Is(err, limits.ErrNoProc):
		return impossibleError{limits.ErrNoProc.Error(), "is proc mounted there?"}
	case errors.As(err, &unwritable) && unwritable.Why == limits.Denied:
		return hintedError{err, "it takes root, or CAP_NET_ADMIN"}
	case errors.As(err, &unwritable) && unwritable.Why == limits.NoFile:
		return impossibleError{"the number of buckets " + err.Error(), "leave --buckets out"}
	case errors.As(err, &unwritable):
		return impossibleError{err.Error(), recipeText(recipe.Container(), max, buckets)}
	case errors.As(err, &rejected) && rejected.Value == 0:
		return impossibleError{"the kernel refuses it: " + err.Error(), "since 7.0 max is at least 1; before, 0 was no limit"}
	case errors.As(err, &rejected):
		return impossibleError{"the kernel refuses it: " + err.Error(), "`ctwatch limit plan` finds a number that it takes"}
	case errors.As(err, &readOnly):
		r, known := recipe.For(osRelease(root))
		text := recipeText(r, max, buckets)
		if known {
			text = r.System + ": " + text
		}
		return impossibleError{err.Error(), text}
	case errors.As(err, &conflict):
		return hintedError{err, "take these lines out, or change them; --force writes all the same, and they win"}
	case errors.As(err, &edited):
		return hintedError{err, "--force does it all the same"}
	case errors.As(err, &unsafe):
		return hintedError{err, "whoever can change it could change what ctwatch writes: make it root's alone"}
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return hintedError{err, "run it as root, such as with sudo"}
	}
	return err
}

// example is a number to put into an example where none was asked for.
func example(max uint64) uint64 {
	if max == 0 {
		return remediate.Seed
	}
	return max
}

// recipeText is a recipe as a hint.
func recipeText(r recipe.Recipe, max, buckets uint64) string {
	return strings.TrimRight(r.Why+"\n"+r.Text(example(max), buckets), "\n")
}
