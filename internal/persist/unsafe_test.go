package persist

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/test/need"
)

// TestUnsafe: what somebody else could turn against the machine is refused, and nothing is changed.
func TestUnsafe(t *testing.T) {
	for name, c := range map[string]struct {
		do        func(t *testing.T, root string)
		path, why string
		persisted bool // done to a file of ours that is there
	}{
		"the file is a link": {func(t *testing.T, root string) {
			must(t, os.Symlink("/dev/null", filepath.Join(root, sysctlFile)))
		}, sysctlFile, "is a symbolic link", false},
		"the directory is a link": {func(t *testing.T, root string) {
			dir := filepath.Join(root, "etc/sysctl.d")
			must(t, os.Rename(dir, dir+"x"))
			must(t, os.Symlink("sysctl.dx", dir))
		}, "/etc/sysctl.d", "is a symbolic link", false},
		"the directory can be written to": {func(t *testing.T, root string) {
			must(t, os.Chmod(filepath.Join(root, "etc/sysctl.d"), 0o777))
		}, "/etc/sysctl.d", "can be written to by others (mode 0777)", false},
		"a directory above": {func(t *testing.T, root string) {
			must(t, os.Chmod(filepath.Join(root, "etc"), 0o757))
		}, "/etc", "can be written to by others (mode 0757)", false},
		"the file can be written to": {func(t *testing.T, root string) {
			must(t, os.Chmod(filepath.Join(root, sysctlFile), 0o646))
		}, sysctlFile, "can be written to by others (mode 0646)", true},
		"a second name": {func(t *testing.T, root string) {
			must(t, os.Link(filepath.Join(root, loadFile), filepath.Join(root, "etc/other")))
		}, loadFile, "has a second name (a hard link)", true},
		"a directory": {func(t *testing.T, root string) {
			must(t, os.Mkdir(filepath.Join(root, sysctlFile), 0o755))
		}, sysctlFile, "is not a plain file", false},
		"a pipe": {func(t *testing.T, root string) {
			must(t, unix.Mkfifo(filepath.Join(root, loadFile), 0o644))
		}, loadFile, "is not a plain file", false},
		"too long": {func(t *testing.T, root string) {
			must(t, os.WriteFile(filepath.Join(root, loadFile), make([]byte, longest+1), 0o644))
		}, loadFile, "has 1048577 bytes, which no such file has", false},
		"another's file": {func(t *testing.T, root string) {
			need.Root(t)
			must(t, os.Chown(filepath.Join(root, sysctlFile), 1234, 0))
		}, sysctlFile, "belongs to user 1234, not to root", true},
		"another's directory": {func(t *testing.T, root string) {
			need.Root(t)
			must(t, os.Chown(filepath.Join(root, "etc/sysctl.d"), 1234, 0))
		}, "/etc/sysctl.d", "belongs to user 1234, not to root", false},
		"the backups are a link": {func(t *testing.T, root string) {
			must(t, os.MkdirAll(filepath.Join(root, "var/lib/ctwatch"), 0o755))
			must(t, os.Symlink("/tmp", filepath.Join(root, backups)))
		}, backups, "is a symbolic link", false},
	} {
		t.Run(name, func(t *testing.T) {
			root := copyRoot(t, "debian13")
			if c.persisted {
				_, err := Persist(options(root), half)
				must(t, err)
			}
			c.do(t, root)
			before := snapshot(t, root)
			for what, do := range map[string]func() error{
				"Check":     func() error { _, err := Check(options(root), Limits{Max: 300000}); return err },
				"Persist":   func() error { _, err := Persist(options(root), Limits{Max: 300000}); return err },
				"Unpersist": func() error { _, err := Unpersist(options(root)); return err },
			} {
				var unsafe *UnsafeError
				if err := do(); !errors.As(err, &unsafe) || unsafe.Path != c.path || unsafe.Why != c.why {
					t.Errorf("%s: %v", what, err)
				}
			}
			if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
				t.Errorf("something changed: %s", diff)
			}
		})
	}
}

// TestNeverOutside: links in a root lead to places in the root, wherever they point.
func TestNeverOutside(t *testing.T) {
	root := copyRoot(t, "debian13")
	outside := filepath.Join(filepath.Dir(root), "outside")
	must(t, os.Mkdir(outside, 0o755))
	// /etc/udev leads to a path that is outside's for who follows it, and the root's own for who does not.
	inside := filepath.Join(root, outside)
	must(t, os.MkdirAll(filepath.Join(inside, "rules.d"), 0o755))
	must(t, os.Mkdir(filepath.Join(outside, "rules.d"), 0o755))
	before := snapshot(t, outside)
	must(t, os.Symlink(outside, filepath.Join(root, "etc/udev")))
	must(t, os.Mkdir(filepath.Join(root, "data"), 0o755))
	must(t, os.Symlink("../../../../data", filepath.Join(root, "var")))
	_, err := Persist(options(root), half)
	must(t, err)
	if diff := cmp.Diff(before, snapshot(t, outside)); diff != "" {
		t.Errorf("left the root: %s", diff)
	}
	for _, file := range []string{filepath.Join(inside, "rules.d/99-ctwatch.rules"), filepath.Join(root, "data/lib/ctwatch/backup")} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	// A circle has no end.
	circle := copyRoot(t, "debian13")
	must(t, os.Symlink("b", filepath.Join(circle, "a")))
	must(t, os.Symlink("a", filepath.Join(circle, "b")))
	must(t, os.Rename(filepath.Join(circle, "etc"), filepath.Join(circle, "c")))
	must(t, os.Symlink("a", filepath.Join(circle, "etc")))
	var unsafe *UnsafeError
	if _, err := Persist(options(circle), half); !errors.As(err, &unsafe) {
		t.Errorf("a circle: %v", err)
	}
}

// TestReadOnly: a system that keeps its files elsewhere says so before anything is changed.
func TestReadOnly(t *testing.T) {
	need.Root(t)
	root := copyRoot(t, "debian13")
	must(t, os.WriteFile(filepath.Join(root, "etc/os-release"), []byte("NAME=NixOS\nID=nixos\n"), 0o644))
	etc := filepath.Join(root, "etc")
	must(t, unix.Mount(etc, etc, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(etc, unix.MNT_DETACH)) })
	must(t, unix.Mount("", etc, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	for what, do := range map[string]func() error{
		"Check":   func() error { _, err := Check(options(root), half); return err },
		"Persist": func() error { _, err := Persist(options(root), half); return err },
	} {
		var readOnly *ReadOnlyError
		err := do()
		if !errors.As(err, &readOnly) || readOnly.Distro != "nixos" || !errors.Is(err, syscall.EROFS) || !strings.HasPrefix(readOnly.Path, "/etc/") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Last(options(root)); !errors.Is(err, ErrNothing) {
		t.Errorf("a set is left: %v", err)
	}
}

// TestFull: a disk on which there is no room.
func TestFull(t *testing.T) {
	need.Root(t)
	root := machine(t, "el7")
	etc := filepath.Join(root, "etc")
	before := snapshot(t, etc)
	kept := filepath.Join(t.TempDir(), "kept")
	must(t, os.CopyFS(kept, os.DirFS(etc)))
	must(t, unix.Mount("none", etc, "tmpfs", 0, "size=16k,mode=755"))
	t.Cleanup(func() { must(t, unix.Unmount(etc, unix.MNT_DETACH)) })
	must(t, os.CopyFS(etc, os.DirFS(kept)))
	f, err := os.Create(filepath.Join(etc, "fill"))
	must(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 1024))
	}
	must(t, f.Close())
	_, err = Persist(options(root), half)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "/etc/") {
		t.Errorf("got %v", err)
	}
	must(t, os.Remove(filepath.Join(etc, "fill")))
	if diff := cmp.Diff(before, snapshot(t, etc)); diff != "" {
		t.Errorf("-before +after: %s", diff)
	}
	_, err = Persist(options(root), half)
	must(t, err)
}

// TestLabel: files keep the label of SELinux that they had, and new ones get that of their directory.
func TestLabel(t *testing.T) {
	need.Root(t)
	root := machine(t, "el5")
	file, dir := filepath.Join(root, rcLocalFile), filepath.Join(root, "etc")
	label := []byte("system_u:object_r:initrc_exec_t:s0\x00")
	if err := unix.Setxattr(file, labelName, label, 0); err != nil {
		t.Skip("no labels here:", err)
	}
	must(t, unix.Setxattr(dir, labelName, []byte("system_u:object_r:etc_t:s0\x00"), 0))
	must(t, os.Remove(filepath.Join(root, modprobeConf)))
	_, err := Persist(options(root), half)
	must(t, err)
	for file, want := range map[string]string{rcLocalFile: string(label), modprobeConf: "system_u:object_r:etc_t:s0\x00"} {
		got := make([]byte, 100)
		n, err := unix.Getxattr(filepath.Join(root, file), labelName, got)
		if err != nil || string(got[:n]) != want {
			t.Errorf("%s: %q, %v", file, got[:max(n, 0)], err)
		}
	}
}

// TestOwner: the file of others stays theirs.
func TestOwner(t *testing.T) {
	need.Root(t)
	root := machine(t, "el5")
	must(t, os.Chown(filepath.Join(root, rcLocalFile), 0, 1234))
	must(t, os.Chmod(filepath.Join(root, rcLocalFile), 0o750))
	_, err := Persist(options(root), half)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(root, rcLocalFile), &st))
	if st.Uid != 0 || st.Gid != 1234 || st.Mode&0o7777 != 0o750 {
		t.Errorf("uid %d, gid %d, mode %o", st.Uid, st.Gid, st.Mode)
	}
}

// TestTwoAtOnce: one comes after the other.
func TestTwoAtOnce(t *testing.T) {
	root := machine(t, "el7")
	errs := make(chan error)
	for i := range 8 {
		go func() {
			_, err := Persist(options(root), Limits{Max: uint64(300000 + i)})
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for range 8 {
		if _, _, err := undoLast(options(root)); err != nil {
			t.Error(err)
		}
	}
	if _, err := Last(options(root)); !errors.Is(err, ErrNothing) {
		t.Errorf("after as many undos: %v", err)
	}
}

// TestDamagedBackup: what cannot be trusted is not put back, and no reason not to write.
func TestDamagedBackup(t *testing.T) {
	root := machine(t, "el7")
	for _, n := range []uint64{300000, 400000} {
		_, err := Persist(options(root), Limits{Max: n})
		must(t, err)
	}
	dir := filepath.Join(root, backups, "20261125T120000Z-2")
	must(t, os.WriteFile(filepath.Join(dir, "0"), []byte("net.netfilter.nf_conntrack_max = 1\n"), 0o600))
	before := snapshot(t, root)
	if _, _, err := undoLast(options(root)); err == nil || !strings.Contains(err.Error(), "is not what was kept there") {
		t.Errorf("a changed copy: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, manifestName), []byte("{"), 0o600))
	if _, _, err := undoLast(options(root)); err == nil || !strings.Contains(err.Error(), backups+"/20261125T120000Z-2/manifest.json") {
		t.Errorf("a torn manifest: %v", err)
	}
	if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
		t.Errorf("something changed: %s", diff)
	}
	r, err := Persist(options(root), Limits{Max: 500000})
	must(t, err)
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "20261125T120000Z-2") {
		t.Errorf("%q", r.Notes)
	}
}
