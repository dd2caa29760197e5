package boot

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// TestDefaults is nf_conntrack_init_start of each tree, with pages of 4096 bytes.
func TestDefaults(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		release          string
		memory, hashsize uint64
		limit, buckets   uint64
	}{
		{"6.18.44-fc-v657", 8192 * mib, 0, 262144, 262144},
		{"6.1.0-50-amd64", 4096*mib + 1, 0, 262144, 262144},
		{"6.1.0-50-amd64", 4096 * mib, 0, 65536, 65536},
		{"5.15.0-97-generic", 1024*mib + 1, 0, 65536, 65536},
		{"5.15.0-97-generic", 1024 * mib, 0, 8192, 8192},
		{"5.15.0-97-generic", 200 * mib, 0, 2048, 2048}, // 1600, rounded up
		{"5.15.0-97-generic", 64 * mib, 0, 1024, 1024},
		{"5.14.0-570.32.1.el9_6.x86_64", 8192 * mib, 0, 262144, 262144},
		{"5.10.0-32-amd64", 8192 * mib, 0, 262144, 65536},
		{"5.10.0-32-amd64", 2048 * mib, 0, 65536, 16384},
		{"5.10.0-32-amd64", 512 * mib, 0, 16384, 4096},
		{"5.10.0-32-amd64", mib, 0, 2048, 512}, // 32, rounded up
		{"4.18.0-553.el8_10.x86_64", 8192 * mib, 0, 262144, 65536},
		{"3.10.0-1062.el7.x86_64", 8192 * mib, 0, 262144, 65536},
		{"3.16.0-4-amd64", 8192 * mib, 0, 65536, 16384},
		{"2.6.32-754.el6.x86_64", 8192 * mib, 0, 65536, 16384},
		{"2.6.18-274.7.1.el5", 8192 * mib, 0, 65536, 8192},
		{"2.6.18-274.7.1.el5", 512 * mib, 0, 16384, 2048},

		{"6.18.44-fc-v657", 8192 * mib, 16384, 131072, 16384},
		{"6.18.44-fc-v657", 0, 16385, 135168, 16896},
		{"5.10.0-32-amd64", 8192 * mib, 1, 4096, 512},
		{"2.6.18-274.7.1.el5", 8192 * mib, 1000, 8000, 1000},

		{"6.18.44-fc-v657", 0, 0, 0, 0},
	} {
		limit, buckets := parseKernel(c.release).defaults(c.memory, c.hashsize, 4096)
		if limit != c.limit || buckets != c.buckets {
			t.Errorf("%s, %d MiB, hashsize %d: %d in %d buckets, want %d in %d", c.release, c.memory/mib, c.hashsize, limit, buckets, c.limit, c.buckets)
		}
	}
	if _, buckets := parseKernel("6.1.0").defaults(0, 1, 65536); buckets != 8192 {
		t.Errorf("%d buckets with pages of 64 KiB", buckets)
	}
}

func TestParseKernel(t *testing.T) {
	for release, want := range map[string]kernel{
		"6.12.107+deb13-amd64\n":       {"6.12.107+deb13-amd64", version{6, 12, 107}, 0},
		"5.14.0-570.32.1.el9_6.x86_64": {"5.14.0-570.32.1.el9_6.x86_64", version{5, 14, 0}, 9},
		"6.12.0-55.24.1.el10_0.x86_64": {"6.12.0-55.24.1.el10_0.x86_64", version{6, 12, 0}, 10},
		"7.3-rc1":                      {"7.3-rc1", version{7, 3, 0}, 0},
		"":                             {},
		"six":                          {},
		"../../etc":                    {},
	} {
		if got := parseKernel(release); got != want {
			t.Errorf("%q: %+v, want %+v", release, got, want)
		}
	}
}

func TestTellsInTime(t *testing.T) {
	for release, want := range map[string]bool{
		"5.12.0": true, "6.18.44": true, "5.10.223": true, "5.4.0-99-generic": true, "4.14.300": true, "5.14.0-570.el9.x86_64": true,
		"5.11.0": false, "4.19.100": false, "3.10.0-1062.el7.x86_64": false, "4.18.0-553.el8_10.x86_64": false,
	} {
		if got := parseKernel(release).tellsInTime(); got != want {
			t.Errorf("%s: %v", release, got)
		}
	}
}

func TestWrite(t *testing.T) {
	for _, c := range []struct {
		release string
		limit   limit
		text    string
		want    uint64
		err     string
	}{
		{"6.12", limitMax, "262144", 262144, ""},
		{"6.12", limitMax, " \t262144", 262144, ""},
		{"6.12", limitMax, "262144 # a comment", 262144, ""},
		{"6.12", limitMax, "262144\t7", 262144, ""},
		{"6.12", limitMax, "262144#", 0, "is not a number that the kernel takes"},
		{"6.12", limitMax, "256k", 0, "is not a number that the kernel takes"},
		{"6.12", limitMax, "", 0, "is not a number that the kernel takes"},
		{"6.12", limitMax, "+5", 0, "is not a number that the kernel takes"},
		{"6.12", limitMax, "--5", 0, "is not a number that the kernel takes"},
		{"6.12", limitMax, "1_000", 0, "is not a number that the kernel takes"},
		{"6.12", limitMax, "0x", 0, "is not a number that the kernel takes"},
		{"6.12", limitMax, "0b11", 0, "is not a number that the kernel takes"},
		{"6.12", limitMax, "0000000000000000000005", 0, "is not a number that the kernel takes"}, // 22 digits
		{"6.12", limitMax, "0x40000", 262144, ""},
		{"6.12", limitMax, "010", 8, ""},
		{"6.12", limitMax, "08", 0, "is not a number that the kernel takes"},
		{"6.12", limitMax, "2147483647", 2147483647, ""},
		{"6.12", limitMax, "2147483648", 0, "is out of range"},
		{"6.12", limitMax, "99999999999999999999", 0, "is out of range"},
		{"6.12", limitMax, "0", 0, ""},
		{"7.0", limitMax, "0", 0, "is out of range: 0"},
		{"6.12", limitMax, "-1", 0, "is out of range: -1"},
		{"5.10", limitMax, "-1", 4294967295, ""},
		{"5.10", limitMax, "-2147483648", 2147483648, ""},
		{"5.10", limitMax, "-2147483649", 0, "is out of range"},
		{"6.12", limitBuckets, "65536", 65536, ""},
		{"6.12", limitBuckets, "65537", 66048, ""},
		{"6.12", limitBuckets, "0", 0, "is out of range: 0"},
		{"6.12", limitBuckets, "2147483647", 0, "is out of range: 2147483647"},
		{"4.18.0-553.el8", limitBuckets, "1024", 1024, ""},
	} {
		got, err := parseKernel(c.release).write(c.limit, c.text, 4096)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if got != c.want || said != c.err {
			t.Errorf("%s: %q: %d %q, want %d %q", c.release, c.text, got, said, c.want, c.err)
		}
	}
}

func TestParseMemTotal(t *testing.T) {
	for text, want := range map[string]uint64{
		"MemTotal:        8010404 kB\nMemFree: 1 kB\n": 8010404 << 10,
		"MemFree: 1 kB\nMemTotal: 2 kB\n":              2048,
		"MemTotal: x kB\n":                             0,
		"MemTotal: 8010404\n":                          0,
		"":                                             0,
	} {
		if got := parseMemTotal(text); got != want {
			t.Errorf("%q: %d", text, got)
		}
	}
}

// FuzzParseInt: what is taken is what strconv makes of the word, and space and what follows make no difference.
func FuzzParseInt(f *testing.F) {
	for _, s := range []string{"262144", " 0x40000 x", "-010", "2147483648", "4k", "0_1", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseInt(text)
		if err != nil {
			return
		}
		if n < -1<<31 || n >= 1<<31 {
			t.Errorf("%q: %d does not fit the kernel's int", text, n)
		}
		word := strings.Fields(text)[0]
		if want, err := strconv.ParseInt(word, 0, 64); err != nil || want != n {
			t.Errorf("%q: %d, want %d %v", text, n, want, err)
		}
		again, err := parseInt(fmt.Sprintf(" \t%d trailing", n))
		if err != nil || again != n {
			t.Errorf("%d: %d, %v", n, again, err)
		}
	})
}
