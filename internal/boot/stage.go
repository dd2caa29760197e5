package boot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// stage is one time at boot at which files are applied.
type stage struct {
	writes []write
	holds  string // why what it sets holds, in words
	unsure string // why it may come before there is anything to set; "" if it does not
}

// setting is what a stage made a limit.
type setting struct {
	value uint64
	from  assignment
	stage stage
}

// systemd is the order of systemd-sysctl: files of sysctl.d by their names, /etc/sysctl.conf only by a link among them.
func (in inputs) systemd() []write { return systemdWrites(in.sysctlD) }

// procps is the order of sysctl --system: /etc/sysctl.conf comes last, always.
func (in inputs) procps() []write {
	return procpsWrites(append(slices.Clone(in.sysctlD), in.sysctlConf))
}

// rc is the order of EL 5 and 6: /etc/sysctl.conf comes first.
func (in inputs) rc() []write {
	return procpsWrites(append([][]assignment{in.sysctlConf}, in.sysctlD...))
}

// stages are those of the next boot that find conntrack there, in their order. kept are what they would be if it were there
// from the beginning.
func (in inputs) stages() (stages, kept []stage) {
	m := in.module
	if !m.builtin && m.install != nil {
		s := stage{holds: fmt.Sprintf("%s applies it when the module is loaded", m.install)}
		for _, w := range in.procps() {
			// firewalld's --pattern net[.]netfilter[.]nf_conntrack.*
			if strings.HasPrefix(w.sysctl.path, "net/netfilter/nf_conntrack") {
				s.writes = append(s.writes, w)
			}
		}
		stages = append(stages, s)
	}
	var onAdd []stage
	if !m.builtin {
		for _, r := range m.onAdd {
			if in.applier == appliedBySystemd || r.procps || r.file != "" { // systemd-sysctl is systemd's
				onAdd = append(onAdd, in.onAdd(r))
			}
		}
	}
	boot := in.boot()
	kept = append(kept, boot)
	var once []stage
	if in.there() {
		once = append(once, boot)
	}
	if in.applier == appliedBySystemd {
		// udevd tells of a module that was loaded early after systemd-sysctl has run (seen on 247 and 257).
		stages = slices.Concat(stages, once, onAdd)
	} else {
		stages = slices.Concat(stages, onAdd, once)
	}
	if len(in.ufw) > 0 {
		ufw := stage{writes: procpsWrites([][]assignment{in.ufw}), holds: "ufw applies it when it starts"}
		stages, kept = append(stages, ufw), append(kept, ufw)
	}
	for _, script := range in.scripts {
		s := stage{writes: procpsWrites([][]assignment{script.writes}), holds: script.file + " runs when the machine has started"}
		if !in.there() && !script.loads {
			s.unsure = "it is not known whether conntrack is loaded by then"
		}
		stages, kept = append(stages, s), append(kept, s)
	}
	return stages, kept
}

// there reports whether conntrack is there when the files are applied for the last time.
func (in inputs) there() bool {
	m := in.module
	return m.builtin || m.loaded != "" || in.applier == appliedByRC && m.iptables
}

// boot is the stage that the machine's scripts have for sysctl.d.
func (in inputs) boot() stage {
	s := stage{holds: "conntrack is part of the kernel"}
	if !in.module.builtin {
		s.holds = in.module.loaded + " loads the module before"
	}
	switch in.applier {
	case appliedByRC:
		s.writes = in.rc()
		if in.module.loaded == "" {
			s.holds = "the network script applies it again after iptables has loaded the module"
		}
	case appliedByProcps:
		s.writes = in.procps()
	default:
		s.writes = in.systemd()
	}
	return s
}

func (in inputs) onAdd(r addRule) stage {
	s := stage{
		writes: in.systemd(),
		holds:  fmt.Sprintf("%s applies it when the module is loaded", r.place),
	}
	if !r.waits && !in.kernel.tellsInTime() {
		s.unsure = "this kernel may do that before there is anything to set"
	}
	switch {
	case r.procps:
		s.writes = in.procps()
	case r.file != "":
		s.writes = procpsWrites([][]assignment{r.sets})
	}
	s.writes = slices.DeleteFunc(s.writes, func(w write) bool { return !r.covers(w.sysctl.path) })
	return s
}

// last is what a limit is after the stages; nil if none sets it. Notes tells why lines set nothing.
func (in inputs) last(l limit, stages []stage, notes map[place]string) *setting {
	var s *setting
	for _, st := range stages {
		for _, w := range st.writes {
			if w.sysctl.limit != l {
				continue
			}
			if !w.sysctl.on(in.kernel) {
				notes[w.place] = "this kernel has no such sysctl"
				continue
			}
			value, err := in.kernel.write(l, w.value, in.pageSize)
			if l == limitBuckets && !w.sysctl.option() && !in.kernel.setsBuckets() {
				err = errors.New("cannot be written before Linux 4.8")
			}
			if err != nil {
				notes[w.place] = "it " + err.Error()
				continue
			}
			if again := s != nil && s.value == value && s.stage.unsure == "" && s.stage.holds != st.holds; !again { // that it is set once more changes nothing
				s = &setting{value, w.assignment, st}
			}
		}
	}
	return s
}
