package persist

import (
	"fmt"

	"github.com/ctwatch/ctwatch/internal/boot"
)

// The files of ours, and those of others that have lines of ours.
const (
	sysctlFile   = "/etc/sysctl.d/99-zz-ctwatch.conf"
	loadFile     = "/etc/modules-load.d/ctwatch.conf"
	ruleFile     = "/etc/udev/rules.d/99-ctwatch.rules"
	scriptFile   = "/etc/sysconfig/modules/ctwatch.modules" // EL 6: rc.sysinit runs it before it applies sysctl.d
	modprobeFile = "/etc/modprobe.d/ctwatch.conf"
	rcLocalFile  = "/etc/rc.d/rc.local" // EL 5
	modprobeConf = "/etc/modprobe.conf" // EL 5
)

// wanted is what shall be in a file. A body "" is no file of ours, or no lines of ours.
type wanted struct {
	path   string
	body   string
	perm   uint32
	shared bool // a file of others
}

// layout is what shall be in all files, in the order in which they are written: what sets max comes before what sets the
// option of the module, which by itself would set max to 8 times of it. Zero limits want nothing anywhere.
func layout(s boot.System, l Limits) []wanted {
	files := []wanted{
		{path: sysctlFile, perm: 0o644},
		{path: rcLocalFile, perm: 0o755, shared: true},
		{path: loadFile, perm: 0o644},
		{path: scriptFile, perm: 0o755},
		{path: ruleFile, perm: 0o644},
		{path: modprobeFile, perm: 0o644},
		{path: modprobeConf, perm: 0o644, shared: true},
	}
	if l.Max == 0 {
		return files
	}
	set := func(path, body string) {
		for i := range files {
			if files[i].path == path {
				files[i].body = body
			}
		}
	}
	option := fmt.Sprintf("options %s hashsize=%d\n", s.Module, l.Buckets)
	if s.EL == 5 || s.EL == 6 && !s.SysctlD {
		file := "/proc/sys/net/ipv4/ip_conntrack_max"
		if s.Module != "ip_conntrack" {
			file = "/proc/sys/net/netfilter/nf_conntrack_max"
		}
		set(rcLocalFile, fmt.Sprintf("/sbin/modprobe %s\necho %d > %s\n", s.Module, l.Max, file))
		if l.Buckets != 0 && s.EL == 5 {
			set(modprobeConf, option)
		} else if l.Buckets != 0 {
			set(modprobeFile, option)
		}
		return files
	}
	sysctls := fmt.Sprintf("net.netfilter.nf_conntrack_max = %d\n", l.Max)
	switch {
	case l.Buckets != 0 && s.SetsBuckets:
		sysctls += fmt.Sprintf("net.netfilter.nf_conntrack_buckets = %d\n", l.Buckets)
	case l.Buckets != 0:
		set(modprobeFile, option)
	}
	set(sysctlFile, sysctls)
	if s.EL == 6 {
		set(scriptFile, "#!/bin/sh\n/sbin/modprobe nf_conntrack\n")
	} else {
		set(loadFile, "nf_conntrack\n")
	}
	set(ruleFile, rule(s))
	return files
}

// rule is the udev rule that applies the sysctls again when the module is loaded again; "" where nothing can.
func rule(s boot.System) string {
	program := s.Applies + " --prefix=/net/netfilter"
	if s.Applies == "" || s.EL == 6 {
		if s.Sysctl == "" {
			return ""
		}
		program = s.Sysctl + " -q -p " + sysctlFile
	}
	if !s.TellsInTime {
		// This kernel tells of the module before its sysctls are there.
		program = "/bin/sh -c 'for i in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/sys/net/netfilter/nf_conntrack_max ] && exec " + program + "; sleep 1; done'"
	}
	return `ACTION=="add", SUBSYSTEM=="module", KERNEL=="nf_conntrack", RUN+="` + program + "\"\n"
}

// notes are what does not survive although it was written.
func notes(s boot.System, l Limits) (notes []string) {
	switch {
	case s.EL == 5 && s.Unloads != "":
		after := "what the kernel begins with"
		if l.Buckets != 0 {
			after = fmt.Sprintf("8 times the hashsize, %d", 8*l.Buckets)
		} else if s.Default.Max != nil {
			after = fmt.Sprintf("what the kernel begins with, %d", *s.Default.Max)
		}
		notes = append(notes, fmt.Sprintf("service iptables restart unloads %s: the limit is then %s, until %s runs again; "+
			`with IPTABLES_MODULES_UNLOAD="no" in %s it stays`, s.Module, after, rcLocalFile, s.Unloads))
	case s.EL == 0 && s.Kernel != "" && rule(s) == "":
		notes = append(notes, "neither systemd-sysctl nor sysctl is installed: when "+s.Module+" is unloaded and loaded again, the limit is the kernel's own")
	case s.EL == 6 && !s.SysctlD && s.Unloads != "":
		notes = append(notes, fmt.Sprintf("service iptables restart unloads %s: the limit is then the kernel's own, until %s runs again", s.Module, rcLocalFile))
	}
	return notes
}
