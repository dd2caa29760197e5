package topk

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestTop(t *testing.T) {
	type add struct {
		key string
		n   uint64
	}
	tests := []struct {
		name string
		size int
		adds []add
		n    int
		want []Item[string]
	}{
		{name: "empty", size: 2, n: 5},
		{name: "largest first", size: 3, n: 3, adds: []add{{"a", 1}, {"b", 5}, {"a", 2}, {"c", 4}},
			want: []Item[string]{{Key: "b", Count: 5}, {Key: "c", Count: 4}, {Key: "a", Count: 3}}},
		{name: "equal ones as they came", size: 3, n: 3, adds: []add{{"z", 2}, {"a", 1}, {"m", 2}, {"a", 1}},
			want: []Item[string]{{Key: "z", Count: 2}, {Key: "a", Count: 2}, {Key: "m", Count: 2}}},
		{name: "no more than asked for", size: 3, n: 1, adds: []add{{"a", 1}, {"b", 2}},
			want: []Item[string]{{Key: "b", Count: 2}}},
		{name: "none asked for", size: 3, n: -1, adds: []add{{"a", 1}}},
		{name: "the smallest goes, and its count stays", size: 2, n: 2, adds: []add{{"a", 7}, {"b", 3}, {"c", 1}},
			want: []Item[string]{{Key: "a", Count: 7}, {Key: "c", Count: 4, Over: 3}}},
		{name: "one that has grown does not go", size: 2, n: 2, adds: []add{{"a", 1}, {"b", 2}, {"c", 1}, {"c", 9}, {"d", 1}},
			want: []Item[string]{{Key: "c", Count: 11, Over: 1}, {Key: "d", Count: 3, Over: 2}}},
		{name: "one that comes back begins anew", size: 1, n: 1, adds: []add{{"a", 1}, {"b", 1}, {"a", 1}},
			want: []Item[string]{{Key: "a", Count: 3, Over: 2}}},
		{name: "room for one at least", size: 0, n: 9, adds: []add{{"a", 1}}, want: []Item[string]{{Key: "a", Count: 1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := New[string](tt.size)
			for _, a := range tt.adds {
				table.Add(a.key, a.n)
			}
			if diff := cmp.Diff(tt.want, table.Top(tt.n), ignoreInner, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

var ignoreInner = cmpopts.IgnoreUnexported(Item[string]{})

func TestSideCountsBeginAnew(t *testing.T) {
	table := New[string](1)
	table.Add("a", 2)[0]++
	table.Add("a", 1)[1] += 3
	want := []Item[string]{{Key: "a", Count: 3, Side: [Sides]uint64{1, 3}}}
	if diff := cmp.Diff(want, table.Top(1), ignoreInner); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	table.Add("b", 1)[1]++
	want = []Item[string]{{Key: "b", Count: 4, Over: 3, Side: [Sides]uint64{0, 1}}}
	if diff := cmp.Diff(want, table.Top(1), ignoreInner); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// check compares a table with an exact count of the same stream.
func check(t *testing.T, table *Table[uint64], exact map[uint64]uint64, size int) {
	t.Helper()
	var total, sum uint64
	for _, n := range exact {
		total += n
	}
	top := table.Top(table.Len())
	if table.Total() != total || table.Len() != min(size, len(exact)) || len(top) != table.Len() {
		t.Fatalf("total %d of %d, len %d, top %d, %d keys, size %d", table.Total(), total, table.Len(), len(top), len(exact), size)
	}
	there := map[uint64]bool{}
	for i, item := range top {
		n := exact[item.Key]
		if there[item.Key] || item.Count < n || item.Sure() > n || item.Side[0] != item.Sure() {
			t.Fatalf("%+v: was added %d", item, n)
		}
		if len(exact) <= size && item.Over != 0 {
			t.Fatalf("%+v: there was room", item)
		}
		if i > 0 && (top[i-1].Count < item.Count || top[i-1].Count == item.Count && top[i-1].entry >= item.entry) {
			t.Fatalf("%+v comes after %+v", item, top[i-1])
		}
		there[item.Key] = true
		sum += item.Count
	}
	if sum != total {
		t.Fatalf("the counts are %d together, %d were added", sum, total)
	}
	for key, n := range exact {
		if !there[key] && n > top[len(top)-1].Count {
			t.Fatalf("key %d with %d is not there", key, n)
		}
	}
}

func TestAgainstExactCount(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		size := 1 + r.IntN(40)
		table, exact := New[uint64](size), map[uint64]uint64{}
		zipf := rand.NewZipf(r, 1.1+r.Float64(), 1+10*r.Float64(), 1+r.Uint64N(500))
		for range r.IntN(3000) {
			key, n := zipf.Uint64(), 1+r.Uint64N(1+r.Uint64N(20))
			table.Add(key, n)[0] += n
			exact[key] += n
		}
		check(t, table, exact, size)
	}
}

// TestSameStreamSameTop: hashes differ from table to table, what is found does not.
func TestSameStreamSameTop(t *testing.T) {
	tables := []*Table[uint64]{New[uint64](16), New[uint64](16)}
	r := rand.New(rand.NewPCG(3, 4))
	for range 10_000 {
		key := r.Uint64N(100)
		for _, table := range tables {
			table.Add(key, 1)
		}
	}
	if diff := cmp.Diff(tables[0].Top(16), tables[1].Top(16), cmpopts.IgnoreUnexported(Item[uint64]{})); diff != "" {
		t.Errorf("-one +other\n%s", diff)
	}
}

func TestAddAllocatesNothing(t *testing.T) {
	table := New[[2]uint64](100)
	var key [2]uint64
	if n := testing.AllocsPerRun(10_000, func() {
		key[0]++
		table.Add(key, 1)
		table.Add([2]uint64{1}, 1)
	}); n != 0 {
		t.Errorf("%v allocations each", n)
	}
}

func FuzzAdd(f *testing.F) {
	f.Add(uint8(2), []byte{1, 1, 0, 2, 1, 0, 3, 1, 0, 1, 9, 0})
	f.Add(uint8(0), []byte{0, 0, 0, 255, 255, 255})
	f.Fuzz(func(t *testing.T, size uint8, stream []byte) {
		table, exact := New[uint64](int(size)), map[uint64]uint64{}
		for ; len(stream) >= 3; stream = stream[3:] {
			key, n := uint64(stream[0]), uint64(binary.LittleEndian.Uint16(stream[1:]))
			table.Add(key, n)[0] += n
			exact[key] += n
		}
		check(t, table, exact, max(1, int(size)))
	})
}

func BenchmarkAdd(b *testing.B) {
	for _, bb := range []struct {
		name string
		keys uint64
	}{{"hit", 1000}, {"all new", 1 << 62}} {
		b.Run(bb.name, func(b *testing.B) {
			table := New[[2]uint64](1024)
			r := rand.New(rand.NewPCG(1, 1))
			for b.Loop() {
				table.Add([2]uint64{r.Uint64N(bb.keys)}, 1)
			}
		})
	}
}
