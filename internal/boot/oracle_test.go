package boot

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/test/need"
)

// TestAgainstSystemd plants trees by chance and compares with what systemd reads of them: which files, in which order,
// and so which value is last. systemd-analyze only prints; systemd-sysctl would set the whole machine's.
func TestAgainstSystemd(t *testing.T) {
	need.Tool(t, "systemd-analyze")
	trees := 100
	if testing.Short() {
		trees = 30
	}
	var values int
	for seed := range uint64(trees) {
		archive := chanceTree(rand.New(rand.NewPCG(seed, 1)))
		root := plant(t, on612+modules+archive)
		want := systemdSays(t, root)
		b, err := Read(root)
		must(t, err)
		got := ""
		if b.NextBoot.Max != nil && b.Persisted.Max != nil {
			got = fmt.Sprint(*b.NextBoot.Max)
			values++
		}
		if got != want {
			t.Fatalf("seed %d: %q, and systemd has %q last: %s\n%s", seed, got, want, b.Why, archive)
		}
		files := map[string]bool{}
		for _, l := range b.Files {
			if l.Wins {
				files[l.File] = true
			}
		}
		if len(files) > 1 {
			t.Fatalf("seed %d: %v win\n%s", seed, files, archive)
		}
	}
	if values < trees/2 {
		t.Errorf("only %d of %d trees set anything", values, trees)
	}
}

// chanceTree has some files, some of one name, some masked, some whose names do not count.
func chanceTree(r *rand.Rand) string {
	var b strings.Builder
	value := 1000
	line := func() {
		value++
		switch r.IntN(5) {
		case 0:
			fmt.Fprintf(&b, "# net.netfilter.nf_conntrack_max = %d\n", value)
		case 1:
			fmt.Fprintf(&b, "net.ipv4.ip_forward = %d\n", value)
		case 2:
			fmt.Fprintf(&b, "net/netfilter/nf_conntrack_max=%d\n", value)
		default:
			fmt.Fprintf(&b, "net.netfilter.nf_conntrack_max = %d\n", value)
		}
	}
	names := []string{"10-a.conf", "50-default.conf", "60-b.conf", "99-sysctl.conf", "99-zz.conf", "z.conf", ".99-hidden.conf", "99-zzz.conf.bak", "é.conf", "A.conf"}
	if r.IntN(2) == 0 {
		b.WriteString("-- etc/sysctl.conf --\n")
		line()
		if r.IntN(2) == 0 {
			b.WriteString("-- etc/sysctl.d/99-sysctl.conf -> ../sysctl.conf --\n")
			names[3] = "98.conf"
		}
	}
	for _, dir := range confDirs {
		for _, name := range names {
			file := path.Join(dir, "sysctl.d", name)[1:]
			switch r.IntN(8) {
			case 0, 1:
				fmt.Fprintf(&b, "-- %s --\n", file)
				for range 1 + r.IntN(3) {
					line()
				}
			case 2:
				fmt.Fprintf(&b, "-- %s -> /dev/null --\n", file)
			}
		}
	}
	return b.String()
}

// systemdSays is the last value in what systemd-analyze prints of a tree, "" if there is none.
func systemdSays(t *testing.T, root string) (value string) {
	t.Helper()
	for line := range strings.Lines(systemdPrints(t, root)) {
		for _, key := range []string{"net.netfilter.nf_conntrack_max = ", "net/netfilter/nf_conntrack_max="} {
			if v, ok := strings.CutPrefix(line, key); ok {
				value = strings.TrimSpace(v)
			}
		}
	}
	return value
}

// systemdPrints is what systemd-analyze has of a tree's sysctl.d, file by file in its order.
func systemdPrints(t testing.TB, root string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("systemd-analyze", "--root="+root, "cat-config", "sysctl.d")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return stdout.String()
}

// TestOracle checks that the oracle tells trees apart.
func TestOracle(t *testing.T) {
	need.Tool(t, "systemd-analyze")
	got := []string{
		systemdSays(t, plant(t, "-- etc/sysctl.d/a.conf --\nnet/netfilter/nf_conntrack_max=1\n-- usr/lib/sysctl.d/b.conf --\nnet/netfilter/nf_conntrack_max=2\n")),
		systemdSays(t, plant(t, "-- etc/sysctl.d/b.conf -> /dev/null --\n-- usr/lib/sysctl.d/b.conf --\nnet/netfilter/nf_conntrack_max=2\n")),
	}
	if diff := cmp.Diff([]string{"2", ""}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
