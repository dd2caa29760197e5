package incident

import (
	"cmp"
	"math"
	"strconv"

	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/topk"
)

const (
	rankedKeys = 64 // kept of each kind: no more, whoever sends
	shownKeys  = 10
)

// sufferers ranks whose packets were refused, of those that were looked at.
type sufferers struct {
	packets                 uint64
	src, dst, dport, ifname *topk.Table[string]
}

func newSufferers() *sufferers {
	return &sufferers{
		src: topk.New[string](rankedKeys), dst: topk.New[string](rankedKeys),
		dport: topk.New[string](rankedKeys), ifname: topk.New[string](rankedKeys),
	}
}

func (s *sufferers) add(d *record.Drop) {
	s.packets++
	s.src.Add(d.Src, 1)
	s.dst.Add(d.Dst, 1)
	s.dport.Add(service(d), 1)
	s.ifname.Add(d.Ifname, 1)
}

// service is what a packet was for, such as tcp/443.
func service(d *record.Drop) string {
	switch d.Proto {
	case "icmp", "icmpv6":
		return d.Proto
	}
	return d.Proto + "/" + strconv.Itoa(int(d.Dport))
}

func (s *sufferers) record() *record.Sufferers {
	return &record.Sufferers{Packets: s.packets, Src: shares(s.src), Dst: shares(s.dst), Dport: shares(s.dport), Ifname: shares(s.ifname)}
}

func shares(t *topk.Table[string]) []record.Share {
	out := []record.Share{}
	for _, i := range t.Top(shownKeys) {
		n := i.Sure()
		share := float64(n) / float64(max(t.Total(), 1))
		// As of a random sample. What the table had to forget is part of the error, too.
		width := 1.96*math.Sqrt(share*(1-share)/float64(max(t.Total(), 1))) + float64(i.Over)/float64(max(t.Total(), 1))
		out = append(out, record.Share{Key: cmp.Or(i.Key, "-"), Entries: n, Share: share, Error: width})
	}
	return out
}
