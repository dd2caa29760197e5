package journal

import (
	"encoding/json"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// class is how much a record matters: where there is no room for all, the lower ones go first.
type class int

const (
	classDrop class = iota
	classSample
	classState // start, incident, action, limit, gap, stop
	numClasses
)

func classOf(r record.Record) class {
	switch r.(type) {
	case *record.Drop:
		return classDrop
	case *record.Sample:
		return classSample
	}
	return classState
}

// entry is one line that is to be written.
type entry struct {
	line    []byte // with its newline
	class   class
	order   uint64
	head    record.Envelope
	listAll bool  // a sample that lists all namespaces
	loss    *loss // the line tells of it
}

// overhead is what an entry takes in memory beside its line, about.
const overhead = 160

func (e *entry) size() int { return len(e.line) + overhead }

func (e *entry) day() string { return dayOf(e.head.Time) }

// loss is a number of records that were not written.
type loss struct {
	count uint64
	from  time.Time
	last  record.Envelope // the record of its loss takes this place
	order uint64
	held  bool // is told with the next state change, or after tellEvery: more of the same will follow
}

const tellEvery = 600 * second

// tail is what the disk has not taken yet, bounded.
type tail struct {
	limit  int // bytes
	size   int
	queues [numClasses][]entry // each in order
	orders uint64
	loss   *loss
	told   int64  // CLOCK_BOOTTIME of the last loss that was told
	lost   uint64 // all there was
}

// push adds a line at the end. Where there is no room, the oldest of what matters least is lost.
func (t *tail) push(e entry) {
	t.orders++
	e.order = t.orders
	t.queues[e.class] = append(t.queues[e.class], e)
	t.size += e.size()
	t.shrink()
}

func (t *tail) shrink() {
	for c := class(0); t.size > t.limit && c < numClasses; {
		if len(t.queues[c]) == 0 {
			c++
			continue
		}
		t.lose(t.pop(c), false)
	}
}

func (t *tail) pop(c class) entry {
	e := t.queues[c][0]
	t.queues[c][0] = entry{} // let the line go
	t.queues[c] = t.queues[c][1:]
	t.size -= e.size()
	return e
}

// lose counts an entry that will not be written.
func (t *tail) lose(e entry, held bool) {
	l := loss{1, e.head.Time, e.head, e.order, held}
	if e.loss != nil {
		l = *e.loss // what it told of is counted already
	} else {
		t.lost++
	}
	if t.loss == nil {
		t.loss = &l
		return
	}
	first, last := *t.loss, l
	if first.order > last.order {
		first, last = last, first
	}
	t.loss = &loss{first.count + last.count, first.from, last.last, last.order, first.held && last.held}
}

// take hands out the next lines, at least one if there are any, and more up to a number of bytes. Those that are not
// written come back by giveBack.
func (t *tail) take(limit int, final bool) []entry {
	var batch []entry
	for size := 0; size < limit; {
		c := t.next()
		if t.lossIsNext(c, final) {
			e := t.tellLoss()
			batch = append(batch, e)
			size += e.size()
			continue
		}
		if c < 0 {
			break
		}
		e := t.pop(c)
		batch = append(batch, e)
		size += e.size()
	}
	return batch
}

// next is the class of the oldest entry, or -1.
func (t *tail) next() class {
	oldest := class(-1)
	for c := range numClasses {
		if len(t.queues[c]) > 0 && (oldest < 0 || t.queues[c][0].order < t.queues[oldest][0].order) {
			oldest = c
		}
	}
	return oldest
}

// lossIsNext reports whether, before the oldest entry, the loss is to be told.
func (t *tail) lossIsNext(c class, final bool) bool {
	l := t.loss
	if l == nil || c >= 0 && t.queues[c][0].order < l.order {
		return false
	}
	return !l.held || final || l.last.Boottime-t.told >= tellEvery ||
		c >= 0 && (c == classState || t.queues[c][0].day() != dayOf(l.last.Time))
}

func (t *tail) tellLoss() entry {
	l := t.loss
	g := record.Gap{Envelope: l.last, Why: record.GapJournal, From: l.from, To: l.last.Time, Lost: l.count}
	g.Kind = record.KindGap
	line, _ := json.Marshal(&g) // its times are of records that were marshalled
	t.loss, t.told = nil, l.last.Boottime
	return entry{line: append(line, '\n'), class: classState, order: l.order, head: g.Envelope, loss: l}
}

// giveBack takes back, in their order, what take handed out last.
func (t *tail) giveBack(batch []entry) {
	var back [numClasses][]entry
	for _, e := range batch {
		if e.loss != nil {
			t.told = 0
			t.lose(e, false) // to be told again, with what is lost meanwhile
			continue
		}
		back[e.class] = append(back[e.class], e)
		t.size += e.size()
	}
	for c, entries := range back {
		if len(entries) > 0 {
			t.queues[c] = append(entries, t.queues[c]...)
		}
	}
	t.shrink()
}

func (t *tail) len() int {
	n := 0
	for _, q := range t.queues {
		n += len(q)
	}
	return n
}

// loseAll gives up what is left.
func (t *tail) loseAll() {
	for c := range numClasses {
		for len(t.queues[c]) > 0 {
			t.lose(t.pop(c), false)
		}
	}
}
