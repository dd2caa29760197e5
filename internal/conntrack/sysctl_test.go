package conntrack

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadLimits(t *testing.T) {
	full := map[string]string{"count": "17\n", "max": "262144\n", "buckets": "65536\n", "expect_max": "1024\n"}
	tests := map[string]struct {
		set  map[string]string // name "" leaves all out
		want Limits
		err  string
	}{
		"all":                        {want: Limits{Max: 262144, Buckets: 65536, ExpectMax: 1024}},
		"no limit":                   {set: map[string]string{"max": "0\n"}, want: Limits{Buckets: 65536, ExpectMax: 1024}},
		"more than 2^31, before 6.1": {set: map[string]string{"max": "-2\n"}, want: Limits{Max: 1<<32 - 2, Buckets: 65536, ExpectMax: 1024}},
		"no expect_max":              {set: map[string]string{"expect_max": ""}, want: Limits{Max: 262144, Buckets: 65536}},
		"not loaded":                 {set: map[string]string{"count": ""}, err: ErrNotLoaded.Error()},
		"two numbers":                {set: map[string]string{"max": "1 2\n"}, err: "read nf_conntrack_max: 2 numbers, not one"},
		"no number":                  {set: map[string]string{"buckets": "many\n"}, err: "read nf_conntrack_buckets: "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range full {
				if v, ok := tt.set[file]; ok {
					text = v
				}
				if text != "" {
					write(t, filepath.Join(root, "proc/sys/net/netfilter/nf_conntrack_"+file), text)
				}
			}
			got, err := ReadLimits(root)
			if tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)) || tt.err == "" && err != nil {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestReadLimitsOfNoMachine(t *testing.T) {
	if _, err := ReadLimits(t.TempDir()); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("error %v, want %v", err, ErrNotLoaded)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
