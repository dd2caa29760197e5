package boot

import (
	"path"
	"slices"
	"strings"
)

// limit is one of the limits that sysctls set.
type limit int

const (
	limitMax limit = iota
	limitBuckets
)

// sysctl is a name by which a limit can be written.
type sysctl struct {
	path  string // below /proc/sys
	limit limit
	on    func(kernel) bool // whether a kernel has it
}

// sysctls are all of them. Those of one limit are one variable.
var sysctls = [...]sysctl{
	{"net/netfilter/nf_conntrack_max", limitMax, func(k kernel) bool { return !k.ipConntrack() }},
	{"net/nf_conntrack_max", limitMax, func(k kernel) bool { return !k.ipConntrack() }},
	{"net/ipv4/netfilter/ip_conntrack_max", limitMax, kernel.oldNames},
	{"net/ipv4/ip_conntrack_max", limitMax, kernel.ipConntrack},
	{"net/netfilter/nf_conntrack_buckets", limitBuckets, func(k kernel) bool { return !k.ipConntrack() }},
	// Not sysctls: scripts write them.
	{"/sys/module/nf_conntrack/parameters/hashsize", limitBuckets, func(k kernel) bool { return !k.ipConntrack() }},
	{"/sys/module/ip_conntrack/parameters/hashsize", limitBuckets, kernel.ipConntrack},
}

// option reports whether it is the module's option, which can be written on any kernel.
func (s sysctl) option() bool { return strings.HasPrefix(s.path, "/") }

// assignment is a line of a file that sets a limit.
type assignment struct {
	place
	key   string // as it is written
	path  string // below /proc/sys; may be a pattern
	value string
	// exclude keeps patterns from setting it, and takes an earlier line back: "-key" without a value.
	exclude bool
}

func (a assignment) pattern() bool { return strings.ContainsAny(a.path, "*?[") }

// reaches reports whether the line is for this sysctl, by its name or by a pattern.
func (a assignment) reaches(sysctl string) bool {
	if !a.pattern() {
		return a.path == sysctl
	}
	ok, err := path.Match(strings.ReplaceAll(a.path, "[!", "[^"), sysctl)
	return ok && err == nil
}

// parseSysctl returns the lines that are about limits (parse_file in systemd's sysctl.c; procps reads the same).
func parseSysctl(file, text string) []assignment {
	const space = " \t\r\n"
	var found []assignment
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.Trim(line, space)
		if line == "" || strings.ContainsRune("#;", rune(line[0])) {
			continue
		}
		key, value, assigned := strings.Cut(line, "=")
		bare, dash := strings.CutPrefix(key, "-")
		if !assigned && !dash {
			continue
		}
		a := assignment{
			place:   place{file, number},
			key:     strings.Trim(bare, space),
			value:   strings.Trim(value, space),
			exclude: !assigned,
		}
		a.path = normalize(a.key)
		for _, s := range sysctls {
			if a.reaches(s.path) {
				found = append(found, a)
				break
			}
		}
	}
	return found
}

// normalize makes a key a path below /proc/sys. If the first separator is a dot, dots and slashes change places
// (sysctl_normalize in systemd, slashdot in procps).
func normalize(key string) string {
	if i := strings.IndexAny(key, "/."); i >= 0 && key[i] == '.' {
		key = strings.Map(func(r rune) rune {
			switch r {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return r
		}, key)
	}
	return strings.Join(strings.FieldsFunc(key, func(r rune) bool { return r == '/' }), "/")
}

// write is a sysctl that is written, because of a line.
type write struct {
	assignment
	sysctl sysctl
}

// systemdWrites are the writes of systemd-sysctl, in their order. It collects all lines first: a later line for the same
// path takes an earlier one's place and goes to the end, unless it says the same. Patterns leave out what has a line.
func systemdWrites(files [][]assignment) []write {
	var lines []assignment
	for _, a := range slices.Concat(files...) {
		i := slices.IndexFunc(lines, func(b assignment) bool { return a.path == b.path })
		if i >= 0 && lines[i].value == a.value && lines[i].exclude == a.exclude {
			continue
		}
		if i >= 0 {
			lines = slices.Delete(lines, i, i+1)
		}
		lines = append(lines, a)
	}
	return expand(lines)
}

// procpsWrites are the writes of sysctl --system and sysctl -p: line by line. (4.0 collects them, too; that makes no
// difference to which is last, but where two names of a limit are used.)
func procpsWrites(files [][]assignment) []write { return expand(slices.Concat(files...)) }

// expand replaces patterns by the sysctls that they match and that have no line of their own.
func expand(lines []assignment) []write {
	explicit := map[string]bool{}
	for _, a := range lines {
		explicit[a.path] = true
	}
	var writes []write
	for _, a := range lines {
		for _, s := range sysctls {
			if !a.exclude && a.reaches(s.path) && (!a.pattern() || !explicit[s.path]) {
				writes = append(writes, write{a, s})
			}
		}
	}
	return writes
}

// ufwEnabled reads /etc/ufw/ufw.conf, which the shell reads.
func ufwEnabled(conf string) bool { return strings.EqualFold(shellVariable(conf, "ENABLED"), "yes") }

// ufwSysctl is the file that ufw gives to sysctl -p when it starts, by /etc/default/ufw; "" if none.
func ufwSysctl(conf string) string {
	if !strings.Contains(conf, "IPT_SYSCTL=") {
		return "/etc/ufw/sysctl.conf"
	}
	return shellVariable(conf, "IPT_SYSCTL")
}

// shellVariable is what a file of plain assignments sets a variable to.
func shellVariable(text, name string) (value string) {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			v, _, _ = strings.Cut(v, " #")
			value = strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return value
}
