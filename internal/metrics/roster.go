package metrics

import (
	"cmp"
	"slices"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

const (
	// maxNamed is how many namespaces have series of their own, beside the host.
	maxNamed = 8
	// maxPairs is how many pairs of a namespace and a cause have series of incidents of their own, beside the host's: with
	// all of 8 namespaces and 6 causes there would be more than 300 series.
	maxPairs = 12
	// maxDissolved bounds what is remembered while nobody scrapes.
	maxDissolved = 64
)

// roster says which namespaces have series of their own. What is counted is added to the series that the namespace has at
// that moment, and series are only ever added up: so none goes back, and their sum is always all that was counted.
type roster struct {
	host, other *series
	named       []*series
	pairs       int
	dissolved   []string // labels of series that were there at the last scrape: anew and smaller, they would go back
}

func newRoster() roster {
	return roster{host: newSeries(hostLabel, true), other: newSeries(otherLabel, true)}
}

// all lists the series, the host's first.
func (r *roster) all() []*series { return append([]*series{r.host, r.other}, r.named...) }

// scraped says that what is missing now was seen to be missing.
func (r *roster) scraped() { r.dissolved = r.dissolved[:0] }

// leave takes the namespace's series from it. They stay as they are, for others of that name or until there is need of
// them: were they added to the others' at once, an old count would look like new drops there.
func (r *roster) leave(n *namespace) {
	if n.series.owner == n {
		n.series.owner = nil
	}
	n.series = r.other
}

// join gives the namespace series of its own, if there are any to be had. What was counted before stays with the others.
func (r *roster) join(n *namespace) {
	if n.series != r.other {
		return
	}
	label := distinct(n.label, n.inode, r.taken)
	s := r.find(label)
	if s == nil {
		if slices.Contains(r.dissolved, label) || len(r.named) >= maxNamed && !r.dissolve(n.rank) {
			return
		}
		s = newSeries(label, false)
		r.named = append(r.named, s)
	}
	s.owner, n.series = n, s
}

func (r *roster) find(label string) *series {
	i := slices.IndexFunc(r.named, func(s *series) bool { return s.label == label })
	if i < 0 {
		return nil
	}
	return r.named[i]
}

func (r *roster) taken(label string) bool {
	s := r.find(label)
	return label == hostLabel || label == otherLabel || s != nil && s.owner != nil
}

// dissolve adds one namespace's series to the others', and reports whether there was one that can go, in favour of a
// namespace of that rank. Those with drops are the last to go, and only for one in trouble: among the others, they look
// like new drops.
func (r *roster) dissolve(in rank) bool {
	const never = 4
	cost := func(s *series) int {
		switch {
		case s.owner != nil && s.owner.rank >= in:
			return never
		case s.clean() && s.owner == nil:
			return 0
		case s.clean():
			return 1 + int(s.owner.rank)
		case in == troubled:
			return 3
		}
		return never
	}
	s := slices.MinFunc(r.named, func(a, b *series) int {
		return cmp.Or(cmp.Compare(cost(a), cost(b)), cmp.Compare(a.drops.Total()+a.evicted, b.drops.Total()+b.evicted),
			cmp.Compare(a.entries(), b.entries()))
	})
	if cost(s) == never {
		return false
	}
	r.other.absorb(s)
	for _, shown := range s.shown {
		if shown {
			r.pairs--
		}
	}
	if s.owner != nil {
		r.leave(s.owner)
	}
	r.named = slices.DeleteFunc(r.named, func(x *series) bool { return x == s })
	r.dissolved = append(r.dissolved, s.label)
	if len(r.dissolved) > maxDissolved {
		r.dissolved = slices.Delete(r.dissolved, 0, 1)
	}
	return true
}

// incident counts an incident.
func (r *roster) incident(s *series, c conntrack.Cause) {
	if !s.shown[c] && r.pairs < maxPairs {
		s.shown[c] = true
		r.pairs++
	}
	r.incidentsOf(s, c).incidents[c]++
}

// incidentsOf returns the series where incidents of that cause are shown.
func (r *roster) incidentsOf(s *series, c conntrack.Cause) *series {
	if s.shown[c] {
		return s
	}
	return r.other
}

// fill gives series to those of the namespaces that have none, in the order of their rank and size.
func (r *roster) fill(namespaces map[ID]*namespace) {
	var want []*namespace
	for _, n := range namespaces {
		if n.series == r.other {
			want = append(want, n)
		}
	}
	slices.SortFunc(want, func(a, b *namespace) int {
		return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(b.told.drops.Total(), a.told.drops.Total()),
			cmp.Compare(b.entries, a.entries), cmp.Compare(a.inode, b.inode))
	})
	for _, n := range want {
		r.join(n)
	}
}
