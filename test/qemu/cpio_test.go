package qemu

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/test/need"
)

// TestCPIO has another's reader unpack what the writer writes.
func TestCPIO(t *testing.T) {
	need.Tool(t, "busybox")
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	must(t, os.WriteFile(source, []byte("from a file\n"), 0o644))
	var archive bytes.Buffer
	must(t, writeCPIO(&archive, []File{
		Text("init", "#!/bin/sh\n", 0o755),
		{Name: "a/b/c", Mode: 0o600, Source: source},
		{Name: "a/link", Mode: fs.ModeSymlink | 0o777, Contents: "/init"},
		{Name: "empty", Mode: fs.ModeDir},
		Text("a/b/odd", "123", 0o644),
	}))
	if archive.Len()%512 != 0 {
		t.Errorf("%d bytes are not a round size", archive.Len())
	}
	root := filepath.Join(dir, "root")
	must(t, os.Mkdir(root, 0o755))
	cmd := exec.Command("busybox", "cpio", "-i", "-d")
	cmd.Dir, cmd.Stdin = root, &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	got := map[string]string{}
	must(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		what := info.Mode().String()
		switch {
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			what = "-> " + to
		case d.Type().IsRegular():
			contents, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			what += " " + string(contents)
		}
		got[strings.TrimPrefix(p, root+"/")] = what
		return nil
	}))
	want := map[string]string{
		"init":    "-rwxr-xr-x #!/bin/sh\n",
		"a":       "drwxr-xr-x",
		"a/b":     "drwxr-xr-x",
		"a/b/c":   "-rw------- from a file\n",
		"a/link":  "-> /init",
		"a/b/odd": "-rw-r--r-- 123",
		"empty":   "drwxr-xr-x",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
}

func TestCPIODevice(t *testing.T) {
	var archive bytes.Buffer
	must(t, writeCPIO(&archive, []File{{Name: "console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, Major: 5, Minor: 1}}))
	// ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
	want := "070701" + "00000001" + "00002180" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" +
		"00000000" + "00000000" + "00000005" + "00000001" + "00000008" + "00000000" + "console\x00"
	if got := archive.String()[:len(want)]; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestCPIORefusesSockets(t *testing.T) {
	if err := writeCPIO(new(bytes.Buffer), []File{{Name: "s", Mode: fs.ModeSocket}}); err == nil {
		t.Error("a socket was archived")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
