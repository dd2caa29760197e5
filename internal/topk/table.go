// Package topk finds the most frequent keys of a stream in memory that does not grow with it.
//
// The method is space-saving (Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data
// Streams, 2005): where there is no room for a new key it takes the place of one with the smallest count, and goes on
// from that count. So a count is never too low, it is too high by what was taken over at most, and a key that has more
// than a size-th part of the total is always there.
package topk

import (
	"cmp"
	"hash/maphash"
	"math/bits"
	"slices"
)

// Sides is how many side counts each key has.
const Sides = 2

// Item is a key with its counts.
type Item[K comparable] struct {
	Key   K
	Count uint64        // at least what was added for the key
	Over  uint64        // by how much Count may be too high: 0 for a key that found room when it came
	Side  [Sides]uint64 // what the caller counts beside, such as how many of Count-Over were of a kind
	entry uint64        // the how-manieth to enter
	hash  uint32
}

// Sure is what was certainly added for the key: since it entered last.
func (i *Item[K]) Sure() uint64 { return i.Count - i.Over }

// Table ranks keys. All its memory is there from the start: adding never allocates. It is for one goroutine at a time.
type Table[K comparable] struct {
	seed    maphash.Seed
	index   []slot // by hash, linear probing, at most half full
	items   []Item[K]
	heap    []floor // empty until the first key has to go
	entered uint64
	total   uint64
}

// slot is one of the index: where the item of that hash is.
type slot struct {
	hash uint32
	item uint32 // plus 1; 0 is a free slot
}

// floor says that an item has at least that count. Counts only rise, so what the heap knows may be old: it is set right
// when the item comes to the top, and a hit costs nothing here.
type floor struct {
	count uint64
	item  uint32
}

// New returns a table for as many keys at a time, at least one.
func New[K comparable](size int) *Table[K] {
	size = max(size, 1)
	return &Table[K]{
		seed:  maphash.MakeSeed(),
		index: make([]slot, 1<<bits.Len(uint(2*size-1))),
		items: make([]Item[K], 0, size),
		heap:  make([]floor, 0, size),
	}
}

// Add counts a key n times more. It returns the key's side counts, which the caller may add to until the next Add; they
// are 0 when a key enters. It takes O(log size), averaged.
func (t *Table[K]) Add(k K, n uint64) *[Sides]uint64 {
	t.total += n
	hash := uint32(maphash.Comparable(t.seed, k))
	i, at := t.find(k, hash)
	if i == nil {
		i = t.enter(k, hash, at)
	}
	i.Count += n
	return &i.Side
}

// Len is how many keys are there.
func (t *Table[K]) Len() int { return len(t.items) }

// Total is the sum of all that was added, for keys that are gone too.
func (t *Table[K]) Total() uint64 { return t.total }

// Top returns the n keys of the largest counts, largest first; of equal ones first the one that entered first.
func (t *Table[K]) Top(n int) []Item[K] {
	items := slices.SortedFunc(slices.Values(t.items), func(a, b Item[K]) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.entry, b.entry))
	})
	return items[:max(0, min(n, len(items)))]
}

// find returns the item of a key, or nil and the free slot where it would be.
func (t *Table[K]) find(k K, hash uint32) (*Item[K], uint32) {
	mask := uint32(len(t.index) - 1)
	for at := hash & mask; ; at = (at + 1) & mask {
		s := t.index[at]
		if s.item == 0 {
			return nil, at
		}
		if i := &t.items[s.item-1]; s.hash == hash && i.Key == k {
			return i, at
		}
	}
}

// enter makes an item of a key that has none, at the free slot that find told.
func (t *Table[K]) enter(k K, hash, at uint32) *Item[K] {
	t.entered++
	if n := len(t.items); n < cap(t.items) {
		t.items = append(t.items, Item[K]{Key: k, entry: t.entered, hash: hash})
		t.index[at] = slot{hash, uint32(n) + 1}
		return &t.items[n]
	}
	n := t.smallest()
	i := &t.items[n]
	t.remove(i.hash, n)
	*i = Item[K]{Key: k, Count: i.Count, Over: i.Count, entry: t.entered, hash: hash}
	mask := uint32(len(t.index) - 1)
	for at = hash & mask; t.index[at].item != 0; at = (at + 1) & mask { // the removal may have moved the free slot
	}
	t.index[at] = slot{hash, n + 1}
	return i
}

// remove takes an item out of the index and closes the gap, so that no search ends at it too early.
func (t *Table[K]) remove(hash, item uint32) {
	mask := uint32(len(t.index) - 1)
	gap := hash & mask
	for t.index[gap].item != item+1 {
		gap = (gap + 1) & mask
	}
	for at := (gap + 1) & mask; t.index[at].item != 0; at = (at + 1) & mask {
		if home := t.index[at].hash & mask; (at-home)&mask >= (at-gap)&mask {
			t.index[gap], gap = t.index[at], at
		}
	}
	t.index[gap] = slot{}
}
