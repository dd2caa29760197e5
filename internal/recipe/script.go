// Package recipe tells what sets the limits where ctwatch cannot write, or cannot run.
package recipe

import (
	"cmp"
	"embed"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// What the kernel takes: nf_conntrack_max is an int, and nf_conntrack_hash_resize refuses more buckets.
const (
	mostEntries = math.MaxInt32
	mostBuckets = math.MaxInt32 / 8
)

//go:embed *.sh kube-proxy.yaml
var templates embed.FS

// parts are the templates that make up what each target gets.
var parts = map[string][]string{
	"centos5":    {"head.sh", "centos5.sh", "centos.sh", "running.sh", "files.sh", "commands.sh"},
	"centos6":    {"head.sh", "centos6.sh", "centos.sh", "running.sh", "files.sh", "commands.sh"},
	"sysctl.d":   {"head.sh", "sysctl.d.sh", "running.sh", "files.sh", "commands.sh"},
	"kube-proxy": {"kube-proxy.yaml"},
}

// Targets are the names of what Script is for.
func Targets() []string { return []string{"centos5", "centos6", "sysctl.d", "kube-proxy"} }

// Script is a POSIX shell script (for kube-proxy, a commented piece of its configuration) that sets these limits on a
// target, and has them set again at each boot. Buckets 0 leaves the buckets alone. Version is ctwatch's own.
func Script(target string, max, buckets uint64, version string) (string, error) {
	if !slices.Contains(Targets(), target) {
		return "", fmt.Errorf("unknown target %q: is one of %s", target, strings.Join(Targets(), ", "))
	}
	if max < 1 || max > mostEntries {
		return "", fmt.Errorf("max %d is not from 1 to %d", max, mostEntries)
	}
	if buckets > mostBuckets {
		return "", fmt.Errorf("buckets %d are more than %d", buckets, mostBuckets)
	}
	var script strings.Builder
	for _, name := range parts[target] {
		part, err := templates.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("read template: %w", err)
		}
		script.WriteString(withoutDirective(string(part)))
	}
	return fill(script.String(), max, buckets, version), nil
}

// withoutDirective leaves out the first line of a part if it speaks to shellcheck, which reads the parts one by one.
func withoutDirective(part string) string {
	if first, rest, _ := strings.Cut(part, "\n"); strings.HasPrefix(first, "# shellcheck ") {
		return rest
	}
	return part
}

// fill puts the numbers in. A version is made of what cannot end a word of the shell.
func fill(text string, max, buckets uint64, version string) string {
	return strings.NewReplacer(
		"@MAX@", strconv.FormatUint(max, 10),
		"@BUCKETS@", strconv.FormatUint(buckets, 10),
		"@VERSION@", cmp.Or(strings.Map(plain, version), "unknown"),
	).Replace(text)
}

// plain leaves out what has a meaning to the shell or in a file.
func plain(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-+~_", r) {
		return r
	}
	return -1
}
