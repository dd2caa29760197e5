package remediate

import (
	"cmp"
	"strings"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// fillers is what a census of so many entries finds: replied to, half open, and the networks they come from.
func fillers(entries uint64, replied, halfOpen float64, nets ...record.Share) *record.Fillers {
	f := &record.Fillers{Entries: entries, Walked: 200, Replied: replied, Error: 0.07, SrcNet: nets}
	if halfOpen > 0 {
		f.State = []record.Share{{Key: "tcp/SYN_RECV", Share: halfOpen}}
	}
	return f
}

func TestFlood(t *testing.T) {
	net := func(share, replied float64) record.Share {
		return record.Share{Key: "198.51.100.0/24", Share: share, Replied: replied}
	}
	at := func(s int, f *record.Fillers) Look { return LookOf(f, time.Duration(s)*time.Second) }
	calm := at(0, fillers(8000, 0.98, 0)) // what it was ten seconds before
	for name, c := range map[string]struct {
		looks  Looks
		before uint64 // 0 is as many as now
		want   flooding
		why    string
	}{
		"a busy service":                  {Looks{calm, at(10, fillers(8000, 0.98, 0))}, 0, noFlood, ""},
		"half unreplied":                  {Looks{calm, at(10, fillers(8000, 0.5, 0))}, 0, noFlood, ""},
		"more than half":                  {Looks{at(1, fillers(8000, 0.48, 0))}, 0, isFlood, "52.0 % of the entries never saw an answer"},
		"SYNs answered in vain":           {Looks{at(1, fillers(8000, 0.9, 0.6))}, 0, isFlood, "60.0 % never answered it"},
		"one network of some":             {Looks{at(1, fillers(8000, 0.7, 0, net(0.2, 0.1)))}, 0, isFlood, "are from 198.51.100.0/24"},
		"one network of very few":         {Looks{calm, at(10, fillers(8000, 0.97, 0, net(0.9, 0.97)))}, 0, noFlood, ""}, // the clients behind a gateway
		"many networks of some":           {Looks{calm, at(10, fillers(8000, 0.7, 0, net(0.05, 0)))}, 0, noFlood, ""},
		"it came in the last second":      {Looks{at(1, fillers(4000, 0.98, 0)), at(2, fillers(7800, 0.53, 0))}, 0, isFlood, "of the 3,800 entries that came in the last 1s, 94"},
		"a fifth, and all of it came":     {Looks{at(1, fillers(4096, 1, 0)), at(2, fillers(5500, 0.75, 0))}, 0, isFlood, "of the 1,404 entries"},
		"after real ones came":            {Looks{at(1, fillers(4000, 1, 0)), at(3, fillers(8000, 1, 0)), at(4, fillers(9500, 0.84, 0))}, 0, isFlood, "of the 1,500 entries"},
		"real ones came":                  {Looks{at(1, fillers(4000, 0.6, 0)), at(2, fillers(9000, 0.8, 0))}, 0, noFlood, ""},
		"too few came to tell":            {Looks{at(1, fillers(7500, 0.98, 0)), at(2, fillers(7900, 0.93, 0))}, 0, unknown, "too little"},
		"too few came for long":           {Looks{at(1, fillers(7500, 0.98, 0)), at(12, fillers(7900, 0.93, 0))}, 0, noFlood, ""},
		"still for long, and then a step": {Looks{at(1, fillers(7500, 0.98, 0)), at(12, fillers(7800, 0.94, 0))}, 7500, unknown, "too little"},
		"not growing at all":              {Looks{at(1, fillers(7500, 0.98, 0)), at(12, fillers(7400, 0.94, 0))}, 0, noFlood, ""},
		"nobody knows what it was":        {Looks{at(2, fillers(7800, 0.98, 0))}, 0, unknown, "too little known"},
		"nearly all of it came":           {Looks{at(2, fillers(7800, 0.98, 0))}, 1000, noFlood, ""},
		"a step of real ones":             {Looks{at(2, fillers(5000, 0.97, 0))}, 4096, noFlood, ""},
		"a step of a flood":               {Looks{at(2, fillers(5000, 0.82, 0))}, 4096, unknown, ""},
		"it was another table then":       {Looks{at(1, fillers(4000, 0.98, 0)), at(40, fillers(7800, 0.53, 0))}, 0, unknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			now := &c.looks[len(c.looks)-1]
			got, why := c.looks.flood(now, cmp.Or(c.before, now.Entries), 0)
			if got != c.want || !strings.Contains(why, c.why) {
				t.Errorf("%d, %q; want %d, %q", got, why, c.want, c.why)
			}
		})
	}
}

func TestLooksAge(t *testing.T) {
	var all Looks
	for s := range 100 {
		all = all.Add(Look{At: time.Duration(s) * time.Second})
	}
	if len(all) != 31 {
		t.Errorf("%d looks are kept", len(all))
	}
	if now := all.at(105 * time.Second); now == nil || now.At != 99*time.Second {
		t.Errorf("%+v stands for 6 s later", now)
	}
	if now := all.at(110 * time.Second); now != nil {
		t.Errorf("%+v stands for 11 s later", now)
	}
	if now := Looks(nil).at(0); now != nil {
		t.Errorf("%+v of nothing", now)
	}
}

// TestFloodLingers: what is known from before a flood, and few pending entries at the beginning of the table, do not end it.
func TestFloodLingers(t *testing.T) {
	looks := Looks{LookOf(fillers(8000, 0.98, 0), time.Second), LookOf(fillers(8000, 0.95, 0), 9*time.Second)}
	if got, _ := looks.flood(&looks[1], 8000, 0); got != noFlood {
		t.Fatalf("%d without a flood", got)
	}
	if got, _ := looks.flood(&looks[1], 8000, 5*time.Second); got != unknown {
		t.Errorf("%d after a flood", got)
	}
	looks = append(looks, LookOf(fillers(12_000, 0.97, 0), 12*time.Second))
	if got, _ := looks.flood(&looks[2], 12_000, 5*time.Second); got != noFlood {
		t.Errorf("%d when real connections came since", got)
	}
}
