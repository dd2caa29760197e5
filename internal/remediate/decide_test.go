package remediate

import (
	"strings"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// filling is a table that should be helped: the example of the documentation.
func filling() Situation {
	return Situation{
		Usage:   Usage{Count: 61_000, Peak: 61_000, Max: 65_536, Buckets: 65_536, Busy: 1},
		Where:   "the host's table",
		Trigger: ByFill, Cause: conntrack.TableFull, Now: time.Hour, Growth: 4100, Calm: true, Entries: 61_000, Before: 60_500,
		Looks: Looks{
			LookOf(fillers(53_000, 0.97, 0), time.Hour-2*time.Second),
			LookOf(fillers(61_000, 0.97, 0, record.Share{Key: "198.51.100.0/24", Share: 0.04, Replied: 1}), time.Hour),
		},
		Memory: Memory{Total: 23*gib + gib/2, Available: 20 * gib, PerEntry: 384, Measured: true},
	}
}

func TestDecide(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Situation)
		max     uint64
		buckets uint64
		refused Reason
		why     []string
	}{
		"real load": {nil, 524_288, 262_144, "", []string{
			"the host's table: 61,000 of 65,536 entries (93.1 %), growing 4,100/s, full in 1.1 s", "peak 102,000 of 65,536",
			"524,288 entries cost at most 194 MiB of 23.5 GiB", "198.51.100.0/24, holds 4.0 %", "so: raise to 524,288",
		}},
		"packets are being refused":                {func(s *Situation) { s.Trigger, s.Calm = ByRefusal, false }, 524_288, 0, "", []string{"refusing packets", "buckets later"}},
		"buckets were changed before":              {func(s *Situation) { s.Hands.Resized = true }, 524_288, 0, "", []string{"buckets were changed before in this incident"}},
		"buckets are enough":                       {func(s *Situation) { s.Buckets = 262_144 }, 524_288, 0, "", nil},
		"flood":                                    {func(s *Situation) { s.Looks[1].Pending = 0.6 }, 0, 0, Flood, []string{"it is a flood", "so: leave the limit"}},
		"the look is old":                          {func(s *Situation) { s.Looks = s.Looks[:1]; s.Looks[0].At -= 11 * time.Second }, 0, 0, Unlooked, []string{"nobody did yet"}},
		"nobody can look, but it evicts nothing":   {func(s *Situation) { s.Looks, s.Blind, s.Trigger = nil, "EPERM", ByRefusal }, 524_288, 262_144, "", []string{"EPERM", "nothing to evict"}},
		"nobody can look, and it evicts":           {func(s *Situation) { s.Looks, s.Blind, s.Trigger, s.Evicts = nil, "EPERM", ByRefusal, true }, 0, 0, Unlooked, []string{"EPERM"}},
		"nobody can look, and nothing is lost yet": {func(s *Situation) { s.Looks, s.Blind = nil, "EPERM" }, 0, 0, Unlooked, nil},
		"too little came to tell":                  {func(s *Situation) { s.Looks[0].Entries = 60_000 }, 0, 0, Unclear, []string{"too little"}},
		"too little came, at the brink":            {func(s *Situation) { s.Looks[0].Entries, s.Trigger = 60_000, ByBrink }, 0, 0, Unclear, nil},
		"nobody looked before":                     {func(s *Situation) { s.Looks = s.Looks[1:] }, 0, 0, Unclear, nil},
		"nobody looked before the loss":            {func(s *Situation) { s.Looks, s.Trigger = s.Looks[1:], ByRefusal }, 524_288, 262_144, "", nil},
		"it grew slowly":                           {func(s *Situation) { s.Looks[0].Entries, s.Looks[0].At = 60_000, s.Now-6*time.Second }, 524_288, 262_144, "", nil},
		"too little came, and it evicts":           {func(s *Situation) { s.Looks[0].Entries, s.Trigger = 60_000, ByEviction }, 524_288, 262_144, "", nil},
		"too little came, after a flood":           {func(s *Situation) { s.Looks[0].Entries, s.Trigger, s.Flooded = 60_000, ByRefusal, s.Now-time.Second }, 0, 0, Unclear, nil},
		"real load, after a flood":                 {func(s *Situation) { s.Trigger, s.Flooded = ByRefusal, s.Now-3*time.Second }, 524_288, 262_144, "", nil},
		"enough":                                   {func(s *Situation) { s.Max, s.Growth, s.Buckets = 1<<20, 10, 1<<20 }, 0, 0, Enough, []string{"is enough"}},
		"another cause":                            {func(s *Situation) { s.Cause = conntrack.Clash }, 0, 0, WrongCure, []string{"clash"}},
		"unlimited":                                {func(s *Situation) { s.Max = 0 }, 0, 0, Unlimited, nil},
		"memory short":                             {func(s *Situation) { s.Memory.Available = 4 * mib }, 0, 0, ShortOf, []string{"memory is short", "a quarter of what is available"}},
		"memory unknown":                           {func(s *Situation) { s.Unknown = "no proc" }, 0, 0, ShortOf, []string{"no proc"}},
		"memory for some":                          {func(s *Situation) { s.Memory.Available = 64 * mib }, 104_448, 0, "", []string{"memory allows 104,690"}},
		"paused":                                   {func(s *Situation) { s.Hands.Paused = "since yesterday" }, 0, 0, Paused, []string{"ctwatch limit resume"}},
		"yielded":                                  {func(s *Situation) { s.Hands.Yielded = "to kube-proxy" }, 0, 0, Yielded, []string{"to kube-proxy"}},
		"just raised":                              {func(s *Situation) { s.Hands.LastTry = s.Now - 3*time.Second }, 0, 0, CoolingDown, nil},
		"raised a while ago":                       {func(s *Situation) { s.Hands.LastTry, s.Hands.Raises = s.Now-11*time.Second, 1 }, 524_288, 262_144, "", nil},
		"raised often":                             {func(s *Situation) { s.Hands.Raises = 8 }, 0, 0, TooOften, []string{"8 times"}},
		"writing fails":                            {func(s *Situation) { s.Hands.Failed = 3 }, 0, 0, TooOften, []string{"failed 3 times"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := filling()
			if name == "real load" || c.buckets > 0 {
				s.Buckets = 16_384
			}
			if strings.HasPrefix(name, "packets are") || strings.HasPrefix(name, "buckets were") {
				s.Buckets = 16_384
			}
			if c.change != nil {
				c.change(&s)
			}
			d := DefaultPolicy().Decide(s)
			if d.Max != c.max || d.Buckets != c.buckets || d.Refused != c.refused {
				t.Errorf("max %d, buckets %d, refused %q; want %d, %d, %q: %s", d.Max, d.Buckets, d.Refused, c.max, c.buckets, c.refused, d.Why)
			}
			for _, w := range c.why {
				if !strings.Contains(d.Why, w) {
					t.Errorf("no %q in: %s", w, d.Why)
				}
			}
		})
	}
}

func TestMostThatTheOperatorAllows(t *testing.T) {
	s := filling()
	p := DefaultPolicy()
	p.MaxLimit = 70_000
	if d := p.Decide(s); d.Refused != AtMost || !strings.Contains(d.Why, "--max-limit") {
		t.Errorf("%+v", d)
	}
	p.MaxLimit = 100_000
	if d := p.Decide(s); d.Max != 100_000 {
		t.Errorf("%+v", d)
	}
}

func TestTrigger(t *testing.T) {
	for name, c := range map[string]struct {
		count, limit uint64
		growth       float64
		want         Trigger
	}{
		"empty":              {0, 1000, 0, Nothing},
		"half full, still":   {500, 1000, 0, Nothing},
		"half full, growing": {500, 1000, 1, ByFill},
		"under half":         {499, 1000, 1, Nothing},
		"full soon":          {300, 1000, 400, ByPace},
		"a small burst":      {200, 1000, 4000, Nothing},
		"the brink":          {900, 1000, 0, ByBrink},
		"no limit":           {900, 0, 500, Nothing},
		"over the limit":     {2000, 1000, 5, ByBrink},
	} {
		if got := DefaultPolicy().Trigger(c.count, c.limit, c.growth); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestDecideBuckets(t *testing.T) {
	long := func(s *Situation) {
		s.Cause, s.Calm, s.Entries, s.Buckets, s.Max = conntrack.ChainTooLong, false, 60_000, 4096, 65_536
	}
	for name, c := range map[string]struct {
		change  func(*Situation)
		buckets uint64
		refused Reason
	}{
		"for a raised limit":            {func(s *Situation) { s.Max, s.Buckets = 524_288, 16_384 }, 262_144, ""},
		"not while packets are lost":    {func(s *Situation) { s.Max, s.Buckets, s.Calm = 524_288, 16_384, false }, 0, CoolingDown},
		"unless chains are too long":    {long, 65_536, ""},
		"enough":                        {func(s *Situation) { s.Max, s.Buckets = 524_288, 131_072 }, 0, WrongCure},
		"long chains in enough buckets": {func(s *Situation) { long(s); s.Buckets = 65_536 }, 0, WrongCure},
		"once an incident":              {func(s *Situation) { long(s); s.Hands.Resized = true }, 0, TooOften},
		"paused":                        {func(s *Situation) { long(s); s.Hands.Paused = "now" }, 0, Paused},
	} {
		t.Run(name, func(t *testing.T) {
			s := filling()
			c.change(&s)
			d := DefaultPolicy().DecideBuckets(s)
			if d.Buckets != c.buckets || d.Refused != c.refused || d.Max != 0 || d.Why == "" {
				t.Errorf("%+v, want %d %q", d, c.buckets, c.refused)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	if err := DefaultPolicy().Check(); err != nil {
		t.Error(err)
	}
	for _, p := range []Policy{{}, {RaiseAt: 1.1, MemoryFraction: 0.1}, {RaiseAt: 0.5, MemoryFraction: 0.6}, {RaiseAt: 0.5, MemoryFraction: 0.1, MaxLimit: 1 << 31}} {
		if p.Check() == nil {
			t.Errorf("%+v is taken", p)
		}
	}
}
