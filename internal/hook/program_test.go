package hook

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestUnfit(t *testing.T) {
	const good = "#!/bin/sh\n"
	do := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		prepare func(dir, hook string)
		path    func(dir string) string // nil is dir/sub/hook
		noexec  bool                    // prepare mounts dir/sub
		want    string                  // DIR is the directory
	}{
		{name: "fit", prepare: func(string, string) {}},
		{name: "relative", path: func(string) string { return "sub/hook" },
			want: "hook sub/hook: it is not absolute: give its whole path, from / on"},
		{name: "empty", path: func(string) string { return "" },
			want: "hook .: it is not absolute: give its whole path, from / on"},
		{name: "missing", prepare: func(_, hook string) { do(os.Remove(hook)) },
			want: "hook DIR/sub/hook: it does not exist: make it, or correct the path"},
		{name: "below a file", path: func(dir string) string { return dir + "/sub/hook/x" },
			want: "hook DIR/sub/hook/x: DIR/sub/hook is no directory: correct the path"},
		{name: "symlink", prepare: func(dir, hook string) { do(os.Rename(hook, dir+"/real"), os.Symlink("../real", hook)) },
			want: "hook DIR/sub/hook: it is a symbolic link: give the path that it leads to, DIR/real"},
		{name: "symlinked directory", prepare: func(dir, _ string) { do(os.Rename(dir+"/sub", dir+"/real"), os.Symlink("real", dir+"/sub")) },
			want: "hook DIR/sub/hook: DIR/sub is a symbolic link: give the path that it leads to, DIR/real"},
		{name: "symlink to nowhere", prepare: func(_, hook string) { do(os.Remove(hook), os.Symlink("gone", hook)) },
			want: "hook DIR/sub/hook: it is a symbolic link: give the path that it leads to"},
		{name: "directory", path: func(dir string) string { return dir + "/sub" },
			want: "hook DIR/sub: it is no regular file: give the path of a program"},
		{name: "named pipe", prepare: func(_, hook string) { do(os.Remove(hook), unix.Mkfifo(hook, 0o755)) },
			want: "hook DIR/sub/hook: it is no regular file: give the path of a program"},
		{name: "somebody else's", prepare: func(_, hook string) { do(os.Chown(hook, 65534, 0)) },
			want: "hook DIR/sub/hook: it belongs to user 65534, and not to root: chown root DIR/sub/hook"},
		{name: "group-writable", prepare: func(_, hook string) { do(os.Chmod(hook, 0o775)) },
			want: "hook DIR/sub/hook: it can be written to by others than root (mode 0775): chmod go-w DIR/sub/hook"},
		{name: "world-writable", prepare: func(_, hook string) { do(os.Chmod(hook, 0o757)) },
			want: "hook DIR/sub/hook: it can be written to by others than root (mode 0757): chmod go-w DIR/sub/hook"},
		{name: "directory of somebody else", prepare: func(dir, _ string) { do(os.Chown(dir+"/sub", 65534, 0)) },
			want: "hook DIR/sub/hook: DIR/sub belongs to user 65534, and not to root: chown root DIR/sub"},
		{name: "world-writable directory", prepare: func(dir, _ string) { do(os.Chmod(dir, 0o777)) },
			want: "hook DIR/sub/hook: DIR can be written to by others than root (mode 0777): chmod go-w DIR"},
		{name: "sticky directory", prepare: func(dir, _ string) { do(os.Chmod(dir, 0o777|os.ModeSticky)) },
			want: "hook DIR/sub/hook: DIR can be written to by others than root (mode 1777): chmod go-w DIR"},
		{name: "not executable", prepare: func(_, hook string) { do(os.Chmod(hook, 0o644)) },
			want: "hook DIR/sub/hook: it cannot be executed by user 0: chmod 0755 DIR/sub/hook"},
		{name: "executable by others only", prepare: func(_, hook string) { do(os.Chmod(hook, 0o655)) },
			want: "hook DIR/sub/hook: it cannot be executed by user 0: chmod 0755 DIR/sub/hook"},
		{name: "readable with capabilities only", prepare: func(_, hook string) { do(os.Chmod(hook, 0o355)) },
			want: "hook DIR/sub/hook: it cannot be read by user 0 without capabilities: chmod 0755 DIR/sub/hook"},
		{name: "directory open to capabilities only", prepare: func(dir, _ string) { do(os.Chmod(dir+"/sub", 0)) },
			want: "hook DIR/sub/hook: it cannot be reached: a hook runs without capabilities, as user 0: let that user into DIR/sub"},
		{name: "noexec", noexec: true, prepare: func(dir, hook string) {
			do(unix.Mount("tmpfs", dir+"/sub", "tmpfs", unix.MS_NOEXEC, "mode=755"), os.WriteFile(hook, []byte(good), 0o755))
		}, want: "hook DIR/sub/hook: it is on a file system that is mounted noexec: put it elsewhere"},
		{name: "no first line", prepare: func(_, hook string) { do(os.WriteFile(hook, []byte("echo\n"), 0)) },
			want: "hook DIR/sub/hook: it is neither a program nor a script: a script begins with a line such as #!/bin/sh"},
		{name: "empty file", prepare: func(_, hook string) { do(os.Truncate(hook, 0)) },
			want: "hook DIR/sub/hook: it is neither a program nor a script: a script begins with a line such as #!/bin/sh"},
		{name: "no interpreter", prepare: func(_, hook string) { do(os.WriteFile(hook, []byte("#! \t/no/sh -e\n"), 0)) },
			want: `hook DIR/sub/hook: it names an interpreter, "/no/sh", that cannot be run: correct its first line`},
		{name: "interpreter unnamed", prepare: func(_, hook string) { do(os.WriteFile(hook, []byte("#!\n"), 0)) },
			want: `hook DIR/sub/hook: it names an interpreter, "", that cannot be run: correct its first line`},
		{name: "DOS line ends", prepare: func(_, hook string) { do(os.WriteFile(hook, []byte("#!/bin/sh\r\n"), 0)) },
			want: `hook DIR/sub/hook: it names an interpreter, "/bin/sh\r", that cannot be run: it has the line ends of another system: ` +
				`sed -i 's/\r$//' DIR/sub/hook`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := directory(t)
			hook := filepath.Join(dir, "sub", "hook")
			do(os.Mkdir(dir+"/sub", 0o755))
			write(t, hook, good, 0o755)
			if c.prepare != nil {
				c.prepare(dir, hook)
			}
			if c.noexec {
				t.Cleanup(func() { do(unix.Unmount(dir+"/sub", 0)) })
			}
			path := hook
			if c.path != nil {
				path = c.path(dir)
			}
			noLeaks(t)
			h, err := Open(Options{Path: path})
			var got string
			if err != nil {
				got = strings.ReplaceAll(err.Error(), dir, "DIR")
				var unfit *UnfitError
				if !errors.As(err, &unfit) {
					t.Errorf("%T", err)
				}
			} else {
				h.Close()
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
