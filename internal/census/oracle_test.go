package census

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ctwatch/ctwatch/internal/record"
)

// restore has conntrack(8) make many entries, in the calling thread's namespace.
func restore(t *testing.T, lines []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "entries")
	if err := os.WriteFile(path, []byte("-I "+strings.Join(lines, "\n-I ")+"\n"), 0o644); err != nil {
		t.Error(err)
	}
	runConntrack(t, "-R", path)
}

// mixed returns n different entries of several kinds, whose sources are unevenly many.
func mixed(r *rand.Rand, n int) (lines []string) {
	host := rand.NewZipf(r, 1.3, 2, 3000)
	for i := range n {
		src, port := host.Uint64(), 1024+i%60_000
		net4 := fmt.Sprintf("-s 10.1.%d.%d -d 192.0.2.%d", src/200, src%200, 1+r.IntN(12))
		net6 := fmt.Sprintf("-s 2001:db8:%x::%x -d 2001:db8:ffff::%x", src%20, src, 1+r.IntN(12))
		timeout := []int{200, 431_000, 431_999, 400_000, 1000}[r.IntN(5)]
		switch r.IntN(6) {
		case 0, 1:
			lines = append(lines, fmt.Sprintf("-p tcp %s --sport %d --dport 443 --state ESTABLISHED -t %d -u SEEN_REPLY,ASSURED", net4, port, timeout))
		case 2:
			lines = append(lines, fmt.Sprintf("-p tcp %s --sport %d --dport %d --state SYN_SENT -t 1000", net6, port, 80+r.IntN(15)))
		case 3:
			lines = append(lines, fmt.Sprintf("-p udp %s --sport %d --dport 53 -t 1000 -u SEEN_REPLY", net4, port))
		case 4:
			lines = append(lines, fmt.Sprintf("-p udp %s --sport %d --dport 443 -t 1000", net6, port))
		case 5:
			lines = append(lines, fmt.Sprintf("-p icmp %s --icmp-type 8 --icmp-code 0 --icmp-id %d -t 1000", net4, port))
		}
	}
	return lines
}

// count is what an exact census finds, by key, counted in another way: from what conntrack(8) prints.
type count struct{ entries, replied, assured uint64 }

type counts struct {
	total                          count
	idle                           uint64
	src, srcNet, dst, dport, proto map[string]count
	state                          map[string]count
}

func countLines(t *testing.T, lines []string) counts {
	c := counts{src: map[string]count{}, srcNet: map[string]count{}, dst: map[string]count{}, dport: map[string]count{},
		proto: map[string]count{}, state: map[string]count{}}
	for _, line := range lines {
		e, err := conntrackLine(line)
		if err != nil {
			t.Error(err)
		}
		add := func(n *count) {
			n.entries++
			if !strings.Contains(line, "[UNREPLIED]") {
				n.replied++
			}
			if strings.Contains(line, "[ASSURED]") {
				n.assured++
			}
		}
		to := func(m map[string]count, key string) {
			n := m[key]
			add(&n)
			m[key] = n
		}
		fields := strings.Fields(line)
		bits := map[bool]int{true: 24, false: 64}[e.Src.Is4()]
		add(&c.total)
		to(c.src, e.Src.String())
		to(c.srcNet, netip.PrefixFrom(e.Src, bits).Masked().String())
		to(c.dst, e.Dst.String())
		to(c.proto, fields[0])
		switch {
		case fields[0] == "tcp":
			to(c.state, "tcp/"+fields[3])
			if fields[3] == "ESTABLISHED" && e.Timeout > 300 && e.Timeout <= 432_000-600 {
				c.idle++
			}
		case strings.Contains(line, "[UNREPLIED]"):
			to(c.state, fields[0]+"/unreplied")
		default:
			to(c.state, fields[0]+"/replied")
		}
		if fields[0] != "icmp" {
			to(c.dport, fmt.Sprintf("%s/%d", fields[0], e.DstPort))
		}
	}
	return c
}

// checkRows checks that rows are the largest of the exact counts, to the last figure.
func checkRows(t *testing.T, what string, rows []record.Share, exact map[string]count, total uint64) {
	t.Helper()
	var sizes []uint64
	for _, n := range exact {
		sizes = append(sizes, n.entries)
	}
	slices.SortFunc(sizes, func(a, b uint64) int { return cmp.Compare(b, a) })
	if len(rows) != min(10, len(sizes)) {
		t.Errorf("%s: %d rows of %d", what, len(rows), len(sizes))
		return
	}
	for i, row := range rows {
		n := exact[row.Key]
		want := record.Share{Key: row.Key, Entries: sizes[i], Share: float64(n.entries) / float64(total),
			Replied: float64(n.replied) / float64(n.entries), Assured: float64(n.assured) / float64(n.entries)}
		if diff := gocmp.Diff(want, row, cmpopts.EquateApprox(0, 1e-12)); diff != "" || n.entries != row.Entries {
			t.Errorf("%s, row %d of %d entries: -want +got\n%s", what, i, n.entries, diff)
		}
	}
}
