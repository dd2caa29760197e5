package netns

import (
	"strings"
	"testing"
	"unicode"

	"github.com/prometheus/procfs"
)

const (
	id1    = "3f4e5d6c7b8a99887766554433221100ffeeddccbbaa00112233445566778899"
	id2    = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	uid    = "7f5a3c1e-9b2d-4c6f-8e0a-1d2c3b4a5968"
	uidLow = "7f5a3c1e_9b2d_4c6f_8e0a_1d2c3b4a5968"
	static = "d8f7e6c5b4a39281706f5e4d3c2b1a09"
)

func TestOwnerOf(t *testing.T) {
	tests := map[string]struct{ path, want string }{
		"root":                       {"/", ""},
		"empty":                      {"", ""},
		"docker, cgroupfs":           {"/docker/" + id1, "docker:3f4e5d6c7b8a"},
		"docker, systemd":            {"/system.slice/docker-" + id1 + ".scope", "docker:3f4e5d6c7b8a"},
		"docker, own parent":         {"/build.slice/docker-" + id1 + ".scope", "docker:3f4e5d6c7b8a"},
		"docker running systemd":     {"/system.slice/docker-" + id1 + ".scope/system.slice/nginx.service", "docker:3f4e5d6c7b8a"},
		"docker in docker":           {"/docker/" + id2 + "/docker/" + id1, "docker:3f4e5d6c7b8a"},
		"outside our cgroup":         {"/../../docker/" + id1, "docker:3f4e5d6c7b8a"},
		"containerd pod, systemd":    {"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidLow + ".slice/cri-containerd-" + id1 + ".scope", "pod:" + uid},
		"containerd pod, guaranteed": {"/kubepods.slice/kubepods-pod" + uidLow + ".slice/cri-containerd-" + id1 + ".scope", "pod:" + uid},
		"containerd pod, cgroupfs":   {"/kubepods/besteffort/pod" + uid + "/" + id1, "pod:" + uid},
		"containerd pod, mixed":      {"/system.slice/containerd.service/kubepods-besteffort-pod" + uidLow + ".slice:cri-containerd:" + id1, "pod:" + uid},
		"static pod":                 {"/kubepods/burstable/pod" + static + "/" + id1, "pod:" + static},
		"static pod, systemd":        {"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + static + ".slice/crio-" + id1 + ".scope", "pod:" + static},
		"cri-o pod":                  {"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidLow + ".slice/crio-" + id1 + ".scope", "pod:" + uid},
		"pod of kind":                {"/docker/" + id2 + "/kubelet/kubepods/burstable/pod" + uid + "/" + id1, "pod:" + uid},
		"docker in a pod":            {"/kubepods/burstable/pod" + uid + "/" + id2 + "/docker/" + id1, "docker:3f4e5d6c7b8a"},
		"cri-o, no pod":              {"/system.slice/crio-" + id1 + ".scope", "cri-o:3f4e5d6c7b8a"},
		"cri-o's monitor":            {"/system.slice/crio-conmon-" + id1 + ".scope", "crio-conmon-" + id1 + ".scope"},
		"nerdctl":                    {"/system.slice/nerdctl-" + id1 + ".scope", "containerd:3f4e5d6c7b8a"},
		"podman, root":               {"/machine.slice/libpod-" + id1 + ".scope/container", "podman:3f4e5d6c7b8a"},
		"podman, cgroupfs":           {"/libpod_parent/libpod-" + id1, "podman:3f4e5d6c7b8a"},
		"podman, user":               {"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id1 + ".scope/container", "podman:3f4e5d6c7b8a"},
		"podman quadlet":             {"/system.slice/web.service/libpod-payload-" + id1, "podman:3f4e5d6c7b8a"},
		"unknown runtime":            {"/ecs/4b1c/" + id1, "container:3f4e5d6c7b8a"},
		"lxc":                        {"/lxc.payload.web1", "lxc:web1"},
		"lxc, old":                   {"/lxc/web1/system.slice/nginx.service", "lxc:web1"},
		"lxc's monitor":              {"/lxc.monitor.web1", ""},
		"nspawn":                     {"/machine.slice/machine-deb\\x2d12.scope/payload", "machine:deb-12"},
		"nspawn service":             {"/machine.slice/systemd-nspawn@deb.service/payload/system.slice/ssh.service", "machine:deb"},
		"virtual machine":            {"/machine.slice/machine-qemu\\x2d3\\x2dweb.scope/libvirt/emulator", "machine:qemu-3-web"},
		"unit":                       {"/system.slice/nginx.service", "nginx.service"},
		"unit of a template":         {"/system.slice/system-openvpn.slice/openvpn@office.service", "openvpn@office.service"},
		"unit with cgroups below":    {"/system.slice/haproxy.service/workers", "haproxy.service"},
		"unit of a user":             {"/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-1234.scope", "app-firefox-1234.scope"},
		"session":                    {"/user.slice/user-0.slice/session-3.scope", "session-3.scope"},
		"systemd itself":             {"/init.scope", ""},
		"slice alone":                {"/system.slice", ""},
		"short id":                   {"/docker/3f4e5d6c7b8a", ""},
		"control characters":         {"/system.slice/a\x1b[31mb\n.service", "a\ufffd[31mb\ufffd.service"},
		"broken UTF-8":               {"/lxc/\xff", "lxc:\ufffd"},
		"escaped control character":  {"/machine.slice/machine-a\\x0ab.scope", "machine:a\ufffdb"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := ownerOf(tt.path).String(); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestOwnerOfAll(t *testing.T) {
	tests := map[string]struct {
		cgroups []procfs.Cgroup
		want    Owner
	}{
		"none": {},
		"unified": {[]procfs.Cgroup{{Path: "/system.slice/nginx.service"}},
			Owner{"unit", "nginx.service"}},
		"v1": {[]procfs.Cgroup{
			{HierarchyID: 4, Controllers: []string{"memory"}, Path: "/docker/" + id1},
			{HierarchyID: 1, Controllers: []string{"name=systemd"}, Path: "/docker/" + id1},
		}, Owner{"docker", id1}},
		"container before unit": {[]procfs.Cgroup{
			{HierarchyID: 4, Controllers: []string{"memory"}, Path: "/docker/" + id1},
			{HierarchyID: 1, Controllers: []string{"name=systemd"}, Path: "/system.slice/docker.service"},
			{HierarchyID: 0, Path: "/"},
		}, Owner{"docker", id1}},
		"unified before v1": {[]procfs.Cgroup{
			{HierarchyID: 4, Controllers: []string{"memory"}, Path: "/system.slice/old.service"},
			{HierarchyID: 0, Path: "/system.slice/new.service"},
		}, Owner{"unit", "new.service"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := ownerOfAll(tt.cgroups); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// FuzzOwnerOf checks that no path makes a name that harms a terminal or a log, and that what is around a container does
// not change whose it is.
func FuzzOwnerOf(f *testing.F) {
	f.Add("/system.slice/docker-" + id1 + ".scope")
	f.Add("/kubepods.slice/kubepods-burstable-pod" + uidLow + ".slice:cri-containerd:" + id1)
	f.Add("/machine.slice/machine-a\\x0ab.scope")
	f.Add("/lxc/\xff\x00")
	f.Fuzz(func(t *testing.T, path string) {
		o := ownerOf(path)
		name := o.String()
		if (o.Kind == "") != (o == Owner{}) || strings.ToValidUTF8(name, "") != name || strings.IndexFunc(name, unicode.IsControl) >= 0 {
			t.Errorf("owner %q of kind %q", name, o.Kind)
		}
		if o.Kind != "" && ownerOf("/a.slice"+path) != o && strings.HasPrefix(path, "/") {
			t.Errorf("owner %v, in another slice %v", o, ownerOf("/a.slice"+path))
		}
	})
}
