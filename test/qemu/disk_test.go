package qemu

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctwatch/ctwatch/test/need"
)

// TestWriteDisk has another's reader take out what was put on a disk, and wants the tree it came from untouched.
func TestWriteDisk(t *testing.T) {
	need.Tool(t, "mke2fs")
	need.Tool(t, "debugfs")
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	for name, contents := range map[string]string{"etc/kept": "old\n", "etc/replaced": "old\n", "usr/share/doc/x": "x\n", "rules/60-a": "a\n", "rules/99-b": "b\n"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(tree, name), []byte(contents), 0o644))
	}
	disk := filepath.Join(dir, "disk")
	must(t, WriteDisk(t.Context(), disk, filepath.Join(dir, "stage"), tree, []string{"usr/share/doc", "rules/[67]*"}, []File{
		Text("etc/replaced", "new\n", 0o600),
		Text("new/file", "new\n", 0o755),
		{Name: "etc/link", Mode: fs.ModeSymlink | 0o777, Contents: "kept"},
		{Name: "empty", Mode: fs.ModeDir},
	}))
	cat := func(name string) string {
		t.Helper()
		out, err := exec.Command("debugfs", "-R", "cat "+name, disk).Output()
		must(t, err)
		return string(out)
	}
	for name, want := range map[string]string{
		"/etc/kept": "old\n", "/etc/replaced": "new\n", "/new/file": "new\n", "/rules/99-b": "b\n",
		"/rules/60-a": "", "/usr/share/doc/x": "",
	} {
		equal(t, name, want, cat(name))
	}
	link, err := exec.Command("debugfs", "-R", "stat /etc/link", disk).Output()
	must(t, err)
	if !strings.Contains(string(link), `"kept"`) {
		t.Errorf("the link is %s", link)
	}
	was, err := os.ReadFile(filepath.Join(tree, "etc/replaced"))
	must(t, err)
	equal(t, "the tree", "old\n", string(was))
}

// TestUnpack: packages of before and after the merge of /usr lie in one tree.
func TestUnpack(t *testing.T) {
	need.Tool(t, "dpkg-deb")
	dir := t.TempDir()
	var debs []string
	for name, file := range map[string]string{"old": "lib/old", "new": "usr/lib/new"} {
		from := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Join(from, "DEBIAN"), 0o755))
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(from, file)), 0o755))
		must(t, os.WriteFile(filepath.Join(from, file), nil, 0o644))
		control := "Package: " + name + "\nVersion: 1\nArchitecture: all\nMaintainer: m <m@example.org>\nDescription: d\n"
		must(t, os.WriteFile(filepath.Join(from, "DEBIAN/control"), []byte(control), 0o644))
		debs = append(debs, from+".deb")
		_, err := Output(exec.Command("dpkg-deb", "--build", from, from+".deb"))
		must(t, err)
	}
	root := filepath.Join(dir, "root")
	must(t, unpack(t.Context(), debs, root))
	for _, name := range []string{"usr/lib/old", "usr/lib/new", "lib/old"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
}
