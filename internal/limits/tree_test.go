package limits

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"
)

// TestHostileImage: what an image has in the place of a limit leads nobody out of it, and is not opened unless it is a file.
func TestHostileImage(t *testing.T) {
	const name = "proc/sys/net/netfilter/nf_conntrack_max"
	up := strings.Repeat("../", 20)
	for what, c := range map[string]struct {
		plant func(path, outside string) error
		why   string
	}{
		"absolute link": {func(path, outside string) error { return os.Symlink(filepath.Join(outside, "number"), path) }, "escapes"},
		"relative link": {func(path, outside string) error { return os.Symlink(up+filepath.Join(outside, "number")[1:], path) }, "escapes"},
		"device":        {func(path, _ string) error { return device(path) }, "not a regular file"},
		"pipe":          {func(path, _ string) error { return unix.Mkfifo(path, 0o644) }, "not a regular file"},
		"directory":     {func(path, _ string) error { return os.Mkdir(path, 0o755) }, "not a regular file"},
		"link of a directory": {func(path, outside string) error {
			dir := filepath.Dir(path)
			if err := os.Remove(dir); err != nil {
				return err
			}
			return os.Symlink(outside, dir)
		}, "escapes"},
	} {
		t.Run(what, func(t *testing.T) {
			root, outside := t.TempDir(), t.TempDir()
			for _, file := range []string{"number", "nf_conntrack_max", "nf_conntrack_count"} {
				must(t, os.WriteFile(filepath.Join(outside, file), []byte("7\n"), 0o644))
			}
			path := filepath.Join(root, name)
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, c.plant(path, outside))
			before := contents(t, outside)
			_, read := Read(root)
			_, set := SetMax(root, 524288)
			_, buckets := SetBuckets(root, 512)
			for _, err := range []error{read, set, buckets, CheckMax(root), CheckBuckets(root)} {
				if err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want %s: %q", err, path, c.why)
				}
			}
			if diff := cmp.Diff(before, contents(t, outside)); diff != "" {
				t.Errorf("files outside changed (-want +got):\n%s", diff)
			}
		})
	}
}

// device makes /dev/null's like, which only root can: another is as good for who is not.
func device(path string) error {
	if os.Geteuid() != 0 {
		return unix.Mkfifo(path, 0o644)
	}
	return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
}

// TestHostileAlias: the other names of a limit are written as well.
func TestHostileAlias(t *testing.T) {
	root, outside := plant(t, present), filepath.Join(t.TempDir(), "number")
	must(t, os.WriteFile(outside, []byte("7\n"), 0o644))
	alias := filepath.Join(root, "proc/sys/net/nf_conntrack_max")
	must(t, os.Remove(alias))
	must(t, os.Symlink(outside, alias))
	if _, err := SetMax(root, 524288); err == nil {
		t.Error("no error")
	}
	if text, err := os.ReadFile(outside); string(text) != "7\n" || err != nil {
		t.Errorf("the file outside holds %q (%v)", text, err)
	}
}

// TestLinkInside: a link that stays in the image is as good as what it leads to.
func TestLinkInside(t *testing.T) {
	root := plant(t, present)
	alias := filepath.Join(root, "proc/sys/net/nf_conntrack_max")
	must(t, os.Remove(alias))
	must(t, os.Symlink("netfilter/nf_conntrack_max", alias))
	_, err := SetMax(root, 524288)
	must(t, err)
	everywhere(t, root, "nf_conntrack_max", 524288)
}
