package remediate

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	meminfo618 = "MemTotal:       24684116 kB\nMemFree:        23000000 kB\nMemAvailable:   23663000 kB\nBuffers:            1000 kB\nCached:           200000 kB\n"
	meminfo5   = "MemTotal:      1026688 kB\nMemFree:        100000 kB\nBuffers:         20000 kB\nCached:         400000 kB\nSwapCached:          0 kB\n"
	slabs618   = "slabinfo - version: 2.1\n# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n" +
		"nf_conntrack_expect      0      0    208   19    1 : tunables    0    0    0 : slabdata      0      0      0\n" +
		"nf_conntrack         199936 199936    256   16    1 : tunables    0    0    0 : slabdata  12496  12496      0\n"
	slabs5 = "slabinfo - version: 2.1\nip_conntrack_expect      0      0    136   28    1 : tunables  120   60    8 : slabdata      0      0      0\n" +
		"ip_conntrack           17     40    384   10    1 : tunables   54   27    8 : slabdata      4      4      0\n"
	slabs7 = "nf_conntrack_ffff8800b8a30000      0      0    320   25    2 : tunables    0    0    0 : slabdata      0      0      0\n" +
		"nf_conntrack_ffffffff81a25e00   1500   1500    320   12    1 : tunables    0    0    0 : slabdata    125    125      0\n"
)

func TestReadMemory(t *testing.T) {
	for name, c := range map[string]struct {
		meminfo, slabs string
		want           Memory
		err            bool
	}{
		"6.18":                         {meminfo618, slabs618, Memory{24684116 << 10, 23663000 << 10, 256 + 128, true}, false},
		"CentOS 5":                     {meminfo5, slabs5, Memory{1026688 << 10, 300000 << 10, 410 + 128, true}, false},
		"CentOS 7":                     {meminfo618, slabs7, Memory{24684116 << 10, 23663000 << 10, 342 + 128, true}, false},
		"no slabinfo":                  {meminfo618, "", Memory{24684116 << 10, 23663000 << 10, 512, false}, false},
		"no conntrack":                 {meminfo618, "nf_conntrack_expect 0 0 208 19 1 : \n", Memory{24684116 << 10, 23663000 << 10, 512, false}, false},
		"nonsense slabs":               {meminfo618, "nf_conntrack 1 1 256 0 1 :\nnf_conntrack 1 1 256 x 1\nnf_conntrack\n", Memory{24684116 << 10, 23663000 << 10, 512, false}, false},
		"no meminfo":                   {"", "", Memory{}, true},
		"no MemTotal":                  {"MemFree: 5 kB\n", "", Memory{}, true},
		"more available than there is": {"MemTotal: 5 kB\nMemAvailable: 9 kB\n", "", Memory{5 << 10, 5 << 10, 512, false}, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			proc := filepath.Join(root, "proc")
			must(t, os.Mkdir(proc, 0o755))
			for file, text := range map[string]string{"meminfo": c.meminfo, "slabinfo": c.slabs} {
				if text != "" {
					must(t, os.WriteFile(filepath.Join(proc, file), []byte(text), 0o600))
				}
			}
			got, err := ReadMemory(root)
			if (err != nil) != c.err || c.meminfo == "" && !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(c.want, got); os.Getpagesize() == 4096 && diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestThisMachine: what is read here is plausible.
func TestThisMachine(t *testing.T) {
	m, err := ReadMemory("")
	must(t, err)
	if m.Total < 64*mib || m.Available == 0 || m.PerEntry < 128 || m.PerEntry > 2048 {
		t.Errorf("%+v", m)
	}
}

func FuzzMemory(f *testing.F) {
	for _, s := range []string{meminfo618, meminfo5, slabs618, slabs5, slabs7} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if m, err := parseMemory(text); err == nil && (m.Total == 0 || m.Available > m.Total) {
			t.Errorf("%+v", m)
		}
		if object := parseSlab(text, 4096); object > 1<<16*4096 {
			t.Errorf("an entry of %d bytes", object)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
