package persist

import (
	"regexp"
	"strconv"

	"github.com/ctwatch/ctwatch/internal/boot"
)

// held are all files of the layout as they are, in its order.
type held []change

// lookAll reads all files of the layout.
func (t *tree) lookAll() (all held, err error) {
	for _, w := range layout(boot.System{}, Limits{}) {
		c, err := t.look(w.path)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

var bucketsPattern = regexp.MustCompile(`(?m)^(?:options \S+ hashsize=|net\.netfilter\.nf_conntrack_buckets = )(\d+)$`)

// buckets are those that files of ours set, or our lines in those of others; 0 if none do.
func (all held) buckets() uint64 {
	for i, w := range layout(boot.System{}, Limits{}) {
		if all[i].old == nil {
			continue
		}
		body := parseShared(string(all[i].old.data)).body
		if !w.shared {
			_, body, _, _ = unseal(all[i].old.data) // "" if it is not ours
		}
		if found := bucketsPattern.FindStringSubmatch(body); found != nil {
			n, _ := strconv.ParseUint(found[1], 10, 64) // what is too much is none
			return n
		}
	}
	return 0
}

// KeptBuckets are the buckets that files of ours set, which Persist keeps if it is given none; 0 if none do.
func KeptBuckets(o Options) (uint64, error) {
	t, err := openTree(o.kernel(), o.Root)
	if err != nil {
		return 0, err
	}
	defer t.Close()
	all, err := t.lookAll()
	if err != nil {
		return 0, t.explain(err)
	}
	return all.buckets(), nil
}
