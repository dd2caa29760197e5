// Package netns tells which network namespaces exist and whose they are, and enters them.
package netns

import (
	"strings"
	"unicode"
)

// Namespace is one network namespace as of a Scan. Inode and Cookie together are its identity: the kernel gives the
// inode of a namespace that is gone to the next one, but never a cookie.
type Namespace struct {
	Inode  uint64 // as in net:[4026531833]
	Cookie uint64 // net->net_cookie; 0 where the kernel has none (before 5.14) or we may not enter
	Name   string // what people call it: "host", its `ip netns` name, its owner, or "" where it has none of these
	Owner  Owner  // of a process in it; the zero Owner for the host and where no process tells
	Path   string // of a file that Enter can open
	PID    int    // the lowest of the processes in it; 0 if it has none
	Host   bool   // it is init's
}

// clean makes text from the kernel or from a user's file name safe to keep: control characters and broken UTF-8 become
// U+FFFD. Whoever prints a name still has to quote it.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}
