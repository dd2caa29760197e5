package recipe

import (
	"slices"
	"strings"
)

// Recipe is a system's own way to set the limits, where files in /etc cannot be written, are made by something else, or
// do not last.
type Recipe struct {
	System string // what it is for, as people call it: "NixOS"
	Why    string // one sentence: why that, and not files in /etc
	Source string // the address of the documentation that says so
	text   string // with @MAX@, and @BUCKETS@ in lines that are left out where the buckets are left alone
}

// Text is what to put where, for these limits: lines that end with a newline. Buckets 0 leaves the buckets alone.
func (r Recipe) Text(max, buckets uint64) string {
	var text strings.Builder
	for line := range strings.Lines(r.text) {
		if buckets != 0 || !strings.Contains(line, "@BUCKETS@") {
			text.WriteString(line)
		}
	}
	return fill(text.String(), max, buckets, "")
}

// For is the recipe of the system with this /etc/os-release. Where that has none of its own it is Generic, and false.
func For(osRelease string) (Recipe, bool) {
	about := parse(osRelease)
	for _, id := range append([]string{about["ID"]}, strings.Fields(about["ID_LIKE"])...) {
		for _, s := range systems() {
			if slices.Contains(s.ids, id) && (len(s.variants) == 0 || slices.Contains(s.variants, about["VARIANT_ID"])) {
				return s.Recipe, true
			}
		}
	}
	if about["OSTREE_VERSION"] != "" { // what is composed by rpm-ostree has it
		return ostree(), true
	}
	return Generic(), false
}

// parse reads os-release(5): assignments as the shell has them.
func parse(osRelease string) map[string]string {
	about := map[string]string{}
	for line := range strings.Lines(osRelease) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(key, "#") {
			about[key] = strings.Trim(value, `"'`)
		}
	}
	return about
}

// system is which os-release a Recipe is for.
type system struct {
	ids      []string
	variants []string // any if empty
	Recipe
}
