package topk

// smallest returns which item has the smallest count.
func (t *Table[K]) smallest() uint32 {
	if len(t.heap) == 0 {
		for i := range t.items {
			t.heap = append(t.heap, floor{t.items[i].Count, uint32(i)})
		}
		for at := len(t.heap)/2 - 1; at >= 0; at-- {
			t.sink(at)
		}
	}
	for {
		top := &t.heap[0]
		count := t.items[top.item].Count
		if top.count == count {
			return top.item
		}
		top.count = count
		t.sink(0)
	}
}

// sink restores the order below a place whose count has risen: none is smaller than the one above it.
func (t *Table[K]) sink(at int) {
	moving := t.heap[at]
	for {
		below := 2*at + 1
		if below >= len(t.heap) {
			break
		}
		if right := below + 1; right < len(t.heap) && t.heap[right].count < t.heap[below].count {
			below = right
		}
		if t.heap[below].count >= moving.count {
			break
		}
		t.heap[at] = t.heap[below]
		at = below
	}
	t.heap[at] = moving
}
