package report

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Redact replaces what should not leave the house by words that stand for it, the same for the same everywhere:
// addresses and networks, the names of hosts, of network namespaces and of their owners, and the units of those who set
// limits. It keeps ports, protocols, interfaces, the names of processes, figures and times.
func (r *Report) Redact() {
	m := masker{words: map[string]string{}, counts: map[string]int{}}
	for i := range r.Hosts {
		r.Hosts[i] = m.name("host", r.Hosts[i])
	}
	for i := range r.Incidents {
		n := &r.Incidents[i]
		n.Name = m.namespace(n.Name, n.Host)
		n.Owner = m.name("owner", n.Owner)
		// What the slices hold may be shared with the records.
		n.Changes = slices.Clone(n.Changes)
		for c := range n.Changes {
			n.Changes[c].Unit = m.name("unit", n.Changes[c].Unit)
		}
	}
	for i := range r.NetNS {
		r.NetNS[i].Name = m.namespace(r.NetNS[i].Name, r.NetNS[i].Host)
	}
	for i := range r.Actions {
		a := &r.Actions[i]
		a.Name = m.namespace(a.Name, r.isHost(a.NS, a.Cookie))
	}
	for i := range r.Limits {
		r.Limits[i].Unit = m.name("unit", r.Limits[i].Unit)
	}
	for i := range r.Incidents {
		n := &r.Incidents[i]
		n.Verdict, n.FillersWhy, n.Limits.Why = m.prose(n.Verdict), m.prose(n.FillersWhy), m.prose(n.Limits.Why)
		for _, list := range []*[]string{&n.Reasons, &n.Helps, &n.HelpsNot} {
			*list = slices.Clone(*list)
			for k := range *list {
				(*list)[k] = m.prose((*list)[k])
			}
		}
	}
	for i := range r.Actions {
		r.Actions[i].Why = m.prose(r.Actions[i].Why)
	}
	for i := range r.Unseen {
		r.Unseen[i].Text = m.prose(r.Unseen[i].Text)
	}
	// Addresses may be anywhere: in the rankings, in names that were kept, in fields that are yet to come.
	eachString(reflect.ValueOf(r).Elem(), m.addresses)
}

// isHost reports whether a namespace is known to be the host's own.
func (r *Report) isHost(ns, cookie uint64) bool {
	return slices.ContainsFunc(r.Incidents, func(i Incident) bool { return i.Host && i.NS == ns && i.Cookie == cookie }) ||
		slices.ContainsFunc(r.NetNS, func(n NetNS) bool { return n.Host && n.NS == ns && n.Cookie == cookie })
}

// masker knows which word stands for what.
type masker struct {
	words  map[string]string
	counts map[string]int
	names  []string // that are replaced in running text, too
}

func (m *masker) word(kind, of string) string {
	k := kind + " " + of
	if w := m.words[k]; w != "" {
		return w
	}
	m.counts[kind]++
	w := fmt.Sprintf("%s-%d", kind, m.counts[kind])
	m.words[k] = w
	return w
}

func (m *masker) name(kind, s string) string {
	if s == "" {
		return ""
	}
	if !slices.Contains(m.names, s) {
		m.names = append(m.names, s)
	}
	// An owner may be what the namespace is called by.
	for _, other := range []string{"host", "netns", "owner", "unit"} {
		if w := m.words[other+" "+s]; w != "" {
			return w
		}
	}
	return m.word(kind, s)
}

// namespace masks a namespace's name, but for the host's own, which is no secret.
func (m *masker) namespace(s string, host bool) string {
	if host {
		return s
	}
	return m.name("netns", s)
}

// prose masks the names in running text, where they stand as words.
func (m *masker) prose(s string) string {
	names := slices.Clone(m.names)
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	for _, n := range names {
		s = replaceWord(s, n, m.name("", n))
	}
	return s
}

// replaceWord replaces a name where no letter or digit is beside it.
func replaceWord(s, old, with string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, old)
		if i < 0 {
			return b.String() + s
		}
		end := i + len(old)
		if i > 0 && isWord(s[i-1]) || end < len(s) && isWord(s[end]) {
			b.WriteString(s[:end])
		} else {
			b.WriteString(s[:i] + with)
		}
		s = s[end:]
	}
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

var (
	// Longer rows of numbers, too: an address may be in them.
	addressV4 = regexp.MustCompile(`[0-9]+(?:\.[0-9]+){3,}(?:/[0-9]{1,2}\b)?`)
	// Anything with two colons, to be tried: an address may stand beside other colons and dots.
	addressV6 = regexp.MustCompile(`[0-9a-fA-F:.]*:[0-9a-fA-F.]*:[0-9a-fA-F:.]*(?:%[0-9A-Za-z_.-]+)?(?:/[0-9]{1,3}\b)?`)
	masks     = regexp.MustCompile(`^(?:ip|net)[46]-[0-9]+(?:/[0-9]+)?$`)
)

// isMask reports whether a text is what stands for an address or a network.
func isMask(s string) bool { return masks.MatchString(s) }

// addresses masks the addresses and networks in a text.
func (m *masker) addresses(s string) string {
	if strings.Count(s, ":") >= 2 {
		s = addressV6.ReplaceAllStringFunc(s, m.v6)
	}
	if strings.Count(s, ".") >= 3 {
		s = addressV4.ReplaceAllStringFunc(s, func(a string) string { return m.address("4", a) })
	}
	return s
}

// v6 masks one thing that looks like an IPv6 address, if it is one or holds one.
func (m *masker) v6(s string) string {
	core := strings.TrimRight(s, ".")
	for _, c := range []string{core, strings.TrimSuffix(core, ":"), strings.TrimPrefix(core, ":"), strings.Trim(core, ":")} {
		bare, _, _ := strings.Cut(c, "/")
		if a, err := netip.ParseAddr(bare); err == nil && c != "" {
			before, after, _ := strings.Cut(s, c)
			if strings.Contains(before, "::") || strings.Contains(after, "::") {
				break // which is an address, too
			}
			if a.Is4In6() {
				return before + m.address("4", a.Unmap().String()) + after
			}
			return before + m.address("6", c) + after
		}
	}
	if strings.Contains(s, "::") || strings.Count(s, ":") >= 7 {
		return m.word("ip6", s)
	}
	return s
}

// address is the word for an address or a network, however it is spelled.
func (m *masker) address(version, s string) string {
	if a, err := netip.ParseAddr(s); err == nil {
		return m.word("ip"+version, a.WithZone("").String())
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return fmt.Sprintf("%s/%d", m.word("net"+version, p.Masked().String()), p.Bits())
	}
	return m.word("ip"+version, s)
}

// eachString replaces every string in what v holds by f of it.
func eachString(v reflect.Value, f func(string) string) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() && v.Type() == reflect.TypeFor[string]() {
			v.SetString(f(v.String()))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			eachString(v.Elem(), f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			eachString(v.Index(i), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				eachString(v.Field(i), f)
			}
		}
	}
}
