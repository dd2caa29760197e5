package netns

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"testing"

	"github.com/prometheus/procfs"
)

func TestOwnerOfProcess(t *testing.T) {
	for _, c := range []struct {
		name string
		pid  int
		want string
	}{
		{"systemd", 1, ""},
		{"unit", 812, "tuned.service"},
		{"pod", 1507, "pod:" + uid},
		{"both hierarchies", 2210, "docker:3f4e5d6c7b8a"},
		{"no cgroups", 3001, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := OwnerOf("testdata/process", c.pid)
			if err != nil || got.String() != c.want {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
	for _, c := range []struct {
		name, root string
		pid        int
		want       error
	}{
		{"gone", "testdata/process", 4000, fs.ErrNotExist},
		{"not a cgroup file", "testdata/process", 3002, procfs.ErrFileParse},
		{"no proc", "testdata/mountinfo", 1, fs.ErrNotExist},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := OwnerOf(c.root, c.pid); !errors.Is(err, c.want) || got != (Owner{}) {
				t.Errorf("%v, %v, want %v", got, err, c.want)
			}
		})
	}
}

// TestOwnerOfLiveProcess: this process has the same owner as its child, which has none when it is gone.
func TestOwnerOfLiveProcess(t *testing.T) {
	self, err := OwnerOf("", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if got, err := OwnerOf("", cmd.Process.Pid); err != nil || got != self {
		t.Errorf("child's %v, %v, want %v", got, err, self)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, err := OwnerOf("", cmd.Process.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a process that is gone: %v, %v", got, err)
	}
}
