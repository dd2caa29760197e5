package boot

import "strings"

// cmdlineFile is what the kernel was booted with, and presumably will be again.
const cmdlineFile = "/proc/cmdline"

// directive is a line of modprobe.d.
type directive struct {
	place
	command string // options, install, blacklist, ...
	module  string // with underscores
	rest    string
}

// parseModprobe reads a file of modprobe.d (kmod_config_parse in libkmod-config.c). A backslash at the end joins a line
// with the next; its number is that of the first.
func parseModprobe(file, text string) (found []directive) {
	joined, number, first := "", 0, 0
	for line := range strings.Lines(text) {
		number++
		if joined == "" {
			first = number
		}
		line = strings.TrimSuffix(line, "\n")
		if before, more := strings.CutSuffix(line, `\`); more {
			joined += before + " "
			continue
		}
		if d, ok := parseDirective(joined + line); ok {
			d.place = place{file, first}
			found = append(found, d)
		}
		joined = ""
	}
	if d, ok := parseDirective(joined); ok {
		d.place = place{file, first}
		found = append(found, d)
	}
	return found
}

func parseDirective(line string) (directive, bool) {
	command, rest := nextWord(line)
	module, rest := nextWord(rest)
	if command == "" || command[0] == '#' || module == "" {
		return directive{}, false
	}
	return directive{command: command, module: underscored(module), rest: strings.Trim(rest, " \t")}, true
}

func nextWord(s string) (word, rest string) {
	s = strings.TrimLeft(s, " \t")
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// parseCmdline makes the kernel's command line's "module.option=value" options: modprobe reads them after its files, and
// what is part of the kernel gets them from the kernel.
func parseCmdline(cmdline string) (found []directive) {
	for word := range strings.FieldsSeq(cmdline) {
		name, option, ok := strings.Cut(word, ".")
		if ok && strings.Contains(option, "=") && !strings.Contains(name, "=") {
			found = append(found, directive{place{file: cmdlineFile}, "options", underscored(name), option})
		}
	}
	return found
}

// hashsize is the last hashsize= of an options line.
func (d directive) hashsize() (value string, ok bool) {
	for option := range strings.FieldsSeq(d.rest) {
		if v, is := strings.CutPrefix(strings.Trim(option, `"`), "hashsize="); is {
			value, ok = strings.Trim(v, `"`), true
		}
	}
	return value, ok
}
