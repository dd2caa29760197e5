package limits

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ctwatch/ctwatch/internal/conntrack"
)

// What kernels have, as of their sources (nf_conntrack_standalone.c, and ip_conntrack_standalone.c of 2.6.18).
const (
	present = `-- proc/sys/net/netfilter/nf_conntrack_max --
262144
-- proc/sys/net/nf_conntrack_max --
262144
-- proc/sys/net/netfilter/nf_conntrack_count --
17
-- proc/sys/net/netfilter/nf_conntrack_buckets --
262144
-- sys/module/nf_conntrack/parameters/hashsize --
262144
`
	centos7 = `-- proc/sys/net/netfilter/nf_conntrack_max --
65536
-- proc/sys/net/nf_conntrack_max --
65536
-- proc/sys/net/netfilter/nf_conntrack_count --
9
-- proc/sys/net/netfilter/nf_conntrack_buckets 0444 --
16384
-- sys/module/nf_conntrack/initstate --
live
-- sys/module/nf_conntrack/parameters/hashsize 0600 --
16384
`
	centos6 = centos7 + `-- proc/sys/net/ipv4/netfilter/ip_conntrack_max --
65536
-- proc/sys/net/ipv4/netfilter/ip_conntrack_count --
9
-- proc/sys/net/ipv4/netfilter/ip_conntrack_buckets 0444 --
16384
`
	centos5 = `-- proc/sys/net/ipv4/ip_conntrack_max --
65536
-- proc/sys/net/ipv4/netfilter/ip_conntrack_max --
65536
-- proc/sys/net/ipv4/netfilter/ip_conntrack_count --
64000
-- proc/sys/net/ipv4/netfilter/ip_conntrack_buckets 0444 --
8192
-- sys/module/ip_conntrack/parameters/hashsize 0600 --
8192
`
	// As a repository keeps it, without the modes.
	plainCentos7 = `-- proc/sys/kernel/osrelease --
3.10.0-1160.el7.x86_64
-- proc/sys/net/netfilter/nf_conntrack_max --
65536
-- proc/sys/net/netfilter/nf_conntrack_count --
9
-- proc/sys/net/netfilter/nf_conntrack_buckets --
16384
-- sys/module/nf_conntrack/parameters/hashsize --
16384
`
	earliest = `-- proc/sys/net/ipv4/ip_conntrack_max --
32768
`
	otherNamespace = `-- proc/sys/net/netfilter/nf_conntrack_max 0444 --
262144
-- proc/sys/net/netfilter/nf_conntrack_count 0444 --
17
-- proc/sys/net/netfilter/nf_conntrack_buckets 0444 --
262144
`
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name, tree string
		want       State
		err        error
	}{
		{name: "present", tree: present, want: State{Max: 262144, Buckets: 262144, Count: 17, Counted: true,
			MaxFile: "proc/sys/net/netfilter/nf_conntrack_max", BucketsFile: "proc/sys/net/netfilter/nf_conntrack_buckets"}},
		{name: "centos 7", tree: centos7, want: State{Max: 65536, Buckets: 16384, Count: 9, Counted: true,
			MaxFile: "proc/sys/net/netfilter/nf_conntrack_max", BucketsFile: "sys/module/nf_conntrack/parameters/hashsize"}},
		{name: "centos 7 without modes", tree: plainCentos7, want: State{Max: 65536, Buckets: 16384, Count: 9, Counted: true,
			MaxFile: "proc/sys/net/netfilter/nf_conntrack_max", BucketsFile: "sys/module/nf_conntrack/parameters/hashsize"}},
		{name: "centos 6", tree: centos6, want: State{Max: 65536, Buckets: 16384, Count: 9, Counted: true,
			MaxFile: "proc/sys/net/netfilter/nf_conntrack_max", BucketsFile: "sys/module/nf_conntrack/parameters/hashsize"}},
		{name: "centos 5", tree: centos5, want: State{Max: 65536, Buckets: 8192, Count: 64000, Counted: true, Old: true,
			MaxFile: "proc/sys/net/ipv4/netfilter/ip_conntrack_max", BucketsFile: "sys/module/ip_conntrack/parameters/hashsize"}},
		{name: "before there was a count", tree: earliest, want: State{Max: 32768, Old: true,
			MaxFile: "proc/sys/net/ipv4/ip_conntrack_max"}},
		{name: "another namespace", tree: otherNamespace, want: State{Max: 262144, Buckets: 262144, Count: 17, Counted: true,
			MaxFile: "proc/sys/net/netfilter/nf_conntrack_max", BucketsFile: "proc/sys/net/netfilter/nf_conntrack_buckets"}},
		{name: "more than an int", tree: "-- proc/sys/net/netfilter/nf_conntrack_max --\n-2147483648\n", want: State{Max: 1 << 31,
			MaxFile: "proc/sys/net/netfilter/nf_conntrack_max"}},
		{name: "not loaded", tree: "-- proc/sys/net/ipv4/ip_forward --\n0\n", err: conntrack.ErrNotLoaded},
		{name: "being unloaded", tree: strings.Replace(centos7, "live", "going", 1), err: conntrack.ErrNotLoaded},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := plant(t, c.tree)
			got, err := Read(root)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			got.MaxFile, got.BucketsFile = below(root, got.MaxFile), below(root, got.BucketsFile)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestSet sets limits in copies of machines' files, where each name of a limit has to show what the kernel would.
func TestSet(t *testing.T) {
	for name, tree := range map[string]string{"present": present, "centos 7": centos7, "centos 6": centos6, "centos 5": centos5} {
		t.Run(name, func(t *testing.T) {
			root := plant(t, tree)
			before, err := Read(root)
			must(t, err)
			for _, to := range []uint64{524288, 7} { // a shorter number leaves nothing of a longer one
				c, err := SetMax(root, to)
				must(t, err)
				if c.From != before.Max || c.To != to || c.Took <= 0 {
					t.Errorf("%+v, want from %d to %d", c, before.Max, to)
				}
				b, err := SetBuckets(root, to*2)
				must(t, err)
				if b.From != before.Buckets || b.To != to*2 {
					t.Errorf("%+v, want from %d to %d", b, before.Buckets, to*2)
				}
				want := before
				want.Max, want.Buckets = to, to*2
				got, err := Read(root)
				must(t, err)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				everywhere(t, root, "*_conntrack_max", to)
				everywhere(t, root, "*_conntrack_buckets", to*2)
				everywhere(t, root, "hashsize", to*2)
				before = got
			}
		})
	}
}

// everywhere checks that the files of a name hold a number, and that there are some.
func everywhere(t *testing.T, root, pattern string, want uint64) {
	t.Helper()
	found := 0
	must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if ok, _ := filepath.Match(pattern, filepath.Base(path)); !ok || err != nil {
			return err
		}
		found++
		if text, err := os.ReadFile(path); err != nil || string(text) != strconv.FormatUint(want, 10)+"\n" {
			t.Errorf("%s holds %q (%v), want %d", below(root, path), text, err, want)
		}
		return nil
	}))
	if found == 0 {
		t.Errorf("no file %s", pattern)
	}
}

func TestCannotSet(t *testing.T) {
	setMax := func(n uint64) func(string) error {
		return func(root string) error { _, err := SetMax(root, n); return err }
	}
	setBuckets := func(n uint64) func(string) error {
		return func(root string) error { _, err := SetBuckets(root, n); return err }
	}
	for _, c := range []struct {
		name, tree string
		do         func(root string) error
		want       error
	}{
		{"too many entries", present, setMax(1 << 31), &RangeError{1 << 31, Most}},
		{"too many buckets", present, setBuckets(MostBuckets + 1), &RangeError{MostBuckets + 1, MostBuckets}},
		{"no buckets", present, setBuckets(0), &RangeError{0, MostBuckets}},
		{"another namespace", otherNamespace, setMax(5), &UnwritableError{"proc/sys/net/netfilter/nf_conntrack_max", OtherNamespace}},
		{"its buckets", otherNamespace, setBuckets(5), &UnwritableError{"proc/sys/net/netfilter/nf_conntrack_buckets", OtherNamespace}},
		{"another namespace, asked", otherNamespace, CheckMax, &UnwritableError{"proc/sys/net/netfilter/nf_conntrack_max", OtherNamespace}},
		{"its buckets, asked", otherNamespace, CheckBuckets, &UnwritableError{"proc/sys/net/netfilter/nf_conntrack_buckets", OtherNamespace}},
		{"buckets that nothing sets", earliest, setBuckets(5), &UnwritableError{"", NoFile}},
		{"buckets that nothing sets, asked", earliest, CheckBuckets, &UnwritableError{"", NoFile}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := plant(t, c.tree)
			before := contents(t, root)
			err := c.do(root)
			var u *UnwritableError
			if errors.As(err, &u) && u.Path != "" {
				u.Path = below(root, u.Path)
			}
			if diff := cmp.Diff(c.want, err); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, contents(t, root)); diff != "" {
				t.Errorf("files changed (-want +got):\n%s", diff)
			}
		})
	}
	for _, do := range []func(string) error{setMax(5), setBuckets(5), CheckMax, CheckBuckets} {
		if err := do(t.TempDir()); !errors.Is(err, conntrack.ErrNotLoaded) {
			t.Errorf("without conntrack the error is %v", err)
		}
	}
	for _, do := range []func(string) error{CheckMax, CheckBuckets} {
		if err := do(plant(t, centos5)); err != nil {
			t.Errorf("on CentOS 5: %v", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"262144\n", "-1\n", "-2147483648\n", "4294967295\n", "", "1 2\n", "x\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := parse(text)
		if err != nil {
			return
		}
		signed, unsigned := strconv.FormatInt(int64(int32(n)), 10), strconv.FormatUint(n, 10)
		word := strings.TrimSpace(string(bytes.TrimLeft(bytes.TrimSpace(text), "+")))
		if bare := strings.TrimLeft(strings.TrimPrefix(word, "-"), "0"); n > 1<<32-1 || bare != strings.TrimPrefix(signed, "-") &&
			bare != unsigned && n != 0 {
			t.Errorf("%q is %d", text, n)
		}
	})
}

// plant makes the files of a txtar archive; a mode may stand after a name.
func plant(t *testing.T, archive string) (root string) {
	t.Helper()
	root = t.TempDir()
	for _, f := range txtar.Parse([]byte(archive)).Files {
		name, octal, _ := strings.Cut(f.Name, " ")
		mode, err := strconv.ParseUint(octal, 8, 9)
		if err != nil {
			mode = 0o644
		}
		name = filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		must(t, os.WriteFile(name, f.Data, fs.FileMode(mode)))
	}
	return root
}

// contents are the files below a root.
func contents(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files[below(root, path)] = string(text)
		return err
	}))
	return files
}

func below(root, path string) string { return strings.TrimPrefix(path, root+"/") }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
