package boot

import (
	"fmt"
	"slices"
	"strings"
)

// Conflict is a line that would win over what files should set.
type Conflict struct {
	Line
	By  []string // who applies it: systemd-sysctl, sysctl --system, the network script, tuned, ufw, udev, rc.local, modprobe
	Why string   // why it wins, in words
}

// String has the place, what it sets, and why it wins.
func (c Conflict) String() string {
	text := place{c.File, c.Line.Line}.String()
	if c.Value != "" {
		text += " sets " + c.Key + " to " + c.Value
	}
	return text + " (" + c.Why + ")"
}

// Programs that apply files, as they stand in Conflict.By.
const (
	Systemd  = "systemd-sysctl"
	Procps   = "sysctl --system"
	Network  = "the network script"
	UFW      = "ufw"
	Udev     = "udev"
	RCLocal  = "rc.local"
	Modprobe = "modprobe"
)

// Conflicts are the lines that would win over the limits wanted, which some of the files set, for whoever applies them:
// systemd-sysctl at boot, sysctl --system at any time, ufw, udev rules, rc.local, modprobe. A line that says the same is
// none.
func Conflicts(root string, files Files, wanted Limits) ([]Conflict, error) {
	in, err := read(root, files)
	if err != nil {
		return nil, err
	}
	return in.conflicts(files, wanted), nil
}

// way is one program that applies files, whenever that is.
type way struct {
	by     string
	lines  []assignment // all that it reads, in its order
	writes []write
	why    func(a assignment) string
}

func (in inputs) ways() (ways []way) {
	add := func(by string, files [][]assignment, writes func([][]assignment) []write, why func(a assignment) string) {
		ways = append(ways, way{by, slices.Concat(files...), writes(files), why})
	}
	says := func(why string) func(assignment) string { return func(assignment) string { return why } }
	withConf := func(files [][]assignment) [][]assignment { return append(slices.Clone(files), in.sysctlConf) }
	switch in.applier {
	case appliedByRC:
		add(Network, append([][]assignment{in.sysctlConf}, in.sysctlD...), procpsWrites, says("the network script applies it whenever it starts"))
	default:
		add(Systemd, in.sysctlD, systemdWrites, says("systemd-sysctl reads it later"))
		last := func(a assignment) string {
			if a.file == sysctlConf {
				return "sysctl --system reads this file last, whoever runs it"
			}
			return "sysctl --system reads it later"
		}
		add(Procps, withConf(in.sysctlD), procpsWrites, last)
		if in.runFirst != nil {
			add(in.runFirstProgram, withConf(in.runFirst), procpsWrites, says(in.runFirstProgram+" takes files of /run before those of /etc, and /etc/sysctl.conf last"))
		}
	}
	if len(in.ufw) > 0 {
		add(UFW, [][]assignment{in.ufw}, procpsWrites, says("ufw applies it when it starts"))
	}
	for _, r := range in.module.onAdd {
		if r.file != "" {
			add(Udev, [][]assignment{r.sets}, procpsWrites, says(r.String()+" applies it when the module is loaded"))
		}
	}
	for _, s := range in.scripts {
		add(RCLocal, [][]assignment{s.writes}, procpsWrites, says(s.file+" runs when the machine has started"))
	}
	return ways
}

func (in inputs) conflicts(files Files, wanted Limits) (found []Conflict) {
	add := func(c Conflict) {
		i := slices.IndexFunc(found, func(f Conflict) bool { return f.File == c.File && f.Line.Line == c.Line.Line })
		if i < 0 {
			found = append(found, c)
		} else if !slices.Contains(found[i].By, c.By[0]) {
			found[i].By = append(found[i].By, c.By...)
		}
	}
	for _, w := range in.ways() {
		for l, want := range map[limit]*uint64{limitMax: wanted.Max, limitBuckets: wanted.Buckets} {
			if want == nil {
				continue
			}
			if a, why := in.beats(w, l, *want, files); a != nil {
				add(Conflict{Line{File: a.file, Line: a.line, Key: a.key, Value: a.value}, []string{w.by}, why})
			}
		}
	}
	for _, c := range in.module.conflicts(in, files, wanted) {
		add(c)
	}
	for _, u := range in.unclear {
		by := RCLocal
		switch {
		case strings.HasSuffix(u.file, ".rules"):
			by = Udev
		case strings.Contains(u.file, "modprobe"):
			by = Modprobe
		}
		add(Conflict{Line{File: u.file, Line: u.line}, []string{by}, "it " + u.what + ": what it sets is not known"})
	}
	slices.SortStableFunc(found, func(a, b Conflict) int { return strings.Compare(a.File, b.File) })
	return found
}

// beats is the line because of which a program leaves a limit at something else than what is wanted; nil if none does.
func (in inputs) beats(w way, l limit, want uint64, files Files) (*assignment, string) {
	notes := map[place]string{}
	last := in.last(l, []stage{{writes: w.writes}}, notes)
	if l == limitBuckets {
		want = roundUp(want, max(in.pageSize/8, 1))
	}
	ours := func(a assignment) bool { return files.has(a.place) }
	switch {
	case last != nil && last.value == want:
		return nil, ""
	case last != nil && !ours(last.from):
		return &last.from, w.why(last.from)
	}
	// Ours may be read and yet not hold: a later line for the same name took its place and sets nothing itself.
	var mine *assignment
	for _, a := range w.lines {
		switch {
		case ours(a) && !a.exclude && a.sets(l):
			mine = &a
		case mine != nil && a.path == mine.path && w.by == Systemd:
			why := "it takes the earlier line back"
			if note := notes[a.place]; note != "" {
				why = "it takes the place of the earlier line, and " + note
			}
			return &a, why
		}
	}
	return nil, ""
}

// sets reports whether the line is about this limit.
func (a assignment) sets(l limit) bool {
	return slices.ContainsFunc(sysctls[:], func(s sysctl) bool { return s.limit == l && a.reaches(s.path) })
}

// conflicts are the lines of modprobe's files that keep conntrack from being loaded, from being loaded early where that
// matters, and from getting the buckets that the files give to the module.
func (m module) conflicts(in inputs, files Files, wanted Limits) (found []Conflict) {
	add := func(p place, key, value, why string) {
		found = append(found, Conflict{Line{File: p.file, Line: p.line, Key: key, Value: value}, []string{Modprobe}, why})
	}
	if m.builtin {
		return nil
	}
	if m.blocked != nil {
		add(*m.blocked, "", "", "it keeps conntrack from being loaded")
	}
	sure := slices.ContainsFunc(m.onAdd, func(r addRule) bool { return r.waits || in.kernel.tellsInTime() })
	if m.listed != nil && m.loaded == "" && in.applier == appliedBySystemd && !sure {
		add(*m.listed, "", "", fmt.Sprintf("it keeps systemd-modules-load from loading %s before systemd-sysctl runs", in.kernel.module()))
	}
	given := false
	for i, o := range m.options {
		text, _ := o.hashsize()
		n, err := m.hashsize(o)
		ours := files.has(o.place)
		given = given || ours
		switch {
		case err != nil:
			add(o.place, "hashsize", text, "it "+err.Error()+": then conntrack is not loaded")
		case i == len(m.options)-1 && given && !ours && wanted.Buckets != nil && n != *wanted.Buckets:
			add(o.place, "hashsize", text, "modprobe reads it later")
		}
	}
	return found
}
