package journal

import (
	"slices"

	"github.com/ctwatch/ctwatch/internal/record"
)

// decoder decodes samples and drop records, of which there are most, some ten times as fast as encoding/json. What is not
// exactly in the form in which they are written, it leaves to that.
type decoder struct {
	words map[string]string
	netns []record.NetNS // memory for one sample
}

// decode returns nil for a line that record.Parse has to read.
func (d *decoder) decode(e record.Envelope, body []byte) record.Record {
	c := cursor{rest: body, ok: true, words: d.words}
	switch e.Kind {
	case record.KindSample:
		if s := d.sample(&c, e); c.ok && len(c.rest) == 0 {
			return s
		}
	case record.KindDrop:
		if r := drop(&c, e); c.ok && len(c.rest) == 0 {
			return r
		}
	}
	return nil
}

func (d *decoder) sample(c *cursor, e record.Envelope) *record.Sample {
	s := &record.Sample{Envelope: e}
	c.literal(`,"interval_ns":`)
	s.Interval = c.signed()
	c.literal(`,"buckets":`)
	s.Buckets = c.number()
	c.literal(`,"lost":`)
	s.Lost = c.number()
	c.literal(`,"unattributed":`)
	s.Unattributed = c.number()
	c.literal(`,"netns":[`)
	d.netns = d.netns[:0]
	for c.ok && !c.next("]") {
		if len(d.netns) > 0 {
			c.literal(",")
		}
		d.netns = append(d.netns, netns(c))
	}
	c.literal("}")
	s.NetNS = slices.Clone(d.netns)
	if s.NetNS == nil {
		s.NetNS = []record.NetNS{}
	}
	return s
}

func netns(c *cursor) (n record.NetNS) {
	c.literal(`{"ns":`)
	n.NS = c.number()
	c.literal(`,"cookie":`)
	n.Cookie = c.number()
	c.literal(`,"name":"`)
	n.Name = c.word()
	// One allocation for all three.
	v := new(struct {
		count, max uint64
		fill       float64
	})
	c.literal(`,"count":`)
	if !c.next("null") {
		v.count = c.number()
		n.Count = &v.count
	}
	c.literal(`,"max":`)
	if !c.next("null") {
		v.max = c.number()
		n.Max = &v.max
	}
	c.literal(`,"fill":`)
	if !c.next("null") {
		v.fill = c.float()
		n.Fill = &v.fill
	}
	c.literal(`,"drops":{"table_full":`)
	n.Drops[0] = c.number()
	c.literal(`,"clash":`)
	n.Drops[1] = c.number()
	c.literal(`,"chain_too_long":`)
	n.Drops[2] = c.number()
	c.literal(`,"insert_race":`)
	n.Drops[3] = c.number()
	c.literal(`,"alloc_failed":`)
	n.Drops[4] = c.number()
	c.literal(`,"other":`)
	n.Drops[5] = c.number()
	c.literal(`},"evicted":`)
	n.Evicted = c.number()
	if c.next(`,"unattributed":`) {
		n.Unattributed = c.number()
	}
	if c.next(`,"owner":"`) {
		n.Owner = c.word()
	}
	if c.next(`,"host":`) {
		n.Host = c.bool()
	}
	if c.next(`,"gone":`) {
		n.Gone = c.bool()
	}
	c.literal("}")
	return n
}

func drop(c *cursor, e record.Envelope) *record.Drop {
	d := &record.Drop{Envelope: e}
	c.literal(`,"ns":`)
	d.NS = c.number()
	c.literal(`,"cookie":`)
	d.Cookie = c.number()
	c.literal(`,"name":"`)
	d.Name = c.word()
	c.literal(`,"cause":"`)
	if cause := c.text(); c.ok {
		c.ok = d.Cause.UnmarshalText(cause) == nil
	}
	c.literal(`,"inferred":`)
	d.Inferred = c.bool()
	c.literal(`,"proto":"`)
	d.Proto = c.word()
	c.literal(`,"src":"`)
	d.Src = string(c.text())
	c.literal(`,"dst":"`)
	d.Dst = string(c.text())
	c.literal(`,"sport":`)
	d.Sport = c.port()
	c.literal(`,"dport":`)
	d.Dport = c.port()
	c.literal(`,"ifname":"`)
	d.Ifname = c.word()
	c.literal(`,"hook":"`)
	d.Hook = c.word()
	c.literal("}")
	return d
}

func (c *cursor) port() uint16 {
	n := c.number()
	c.ok = c.ok && n < 1<<16
	return uint16(n)
}
