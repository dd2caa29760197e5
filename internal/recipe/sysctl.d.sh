# shellcheck shell=sh disable=SC2034,SC2154 # what this sets and uses is in the other parts of the script
# Sets the limits of connection tracking on a system with systemd, now and at each boot, and can take that back.
#
# At boot, /etc/modules-load.d/ctwatch.conf has the module loaded before systemd-sysctl sets the limit that
# /etc/sysctl.d/99-zz-ctwatch.conf gives; when the module is unloaded and loaded again, as firewalls do when they
# restart, /etc/udev/rules.d/99-ctwatch.rules has it set again.
# The buckets are in the same file from Linux 4.8 on; before, /etc/modprobe.d/ctwatch.conf gives them to the module.

module=nf_conntrack
max_file=$ROOT/proc/sys/net/netfilter/nf_conntrack_max
count_file=$ROOT/proc/sys/net/netfilter/nf_conntrack_count
buckets_file=$ROOT/proc/sys/net/netfilter/nf_conntrack_buckets

files='sysctl modules_load udev modprobe'

path_of() {
	case $1 in
	sysctl) path=/etc/sysctl.d/99-zz-ctwatch.conf ;;
	modules_load) path=/etc/modules-load.d/ctwatch.conf ;;
	udev) path=/etc/udev/rules.d/99-ctwatch.rules ;;
	modprobe) path=/etc/modprobe.d/ctwatch.conf ;;
	esac
	kind=whole mode=644
}

# check_system ends if this is another system than the script is for.
check_system() {
	for applier in "$ROOT/usr/lib/systemd/systemd-sysctl" "$ROOT/lib/systemd/systemd-sysctl"; do
		if [ -e "$applier" ]; then return; fi
	done
	fail 3 "there is no systemd-sysctl here, so nothing would apply the files as they are meant: take the script for centos5 or centos6"
}

# in_sysctl tells whether the buckets are set by sysctl, and not by the module's option (before Linux 4.8).
in_sysctl() {
	if [ -e "$buckets_file" ]; then
		writable "$buckets_file"
		return
	fi
	for directory in "$ROOT"/lib/modules/[23].*; do
		if [ -d "$directory" ]; then return 1; fi
	done
}

# in_time tells whether the kernel tells udev of a module when its sysctls are there already (Linux 5.12, and back-ports).
in_time() {
	release=
	if [ -r "$ROOT/proc/sys/kernel/osrelease" ]; then read -r release <"$ROOT/proc/sys/kernel/osrelease"; fi
	case $release in
	*.el[5678]*) return 1 ;;
	4.14.* | 5.4.* | 5.10.*) return 0 ;;
	[234].* | 5.[0-9].* | 5.1[01].*) return 1 ;;
	esac
}

# text is what a file shall have from us. It is empty where the file is not needed.
text() {
	case $1 in
	sysctl)
		say "net.netfilter.nf_conntrack_max = $max"
		if [ "$buckets" != 0 ] && in_sysctl; then say "net.netfilter.nf_conntrack_buckets = $buckets"; fi
		;;
	modules_load) say "$module" ;;
	udev)
		program="${applier#"$ROOT"} --prefix=/net/netfilter"
		if ! in_time; then
			program="/bin/sh -c 'for i in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/sys/net/netfilter/nf_conntrack_max ] && exec $program; sleep 1; done'"
		fi
		say "ACTION==\"add\", SUBSYSTEM==\"module\", KERNEL==\"$module\", RUN+=\"$program\""
		;;
	modprobe)
		if [ "$buckets" != 0 ] && ! in_sysctl; then say "options $module hashsize=$buckets"; fi
		;;
	esac
}

# check_others refuses if a file of others would set the limit to something else, later or again.
check_others() {
	for other in /etc/sysctl.conf /etc/rc.local /etc/rc.d/rc.local; do check_other "$other"; done
	if grep -qi '^ENABLED=yes' "$ROOT/etc/ufw/ufw.conf" 2>/dev/null; then check_other /etc/ufw/sysctl.conf; fi
	for directory in etc run usr/local/lib usr/lib lib; do
		for other in "$ROOT/$directory/sysctl.d"/*.conf; do
			if expr "x${other##*/}" \> x99-zz-ctwatch.conf >/dev/null; then check_other "${other#"$ROOT"}"; fi
		done
	done
}
