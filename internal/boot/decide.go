package boot

import (
	"fmt"
)

// decide tells what the files make of the limits.
func decide(in inputs) Outlook {
	notes := in.unread()
	var b Outlook
	stages, kept := in.stages()
	hashsize, begins, unknown := in.begin()
	if why := in.unknown(); why != "" {
		unknown = why
	}
	if unknown == "" {
		b.Begins = Limits{Max: positive(begins[limitMax].value), Buckets: positive(begins[limitBuckets].value)}
	}
	winners := map[place]bool{}
	for _, l := range []limit{limitMax, limitBuckets} {
		persisted, next := &b.Persisted.Max, &b.NextBoot.Max
		if l == limitBuckets {
			persisted, next = &b.Persisted.Buckets, &b.NextBoot.Buckets
		}
		set, would := in.last(l, stages, notes), in.last(l, kept, notes)
		if would == nil || set != nil {
			would = set
		}
		if in.applier == appliedByNobody && !in.agreed(l) {
			would = nil
		}
		switch {
		case would != nil:
			*persisted, winners[would.from.place] = &would.value, true
		case l == limitBuckets && hashsize != nil:
			*persisted, winners[hashsize.place] = &hashsize.value, true
		}
		if unknown != "" {
			continue
		}
		vain := in.inVain(l, notes)
		var why string
		*next, why = in.next(set, would, vain, begins[l])
		switch {
		case l == limitMax:
			b.Why = why
		case would != nil || vain != nil || hashsize != nil:
			b.Why += "; of the buckets, " + why
		}
	}
	if unknown != "" {
		b.Why = unknown
	}
	b.Files = in.lines(winners, notes)
	return b
}

// positive is nil for 0, which is unknown.
func positive(n uint64) *uint64 {
	if n == 0 {
		return nil
	}
	return &n
}

// beginning is what a limit is when conntrack begins, and why.
type beginning struct {
	value uint64 // 0 is unknown
	why   string
}

// sized is the module's option, if it is given.
type sized struct {
	place
	value uint64
}

// begin is what the limits are when conntrack begins. unknown says why it will not begin.
func (in inputs) begin() (hashsize *sized, begins map[limit]beginning, unknown string) {
	for _, o := range in.module.options {
		value, err := in.module.hashsize(o)
		switch {
		case err == nil && value != 0:
			hashsize = &sized{o.place, value} // the last counts
		case err == nil:
			hashsize = nil // as if it was not given
		case !in.module.builtin:
			return nil, nil, fmt.Sprintf("%s gives a hashsize that %v: then conntrack is not loaded", o.place, err)
		}
	}
	if hashsize != nil {
		entries, buckets := in.kernel.defaults(0, hashsize.value, in.pageSize)
		return hashsize, map[limit]beginning{
			limitMax:     {entries, fmt.Sprintf("8 times the hashsize of %s holds, %d", hashsize.place, entries)},
			limitBuckets: {buckets, fmt.Sprintf("the hashsize of %s holds, %d", hashsize.place, buckets)},
		}, ""
	}
	entries, buckets := in.kernel.defaults(in.memTotal, 0, in.pageSize)
	begins = map[limit]beginning{}
	for l, value := range map[limit]uint64{limitMax: entries, limitBuckets: buckets} {
		why := fmt.Sprintf("the kernel's default of %d holds", value)
		if value == 0 {
			why = "the kernel's default holds, which depends on a memory that is not known"
		}
		begins[l] = beginning{value, why}
	}
	return nil, begins, ""
}

// unknown says why nobody can tell what the next boot gives; "" if one can.
func (in inputs) unknown() string {
	switch {
	case in.kernel.release == "":
		return "the kernel's release is not known"
	case in.applier == appliedByNobody:
		return "it is not known who applies the files at boot: systemd does not run here"
	case in.module.blocked != nil && !in.module.builtin:
		return fmt.Sprintf("%s keeps conntrack from being loaded", in.module.blocked)
	case len(in.unclear) > 0:
		u := in.unclear[0]
		return fmt.Sprintf("%s %s: what it sets is not known", u.place, u.what)
	}
	return ""
}

// next is what the next boot gives, if that is known at all.
func (in inputs) next(set, would *setting, vain *Line, begins beginning) (*uint64, string) {
	known := positive(begins.value)
	switch {
	case set != nil && set.stage.unsure != "":
		return nil, fmt.Sprintf("%s sets it and %s, but %s", set.from.place, set.stage.holds, set.stage.unsure)
	case set != nil:
		return &set.value, fmt.Sprintf("%s sets it, and %s", set.from.place, set.stage.holds)
	case would != nil && in.applier == appliedByRC:
		return nil, fmt.Sprintf("%s sets it, but it is not known whether conntrack is loaded before the network script runs", would.from.place)
	case would != nil:
		return known, fmt.Sprintf("%s sets it, but nothing loads %s before %s runs: %s (add /etc/modules-load.d/ctwatch.conf)",
			would.from.place, in.kernel.module(), in.program(), begins.why)
	case vain != nil:
		return known, fmt.Sprintf("%s sets it to %q, but %s: %s", place{vain.File, vain.Line}, vain.Value, vain.Note, begins.why)
	}
	return known, "no file sets it: " + begins.why
}

func (in inputs) program() string {
	if in.applier == appliedByProcps {
		return "sysctl --system"
	}
	return "systemd-sysctl"
}

// agreed reports whether a limit is the same whoever applies the files.
func (in inputs) agreed(l limit) bool {
	ignored := map[place]string{}
	a := in.last(l, []stage{{writes: in.systemd()}}, ignored)
	b := in.last(l, []stage{{writes: in.procps()}}, ignored)
	return a == nil && b == nil || a != nil && b != nil && a.value == b.value
}
