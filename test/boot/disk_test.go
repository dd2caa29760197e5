package boot

import (
	_ "embed"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/ctwatch/ctwatch/test/qemu"
)

var (
	//go:embed agent.sh
	agent string
	//go:embed init.sh
	initScript string
)

// packages are what the machine is made of, beside what they need.
var packages = []string{
	"systemd", "systemd-sysv", "udev", "kmod", "procps", "nftables", "util-linux", "mount", "bash", "dash", "coreutils",
	"findutils", "grep", "sed", "diffutils", "tar",
}

// without is what nothing here needs: udev would match rules for hardware with hundreds of devices that are none of it.
// Debian has no sysctl.conf since 13.
var without = []string{
	"etc/sysctl.conf", "etc/sysctl.d/99-sysctl.conf",
	"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/lib/udev/hwdb.d",
	"usr/lib/udev/rules.d/[67]*", "usr/lib/udev/rules.d/81*", "usr/lib/udev/rules.d/90*",
	"usr/lib/x86_64-linux-gnu/gconv", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/perl-base",
}

// masked are units that take time and do nothing for what is tested: sysctl.d, modules-load.d and udev's rules.
var masked = []string{
	"dev-hugepages.mount", "dev-mqueue.mount", "getty.target", "ldconfig.service", "proc-sys-fs-binfmt_misc.automount",
	"run-lock.mount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
	"systemd-binfmt.service", "systemd-firstboot.service", "systemd-hibernate-clear.service",
	"systemd-hwdb-update.service", "systemd-journal-catalog-update.service", "systemd-logind.service",
	"systemd-machine-id-commit.service", "systemd-pcrmachine.service", "systemd-pcrphase-sysinit.service",
	"systemd-pcrphase.service", "systemd-random-seed.service", "systemd-sysusers.service",
	"systemd-tmpfiles-clean.timer", "systemd-tpm2-setup-early.service", "systemd-tpm2-setup.service",
	"systemd-udev-load-credentials.service", "systemd-update-done.service", "systemd-update-utmp.service", "systemd-user-sessions.service", "tmp.mount",
}

const (
	agentPath = "usr/local/lib/boot/agent"

	agentUnit = `[Unit]
Description=Does what the host says
[Service]
ExecStart=/` + agentPath + `
`
	// firewallUnit loads conntrack as firewalls do: because a rule asks for the state of a connection, and after
	// systemd-sysctl.
	firewallUnit = `[Unit]
Description=A firewall that asks for the state of connections
After=systemd-sysctl.service systemd-modules-load.service
Before=agent.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /etc/firewall.nft
ExecStop=/usr/sbin/nft flush ruleset
`
	firewall = `table inet filter {
	chain input {
		type filter hook input priority filter; policy accept;
		ct state established,related accept
	}
}
`
	passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
	group  = "root:x:0:\ntty:x:5:\ndisk:x:6:\nlp:x:7:\nkmem:x:15:\ndialout:x:20:\ncdrom:x:24:\ntape:x:26:\naudio:x:29:\n" +
		"video:x:44:\nutmp:x:43:\ninput:x:101:\nkvm:x:102:\nrender:x:103:\nsgx:x:104:\nnogroup:x:65534:\n"
)

// system is what is on the disk beside the distribution's packages.
func system(kernel *qemu.KernelFiles, ctwatch string) []qemu.File {
	const units = "etc/systemd/system/"
	link := func(name, to string) qemu.File {
		return qemu.File{Name: name, Mode: fs.ModeSymlink | 0o777, Contents: to}
	}
	files := []qemu.File{
		qemu.Text("etc/passwd", passwd, 0o644),
		qemu.Text("etc/group", group, 0o644),
		qemu.Text("etc/hostname", "guest\n", 0o644),
		qemu.Text("etc/machine-id", strings.Repeat("c7", 16)+"\n", 0o444),
		qemu.Text("etc/firewall.nft", firewall, 0o644),
		qemu.Text(units+"agent.service", agentUnit, 0o644),
		qemu.Text(units+"firewall.service", firewallUnit, 0o644),
		qemu.Text(agentPath, agent, 0o755),
		{Name: "usr/local/bin/ctwatch", Mode: 0o755, Source: ctwatch},
		link(units+"multi-user.target.wants/agent.service", "../agent.service"),
		link(units+"multi-user.target.wants/firewall.service", "../firewall.service"),
		link(units+"default.target", "/usr/lib/systemd/system/multi-user.target"),
	}
	for _, unit := range masked {
		files = append(files, link(units+unit, "/dev/null"))
	}
	for _, d := range []string{"dev", "proc", "sys", "run", "tmp", "root", "var/lib", "var/log"} {
		files = append(files, qemu.File{Name: d, Mode: fs.ModeDir})
	}
	return append(files, kernel.Modules...)
}

// initramfs is what mounts the disk.
func initramfs(t *testing.T, kernel *qemu.KernelFiles) []qemu.File {
	t.Helper()
	files, err := qemu.Busybox(t.Context())
	must(t, err)
	files = append(files, qemu.Text("init", initScript, 0o755), qemu.File{Name: "disk", Mode: fs.ModeDir})
	for _, m := range kernel.Modules {
		if path.Base(m.Name) == "virtio_blk.ko" {
			m.Name = "virtio_blk.ko"
			files = append(files, m)
		}
	}
	return files
}
