package report

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/ctwatch/ctwatch/internal/record"
)

func TestRedact(t *testing.T) {
	secret := []string{
		"203.0.113.7", "203.0.113.0/24", "2001:db8::17", "2001:db8:1::/64", "192.0.2.1", "198.51.100.9", "fe80::1%eth0", "::ffff:192.0.2.33",
		"payroll-db", "payroll-web", "docker:3f4e5d6c7b8a", "customer-acme.service", "edge-7.example.net", "2001:DB8::17",
	}
	s := newScene(day)
	s.add(&record.Start{Hostname: "edge-7.example.net", Probe: "kprobe"})
	n := netns("payroll-db", 7, 1000, 5)
	s.sample(n)
	i := s.full(n, "id", record.PhaseOpen, s.wall, 5)
	i.Owner = "docker:3f4e5d6c7b8a"
	i.VerdictKind = record.VerdictFloodFew
	i.Verdict = "A flood from 203.0.113.7:4711 and [2001:db8::17]:53 hit payroll-db (docker:3f4e5d6c7b8a)."
	i.Reasons = []string{"203.0.113.0/24 holds 83.0 % of these", "at 2026-11-24T01:02:03Z from fe80::1%eth0, 2001:DB8::17 and ::ffff:192.0.2.33.", "payroll-dbx is another"}
	i.Limits.Why = "edge-7.example.net sets it"
	share := func(keys ...string) (all []record.Share) {
		for _, k := range keys {
			all = append(all, record.Share{Key: k, Entries: 1, Share: 0.5})
		}
		return all
	}
	i.Fillers = &record.Fillers{Time: s.wall, Entries: 9, Walked: 9, Src: share("203.0.113.7", "2001:db8::17"), SrcNet: share("203.0.113.0/24", "2001:db8:1::/64"),
		Dst: share("192.0.2.1"), Dport: share("tcp/443"), State: share("tcp/SYN_SENT")}
	i.Sufferers = &record.Sufferers{Packets: 3, Src: share("198.51.100.9", "203.0.113.7"), Ifname: share("eth0")}
	i.Changes = []record.Change{{Time: s.wall, Key: "nf_conntrack_max", From: 2000, To: 1000, Writer: record.Writer{PID: 9, Comm: "kube-proxy", Unit: "customer-acme.service"}}}
	s.add(i).add(&record.Action{What: "raise_max", Result: "refused", Why: "one source, 203.0.113.7, holds most"})
	s.add(&record.Action{What: "raise_max", Result: "applied", From: 1000, To: 2000, NS: 4026539999, Cookie: 99, Name: "payroll-web",
		Why: "payroll-db: 1,000 of 1,000 entries; the largest source, 2001:db8:1::/64, holds 4.0 %; in payroll-web, too"})
	s.add(&record.Action{What: "raise_max", Result: "yielded", From: 2000, To: 1000, Why: "\"kube-proxy\" (pid 9, \"customer-acme.service\") made it 1,000"})
	r := build(t, s.source())
	plain := all(t, r)
	r.Redact()
	for format, text := range all(t, r) {
		for _, word := range secret {
			if strings.Contains(strings.ReplaceAll(text, "payroll-dbx", ""), word) {
				t.Errorf("%s holds %q", format, word)
			}
		}
		for _, kept := range []string{"tcp/443", "eth0", "kube-proxy", "nf_conntrack_max", "ip4-1", "net4-1/24", "netns-1", "owner-1", "host-1"} {
			if format == "md" && strings.Contains(kept, "kube") {
				continue // is escaped
			}
			if !strings.Contains(text, kept) {
				t.Errorf("%s lacks %q", format, kept)
			}
		}
	}
	in := r.Incidents[0]
	if in.Fillers.Src[0].Key != in.Sufferers.Src[1].Key || in.Fillers.Src[0].Key == in.Fillers.Src[1].Key {
		t.Errorf("one address has one word: %q, %q; another has another: %q", in.Fillers.Src[0].Key, in.Sufferers.Src[1].Key, in.Fillers.Src[1].Key)
	}
	want := "A flood from ip4-1:4711 and [ip6-1]:53 hit netns-1 (owner-1)."
	if in.Verdict != want {
		t.Errorf("verdict %q, want %q", in.Verdict, want)
	}
	if !strings.Contains(in.Reasons[1], "2026-11-24T01:02:03Z") || !strings.Contains(in.Reasons[2], "payroll-dbx") {
		t.Errorf("more was masked than addresses and names: %q", in.Reasons)
	}
	// The words hold for the commands, too.
	if text := all(t, r)["txt"]; !strings.Contains(text, "saddr net4-1/24") && !strings.Contains(text, "saddr ip4-1") {
		t.Error("no command has the word for the source")
	}
	if len(plain["json"]) == 0 || plain["json"] == all(t, r)["json"] {
		t.Error("nothing was redacted")
	}
}

// FuzzMask: no address that a program would read as one is left, wherever it stands.
func FuzzMask(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "a 10.0.0.1:80 b", "[fd00::1]:80", "::", "1::2::3", "fe80::1%eth0", "x:y:z", "2026-11-24T16:45:40Z",
		"1.2.3.4.5", "::ffff:1.2.3.4", "fd00::/8", "256.1.1.1", "aa:bb:cc:dd:ee:ff", "a:b:c:d:e:f:1:2.", "from:fd00::1:"} {
		f.Add(s)
	}
	token := regexp.MustCompile(`[0-9a-fA-F:.]+`)
	f.Fuzz(func(t *testing.T, s string) {
		m := masker{words: map[string]string{}, counts: map[string]int{}}
		got := m.addresses(s)
		for _, word := range token.FindAllString(got, -1) {
			if a, err := netip.ParseAddr(word); err == nil {
				t.Errorf("%q became %q, which holds the address %v", s, got, a)
			}
		}
		if again := m.addresses(got); again != got {
			t.Errorf("%q became %q, and then %q", s, got, again)
		}
	})
}

// FuzzVisible: what is shown is printable, and valid.
func FuzzVisible(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := visible(s)
		if visible(got) != got {
			t.Errorf("%q became %q, and then %q", s, got, visible(got))
		}
		if strings.ContainsAny(got, "\x1b\n\r\t\x00\x7f") {
			t.Errorf("%q became %q", s, got)
		}
		line := line{named(s), span{Text: s}}
		if words := codeSpans(markdownCell(line) + "\n"); strings.Contains(words, "OPEN FENCE") {
			t.Errorf("%q leaves code open: %q", s, markdownCell(line))
		}
		if _, err := json.Marshal(got); err != nil {
			t.Error(err)
		}
	})
}
