package boot

import "slices"

// assignments are the lines that set sysctls, in the order in which they are read. A file that is read twice is listed once.
func (in inputs) assignments() []assignment {
	files := append(slices.Clone(in.sysctlD), in.sysctlConf, in.ufw)
	if in.applier == appliedByRC {
		files = slices.Insert(files, 0, in.sysctlConf)
	}
	for _, s := range in.scripts {
		files = append(files, s.writes)
	}
	for _, r := range in.module.onAdd {
		files = append(files, r.sets)
	}
	var all []assignment
	listed := map[place]bool{}
	for _, a := range slices.Concat(files...) {
		if !listed[a.place] {
			all, listed[a.place] = append(all, a), true
		}
	}
	return all
}

// unread are the lines of /etc/sysctl.conf where nothing reads it, and lines that set nothing by what they are.
func (in inputs) unread() (notes map[place]string) {
	notes = map[place]string{}
	for _, a := range in.assignments() {
		if a.exclude {
			notes[a.place] = "it keeps patterns and earlier lines from setting it"
		}
	}
	m := in.module
	if in.applier != appliedBySystemd || !m.builtin && m.install != nil || slices.ContainsFunc(m.onAdd, func(r addRule) bool { return r.procps }) {
		return notes
	}
	for _, a := range in.sysctlConf {
		read := func(b assignment) bool { return b.place == a.place }
		others := append(slices.Clone(in.sysctlD), in.ufw)
		for _, s := range in.scripts {
			others = append(others, s.writes)
		}
		if !slices.ContainsFunc(slices.Concat(others...), read) {
			notes[a.place] = in.program() + " does not read this file"
		}
	}
	return notes
}

// inVain is the last line that is there to set a limit and sets nothing; nil if none.
func (in inputs) inVain(l limit, notes map[place]string) *Line {
	for _, a := range slices.Backward(in.assignments()) {
		for _, s := range sysctls {
			if s.limit == l && a.reaches(s.path) && !a.exclude && notes[a.place] != "" {
				return &Line{a.file, a.line, a.key, a.value, false, notes[a.place]}
			}
		}
	}
	return nil
}

// lines are all lines, and which of them win.
func (in inputs) lines(winners map[place]bool, notes map[place]string) []Line {
	var lines []Line
	for _, a := range in.assignments() {
		lines = append(lines, Line{a.file, a.line, a.key, a.value, winners[a.place], notes[a.place]})
	}
	for _, o := range in.module.options {
		text, _ := o.hashsize()
		note := ""
		if _, err := in.module.hashsize(o); err != nil {
			note = "it " + err.Error()
		}
		lines = append(lines, Line{o.file, o.line, "hashsize", text, winners[o.place], note})
	}
	return lines
}
