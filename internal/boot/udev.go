package boot

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// ruleItem is one part of a udev rule: KEY=="value", RUN+="value", RUN{program}+="value".
var ruleItem = regexp.MustCompile(`([A-Z]+)(?:\{([^}]*)\})?\s*(==|!=|\+=|-=|:=|=)\s*"((?:[^"\\]|\\.)*)"`)

// parseRules finds the rules that apply files when the module is loaded, and those that do something else that may set
// limits.
func parseRules(file, text, module string) (found []addRule, others []unclear) {
	event := map[string]string{"ACTION": "add", "SUBSYSTEM": "module", "KERNEL": module, "DEVPATH": "/module/" + module}
	joined, number, first := "", 0, 0
	for line := range strings.Lines(text) {
		number++
		if joined == "" {
			first = number
		}
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		if before, more := strings.CutSuffix(line, `\`); more {
			joined += before
			continue
		}
		line, joined = joined+line, ""
		for _, program := range programs(line, event) {
			at := place{file, first}
			if rule, ok := parseProgram(program); ok {
				rule.place = at
				found = append(found, rule)
			} else if strings.Contains(program, "sysctl") || strings.Contains(program, "conntrack") {
				others = append(others, unclear{at, "runs a program when the module is loaded"})
			}
		}
	}
	return found, others
}

// programs are what a rule runs for an event. A rule for all modules, or with conditions that are not in the event, is
// none for it.
func programs(line string, event map[string]string) (run []string) {
	named := false
	for _, item := range ruleItem.FindAllStringSubmatch(line, -1) {
		key, kind, op, value := item[1], item[2], item[3], item[4]
		switch op {
		case "==", "!=":
			actual, known := event[key]
			if !known || anyMatch(value, actual) != (op == "==") {
				return nil
			}
			named = named || op == "==" && (key == "KERNEL" || key == "DEVPATH")
		case "=", "+=", ":=":
			if key == "RUN" && kind != "builtin" {
				run = append(run, value)
			}
		}
	}
	if !named {
		return nil
	}
	return run
}

// anyMatch reports whether one of the patterns, which stand between bars, matches.
func anyMatch(patterns, s string) bool {
	return slices.ContainsFunc(strings.Split(patterns, "|"), func(p string) bool {
		ok, err := path.Match(p, s)
		return ok && err == nil
	})
}

// waiting is a shell that waits some seconds for the sysctls and then runs a program, as ctwatch has it for kernels that
// tell of a module before its sysctls are there.
var waiting = regexp.MustCompile(`^/bin/sh -c 'for i in [\d ]+; do \[ -e /proc/sys/[\w/]+ \] && exec ([^;&|]+); sleep 1; done'$`)

// parseProgram understands systemd-sysctl with or without --prefix, sysctl --system, sysctl -p FILE, and a shell that waits
// before it runs one of them.
func parseProgram(program string) (r addRule, ok bool) {
	if inner := waiting.FindStringSubmatch(program); inner != nil {
		r, ok = parseProgram(inner[1])
		r.waits = ok
		return r, ok
	}
	words := strings.Fields(program)
	if len(words) == 0 {
		return r, false
	}
	switch args := words[1:]; path.Base(words[0]) {
	case "sysctl":
		if plain := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "-q" || a == "-e" }); len(plain) == 2 && plain[0] == "-p" {
			r.file = plain[1]
			return r, true
		}
		r.procps = true
		return r, slices.Contains(args, "--system") && !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--pattern") || a == "-r" })
	case "systemd-sysctl":
		for i := 0; i < len(args); i++ {
			prefix, joined := strings.CutPrefix(args[i], "--prefix=")
			switch {
			case joined:
			case args[i] == "--prefix" && i+1 < len(args):
				i++
				prefix = args[i]
			default:
				return r, false
			}
			// --prefix=/proc/sys/net/netfilter is below no path here, and matches nothing there either.
			r.prefixes = append(r.prefixes, normalize(prefix))
		}
		return r, true
	}
	return r, false
}

// covers reports whether the rule applies to a path below /proc/sys.
func (r addRule) covers(sysctl string) bool {
	if len(r.prefixes) == 0 {
		return true
	}
	return slices.ContainsFunc(r.prefixes, func(p string) bool {
		return p == "" || sysctl == p || strings.HasPrefix(sysctl, p+"/")
	})
}
