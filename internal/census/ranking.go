package census

import (
	"cmp"
	"slices"

	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/topk"
)

// keys is how many keys a ranking holds. Each that has a thousandth of the entries is found; the memory, 100 bytes a key,
// stays in the CPU's cache.
const keys = 1024

// The side counts of a ranking.
const (
	sideReplied = iota
	sideAssured
)

// ranking counts entries by a key.
type ranking[K comparable] struct {
	table *topk.Table[K]
	text  func(K) string
}

func newRanking[K comparable](room int, text func(K) string) ranking[K] {
	return ranking[K]{topk.New[K](room), text}
}

func (r *ranking[K]) add(k K, m marks) {
	side := r.table.Add(k, 1)
	side[sideReplied] += m.replied
	side[sideAssured] += m.assured
}

// marks are 1 for an entry that has them, and 0 for one that has not.
type marks struct{ replied, assured uint64 }

// rows returns the n largest. An entry is counted for a key only if it surely has it: where there were more keys than
// room, some entries of a key may be missing, and the row's error includes them.
func (r *ranking[K]) rows(n int, s sample) []record.Share {
	items := r.table.Top(r.table.Len())
	slices.SortStableFunc(items, func(a, b topk.Item[K]) int { return cmp.Compare(b.Sure(), a.Sure()) })
	rows := make([]record.Share, 0, min(n, len(items)))
	for _, i := range items[:cap(rows)] {
		share := s.share(i.Sure())
		rows = append(rows, record.Share{
			Key:     r.text(i.Key),
			Entries: i.Sure(),
			Share:   share,
			Error:   min(1, s.halfWidth(share)+s.share(i.Over)),
			Replied: float64(i.Side[sideReplied]) / float64(i.Sure()),
			Assured: float64(i.Side[sideAssured]) / float64(i.Sure()),
		})
	}
	return rows
}
