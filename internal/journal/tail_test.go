package journal

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/record"
)

// put puts records of 100 bytes into a tail, one for each letter: d for drop, s for sample, i for what matters.
func put(t *tail, kinds string) {
	for _, k := range kinds {
		seq := t.orders + 1
		e := entry{line: []byte(strings.Repeat(string(k), 99) + "\n"), class: class(strings.IndexRune("dsi", k))}
		e.head = record.Envelope{V: 1, Seq: seq, Time: noon.Add(time.Duration(seq) * time.Second), Boottime: int64(seq) * 1e9}
		t.push(e)
	}
}

// names names entries by their letter and seq, and losses by their number.
func names(batch []entry) (out []string) {
	for _, e := range batch {
		name := string(e.line[0])
		if e.loss != nil {
			name = "lost" + string(rune('0'+e.loss.count)) + "@"
		}
		out = append(out, name+string(rune('0'+e.head.Seq)))
	}
	return out
}

func TestTail(t *testing.T) {
	one := 100 + overhead
	for _, c := range []struct {
		name string
		put  string
		want []string
		lost uint64
	}{
		{"all fit", "isd", []string{"i1", "s2", "d3"}, 0},
		{"a drop record goes first", "disi", []string{"lost1@1", "i2", "s3", "i4"}, 1},
		{"then a sample, and all are told of where the last was", "sdiisi", []string{"i3", "i4", "lost3@5", "i6"}, 3},
		{"then the oldest", "iiiii", []string{"lost2@2", "i3", "i4", "i5"}, 2},
		{"what matters least is not taken in", "iiid", []string{"i1", "i2", "i3", "lost1@4"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			tl := tail{limit: 3 * one}
			put(&tl, c.put)
			if diff := cmp.Diff(c.want, names(tl.take(1<<20, false))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if tl.lost != c.lost || tl.size != 0 || tl.len() != 0 {
				t.Errorf("lost %d, want %d; size %d and %d entries left", tl.lost, c.lost, tl.size, tl.len())
			}
		})
	}
}

// TestTailBack: what comes back is before what came meanwhile, and a loss is told once.
func TestTailBack(t *testing.T) {
	one := 100 + overhead
	tl := tail{limit: 4 * one}
	put(&tl, "diisi") // 1 is lost
	batch := tl.take(3*one, false)
	if diff := cmp.Diff([]string{"lost1@1", "i2", "i3"}, names(batch)); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	put(&tl, "ii")
	tl.giveBack(batch) // 4 has to go, and then 2
	if diff := cmp.Diff([]string{"i3", "lost3@4", "i5", "i6", "i7"}, names(tl.take(1<<20, false))); diff != "" || tl.lost != 3 {
		t.Errorf("lost %d (-want +got):\n%s", tl.lost, diff)
	}
}

// TestTailHeldLoss: what is left out because there is no budget is told with the next state change, or after a while.
func TestTailHeldLoss(t *testing.T) {
	tl := tail{limit: 1 << 20}
	leaveOut := func() {
		for _, e := range tl.take(1<<20, false) {
			tl.lose(e, true)
		}
	}
	put(&tl, "sds")
	leaveOut()
	if got := tl.take(1<<20, false); got != nil {
		t.Errorf("with nothing to write there is %v", names(got))
	}
	put(&tl, "i")
	if diff := cmp.Diff([]string{"lost3@3", "i4"}, names(tl.take(1<<20, false))); diff != "" {
		t.Errorf("before a state change (-want +got):\n%s", diff)
	}
	put(&tl, "s")
	tl.queues[classSample][0].head.Boottime += tellEvery
	leaveOut()
	if diff := cmp.Diff([]string{"lost1@5"}, names(tl.take(1<<20, false))); diff != "" {
		t.Errorf("after a while (-want +got):\n%s", diff)
	}
	put(&tl, "s")
	leaveOut()
	if diff := cmp.Diff([]string{"lost1@6"}, names(tl.take(1<<20, true))); diff != "" {
		t.Errorf("at the end (-want +got):\n%s", diff)
	}
}
