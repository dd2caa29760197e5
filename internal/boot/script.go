package boot

import (
	"path"
	"strings"
)

// script is what a script of the machine's start does to the limits, as far as ctwatch follows it: plain commands, one a
// line, outside of conditions.
type script struct {
	file   string
	writes []assignment // in their order; of sysctl -p and --system those of the files
	loads  bool         // it loads conntrack before it sets anything
}

// scriptReader gives a script the files that its commands name.
type scriptReader struct {
	file   string
	module string                         // conntrack's name
	conf   func(file string) []assignment // what sysctl -p FILE sets
	system func() (writes [][]assignment) // what sysctl --system sets, file by file
}

// read returns what a script does, and the lines that name conntrack in a way it does not follow.
func (r scriptReader) read(text string) (s script, others []unclear) {
	s.file = r.file
	number, depth := 0, 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		at := place{r.file, number}
		first, _ := nextWord(strings.TrimSuffix(line, ";"))
		opens, closes := opening[first], closing[first]
		if closes {
			depth = max(depth-1, 0)
		}
		if depth == 0 && (first == "exit" || first == "exec") {
			break
		}
		words, plain := commandWords(line)
		known := plain && depth == 0 && !opens && r.command(words, at, &s)
		if !known && strings.Contains(line, "conntrack") {
			others = append(others, unclear{at, "names conntrack when the machine has started"})
		}
		if opens && !endsBlock(line) {
			depth++
		}
	}
	return s, others
}

// opening and closing are the words that begin and end what may not be run, or more than once.
var (
	opening = map[string]bool{"if": true, "for": true, "while": true, "until": true, "case": true, "{": true, "(": true}
	closing = map[string]bool{"fi": true, "done": true, "esac": true, "}": true, ")": true}
)

// endsBlock reports whether a line that opens a block closes it, too: if x; then y; fi
func endsBlock(line string) bool {
	words := strings.Fields(strings.ReplaceAll(line, ";", " "))
	return len(words) > 1 && closing[words[len(words)-1]]
}

// commandWords are the words of one plain command without its quotes. It is none where a shell would do more with it than
// redirect. What only tells where messages go is left out.
func commandWords(line string) (words []string, plain bool) {
	line = strings.TrimSpace(strings.TrimSuffix(line, ";"))
	for _, quiet := range []string{">/dev/null 2>&1", "> /dev/null 2>&1", "2>/dev/null", "2> /dev/null", "|| true", "|| :", ">/dev/null", "> /dev/null"} {
		line = strings.TrimSpace(strings.TrimSuffix(line, quiet))
	}
	if strings.ContainsAny(line, "|&;`$()<*?") {
		return nil, false
	}
	line = strings.NewReplacer(`"`, "", "'", "", ">", " > ").Replace(line)
	return strings.Fields(line), true
}

// command follows a command, if it is one of those that people set limits with.
func (r scriptReader) command(words []string, at place, s *script) (known bool) {
	if len(words) == 0 {
		return false
	}
	args := words[1:]
	switch path.Base(words[0]) {
	case "echo":
		if len(args) > 0 && args[0] == "-n" {
			args = args[1:]
		}
		if len(args) == 3 && args[1] == ">" {
			if p := limitFile(args[2]); p != "" {
				s.writes = append(s.writes, assignment{place: at, key: args[2], path: p, value: args[0]})
				return true
			}
		}
	case "modprobe":
		for len(args) > 0 && strings.HasPrefix(args[0], "-") {
			args = args[1:]
		}
		if len(args) == 1 && underscored(args[0]) == r.module {
			s.loads = s.loads || len(s.writes) == 0
			return true
		}
	case "sysctl":
		return r.sysctl(args, at, s)
	case "touch", "test", "[":
		return true
	}
	return false
}

// sysctl follows sysctl -w KEY=VALUE, sysctl -p FILE and sysctl --system.
func (r scriptReader) sysctl(args []string, at place, s *script) (known bool) {
	load, system := false, false
	var rest []string
	for _, a := range args {
		switch a {
		case "-w", "-q", "-e", "-n", "--write", "--quiet", "--ignore":
		case "-p", "-f", "--load", "-qp", "-ep", "-eq":
			load = a != "-eq"
		case "--system":
			system = true
		default:
			if strings.HasPrefix(a, "-") {
				return false
			}
			rest = append(rest, a)
		}
	}
	switch {
	case system:
		for _, file := range r.system() {
			s.writes = append(s.writes, file...)
		}
		return true
	case load:
		if len(rest) == 0 {
			rest = []string{"/etc/sysctl.conf"}
		}
		for _, file := range rest {
			s.writes = append(s.writes, r.conf(file)...)
		}
		return true
	}
	for _, a := range rest {
		for _, set := range parseSysctl(at.file, a) {
			set.place = at
			s.writes = append(s.writes, set)
		}
	}
	return len(rest) > 0
}

// limitFile is the path of sysctls that a file in /proc/sys or /sys has; "" if it is no limit.
func limitFile(file string) string {
	file = path.Clean(file)
	p, ok := strings.CutPrefix(file, "/proc/sys/")
	if !ok {
		p = file // the option of the module
	}
	for _, s := range sysctls {
		if s.path == p {
			return p
		}
	}
	return ""
}
