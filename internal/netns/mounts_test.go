package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMounts(t *testing.T) {
	tests := map[string][]mount{
		"debian12": {
			{4026532216, "/run/netns/blue"}, {4026532216, "/run/netns/blue"},
			{4026532289, "/run/netns/a b\tc\\d"}, {4026532289, "/run/netns/a b\tc\\d"},
		},
		"docker-k8s": {
			{4026532581, "/run/docker/netns/1f2e3d4c5b6a"}, {4026531840, "/run/docker/netns/default"},
			{4026532700, "/run/netns/cni-5a1c0d9e-77f2-0b1a-93c4-1e2d3c4b5a69"}, {4026532700, "/var/run/netns/pod"},
		},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(want, parseMounts(mountinfo(t, name)), cmp.AllowUnexported(mount{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestIPNetns(t *testing.T) {
	tests := map[string]string{
		"/run/netns/blue":       "blue",
		"/var/run/netns/blue":   "blue",
		"/run/netns/a/b":        "",
		"/run/netns":            "",
		"/run/docker/netns/1f2": "",
	}
	for path, want := range tests {
		if got := (mount{path: path}).ipNetns(); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// FuzzParseMounts checks that any mount point, escaped as the kernel does, is found again amid any text.
func FuzzParseMounts(f *testing.F) {
	f.Add(uint64(4026532216), "/run/netns/a b\tc\\d", string(mountinfo(f, "debian12")))
	f.Add(uint64(0), "/x\n - nsfs ", " - nsfs net:[")
	f.Add(uint64(1), "/#\\040", "1 2 0:4 net:[9] /short")
	f.Fuzz(func(t *testing.T, inode uint64, path, around string) {
		if path == "" || strings.HasSuffix(path, "//deleted") {
			t.Skip()
		}
		escaped := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`, "#", `\043`).Replace(path)
		text := fmt.Sprintf("%s\n301 26 0:4 net:[%d] %s rw shared:5 - nsfs nsfs rw\n%s", around, inode, escaped, around)
		found := parseMounts([]byte(text))
		rest := len(parseMounts([]byte(around+"\n"))) + len(parseMounts([]byte(around)))
		if len(found) != rest+1 || found[len(parseMounts([]byte(around+"\n")))] != (mount{inode, path}) {
			t.Errorf("found %+v in %q", found, text)
		}
	})
}

func mountinfo(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/mountinfo", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
