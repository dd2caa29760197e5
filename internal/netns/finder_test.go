package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// process is what a fixture's /proc shows of one.
type process struct {
	net    string // what ns/net points to; "" for a process that has ended
	cgroup string
}

// machine lays out a root of processes and of the mounts that process 1 sees.
func machine(t *testing.T, mounts string, processes map[int]process) string {
	t.Helper()
	root := t.TempDir()
	for pid, p := range processes {
		dir := filepath.Join(root, "proc", fmt.Sprint(pid))
		if err := os.MkdirAll(filepath.Join(dir, "ns"), 0o755); err != nil {
			t.Fatal(err)
		}
		if p.net != "" {
			if err := os.Symlink(p.net, filepath.Join(dir, "ns/net")); err != nil {
				t.Fatal(err)
			}
		}
		if p.cgroup != "" {
			if err := os.WriteFile(filepath.Join(dir, "cgroup"), []byte(p.cgroup), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(root, "proc/1/mountinfo"), []byte(mounts), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "proc/sys"), 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

// TestScanOfRoot reads a machine laid out in files. Its namespaces cannot be entered, as on a kernel without cookies.
func TestScanOfRoot(t *testing.T) {
	const host, docker, pod, unit, quiet = 4026531840, 4026532581, 4026532700, 4026532801, 4026532802
	link := func(inode int) string { return fmt.Sprintf("net:[%d]", inode) }
	root := machine(t, string(mountinfo(t, "docker-k8s")), map[int]process{
		1:   {net: link(host), cgroup: "0::/init.scope\n"},
		2:   {net: link(host)},
		30:  {net: link(docker), cgroup: "0::/system.slice/docker-" + id1 + ".scope\n"},
		31:  {net: link(docker), cgroup: "0::/system.slice/other.service\n"},
		40:  {net: link(pod)}, // ended before its cgroup was read
		41:  {net: link(pod), cgroup: "12:pids:/kubepods/besteffort/pod" + uid + "/" + id2 + "\n0::/\n"},
		100: {net: link(unit), cgroup: "0::/system.slice/private.service\n"},
		99:  {net: link(quiet), cgroup: "0::/user.slice\n"},
		200: {},
		201: {net: "mnt:[4026531841]"},
	})
	f, err := NewFinder(root + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.noCookie = true
	look, err := f.Scan()
	if err != nil {
		t.Fatal(err)
	}
	proc := root + "/proc/"
	want := []Namespace{
		{Inode: host, Name: "host", Path: root + "/run/docker/netns/default", PID: 1, Host: true},
		{Inode: docker, Name: "docker:3f4e5d6c7b8a", Owner: Owner{"docker", id1}, Path: root + "/run/docker/netns/1f2e3d4c5b6a", PID: 30},
		{Inode: pod, Name: "cni-5a1c0d9e-77f2-0b1a-93c4-1e2d3c4b5a69", Owner: Owner{"pod", uid},
			Path: root + "/run/netns/cni-5a1c0d9e-77f2-0b1a-93c4-1e2d3c4b5a69", PID: 40},
		{Inode: unit, Name: "private.service", Owner: Owner{"unit", "private.service"}, Path: proc + "100/ns/net", PID: 100},
		{Inode: quiet, Path: proc + "99/ns/net", PID: 99},
	}
	if diff := cmp.Diff(Look{Namespaces: want}, look); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	// The process that a namespace was named after ends; the next lowest is asked.
	if err := os.RemoveAll(proc + "30"); err != nil {
		t.Fatal(err)
	}
	if look, err = f.Scan(); err != nil {
		t.Fatal(err)
	}
	want[1].PID, want[1].Name, want[1].Owner = 31, "other.service", Owner{"unit", "other.service"}
	if diff := cmp.Diff(Look{Namespaces: want}, look); diff != "" {
		t.Errorf("later: -want +got:\n%s", diff)
	}
}

func TestNewFinderOfNoMachine(t *testing.T) {
	if _, err := NewFinder(t.TempDir()); err == nil {
		t.Error("no error")
	}
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := NewFinder(root); err == nil {
		t.Error("without mountinfo: no error")
	}
}
