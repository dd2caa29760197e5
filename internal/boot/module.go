package boot

import (
	"errors"
	"path"
	"slices"
	"strings"
)

// module is what the machine's files do to the module nf_conntrack.
type module struct {
	builtin  bool        // it is none, but part of the kernel
	loaded   string      // what loads it before the files of sysctl.d are applied; "" if nothing does
	options  []directive // with hashsize, in the order in which modprobe reads them
	blocked  *place      // of a line that keeps it from being loaded
	listed   *place      // of a line of a blacklist, which keeps systemd-modules-load from loading it
	install  *place      // of a line that applies the files by sysctl --system after loading it, as firewalld's does
	onAdd    []addRule
	iptables bool // EL 5 and 6: iptables is started, and the network script after it
}

// addRule is a udev rule that applies files when the module was loaded.
type addRule struct {
	place
	procps   bool         // by sysctl --system, not systemd-sysctl
	file     string       // by sysctl -p of this file alone
	sets     []assignment // of file
	waits    bool         // until the sysctls are there
	prefixes []string     // paths below /proc/sys that it is for; all if empty
}

// unclear is a line that may set limits in a way that ctwatch does not follow.
type unclear struct {
	place
	what string // what it does, in words
}

func readModule(t *tree, k kernel, by applier) (m module, unknown []unclear) {
	name, dir := k.module(), "/lib/modules/"+k.release
	m.builtin = holds(t.text(dir+"/modules.builtin"), name) ||
		t.exists("/sys/module/"+name) && !t.exists("/sys/module/"+name+"/initstate") && !t.exists("/sys/module/"+name+"/refcnt") // before 2.6.20
	m.iptables = len(t.glob("/etc/rc.d/rc3.d", "S*iptables")) > 0 && len(t.glob("/etc/rc.d/rc3.d", "S*network")) > 0

	var lines []directive
	files := t.confFiles("modprobe.d", ".conf")
	if by == appliedByRC {
		files = append([]string{"/etc/modprobe.conf"}, files...)
	}
	for _, f := range files {
		lines = append(lines, parseModprobe(f, t.text(f))...)
	}
	cmdline := t.text(cmdlineFile)
	lines = append(lines, parseCmdline(cmdline)...)
	unknown = m.direct(name, lines)

	needers := append(needing(t.text(dir+"/modules.dep"), name), name)
	m.loaded = m.firstLoaded(t, by, cmdline, needers, lines)
	for _, f := range t.confFiles("udev/rules.d", ".rules") {
		rules, others := parseRules(f, t.text(f), name)
		for i := range rules {
			if rules[i].file != "" {
				rules[i].sets = t.assignments(rules[i].file)
			}
		}
		m.onAdd = append(m.onAdd, rules...)
		unknown = append(unknown, others...)
	}
	return m, unknown
}

// direct takes what modprobe's lines say of the module.
func (m *module) direct(name string, lines []directive) (unknown []unclear) {
	installed := false
	for _, d := range lines {
		if d.module != name {
			continue
		}
		switch d.command {
		case "blacklist":
			m.listed = &place{d.file, d.line}
		case "options":
			if _, ok := d.hashsize(); ok {
				m.options = append(m.options, d)
			}
		case "install":
			if installed {
				continue // kmod takes the first
			}
			installed = true
			switch at := d.place; {
			case strings.Contains(d.rest, "sysctl") && strings.Contains(d.rest, "--system"):
				m.install = &at
			case strings.Contains(d.rest, "sysctl"):
				unknown = append(unknown, unclear{at, "runs sysctl when the module is loaded"})
			case !strings.Contains(d.rest, "modprobe") && !strings.Contains(d.rest, "insmod"):
				m.blocked = &at
			}
		}
	}
	return unknown
}

// hashsize is the number in one of m.options, or why the module does not get it.
func (m *module) hashsize(option directive) (uint64, error) {
	if m.builtin && option.file != cmdlineFile {
		return 0, errors.New("does not reach conntrack, which is part of the kernel")
	}
	text, _ := option.hashsize()
	n, err := parseKernelUint(strings.TrimPrefix(text, "+"), 32) // param_set_uint: the whole text must be a number
	if err != nil {
		return 0, errNotNumber
	}
	return n, nil
}

// firstLoaded is what loads the module early, as a place or in words: systemd-modules-load reads modules-load.d and the
// kernel's command line, sysvinit's kmod /etc/modules, to which systemd has a link.
func (m *module) firstLoaded(t *tree, by applier, cmdline string, needers []string, lines []directive) string {
	if by == appliedByRC {
		return loadedByRC(t, needers)
	}
	wanted := func(name string) bool {
		listed := func(d directive) bool { return d.command == "blacklist" && d.module == underscored(name) }
		return slices.Contains(needers, underscored(name)) && !slices.ContainsFunc(lines, listed)
	}
	for word := range strings.FieldsSeq(cmdline) {
		key, names, _ := strings.Cut(strings.TrimPrefix(word, "rd."), "=")
		if underscored(key) == "modules_load" && slices.ContainsFunc(strings.Split(names, ","), wanted) {
			return "the kernel's command line"
		}
	}
	files := t.confFiles("modules-load.d", ".conf")
	if by == appliedByProcps {
		files = append(files, "/etc/modules")
	}
	for _, f := range files {
		number := 0
		for line := range strings.Lines(t.text(f)) {
			number++
			// /etc/modules may have options after the name.
			if name := strings.Fields(line); len(name) > 0 && wanted(name[0]) {
				return place{f, number}.String()
			}
		}
	}
	return ""
}

// loadedByRC is which script of /etc/sysconfig/modules loads the module: rc.sysinit runs them before it applies sysctl.d.
func loadedByRC(t *tree, needers []string) string {
	const dir = "/etc/sysconfig/modules"
	for _, name := range slices.Sorted(slices.Values(t.glob(dir, "*.modules"))) {
		file, number := path.Join(dir, name), 0
		if !t.executable(file) {
			continue
		}
		for line := range strings.Lines(t.text(file)) {
			number++
			words, plain := commandWords(strings.TrimSpace(line))
			if plain && len(words) == 2 && path.Base(words[0]) == "modprobe" && slices.Contains(needers, underscored(words[1])) {
				return place{file, number}.String()
			}
		}
	}
	return ""
}

// needing are the modules that cannot be loaded without the named one: modules.dep has a line for each, and names all that
// it needs.
func needing(dep, name string) (modules []string) {
	for line := range strings.Lines(dep) {
		module, needs, _ := strings.Cut(line, ":")
		if strings.Contains(needs, "/"+name+".ko") {
			modules = append(modules, moduleName(module))
		}
	}
	return modules
}

// holds reports whether modules.builtin names a module.
func holds(builtin, name string) bool {
	for line := range strings.Lines(builtin) {
		if moduleName(strings.TrimSpace(line)) == name {
			return true
		}
	}
	return false
}

// moduleName makes "kernel/net/netfilter/nf_conntrack.ko.xz" nf_conntrack.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".")
	return underscored(name)
}

// underscored is a module's name as the kernel has it.
func underscored(name string) string { return strings.ReplaceAll(name, "-", "_") }
