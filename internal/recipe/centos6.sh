# shellcheck shell=sh disable=SC2034,SC2154 # what this sets and uses is in the other parts of the script
# Sets the limits of connection tracking on CentOS 6 and its like (Linux 2.6.32), now and at each boot, and can take
# that back.
#
# At boot, /etc/modprobe.d/ctwatch.conf gives the module its buckets when it is loaded, and /etc/rc.d/rc.local loads it
# and sets the limit. "service iptables restart" unloads the module and loads it again: the buckets survive that, and
# /etc/udev/rules.d/99-ctwatch.rules has the limit set again from /etc/sysctl.d/99-zz-ctwatch.conf, some moment after
# the module is there. Until then it is 8 times the buckets, or the kernel's own where they are left alone (0).
# IPTABLES_MODULES_UNLOAD="no" in /etc/sysconfig/iptables-config keeps the module loaded, and so the limit as it is.

module=nf_conntrack
boot_file=/proc/sys/net/netfilter/nf_conntrack_max
max_file=$ROOT/proc/sys/net/netfilter/nf_conntrack_max
count_file=$ROOT/proc/sys/net/netfilter/nf_conntrack_count
buckets_file=$ROOT/proc/sys/net/netfilter/nf_conntrack_buckets

files='sysctl rc_local udev modprobe'

path_of() {
	case $1 in
	sysctl) path=/etc/sysctl.d/99-zz-ctwatch.conf kind=whole mode=644 ;;
	rc_local) path=/etc/rc.d/rc.local kind=block mode=755 ;;
	udev) path=/etc/udev/rules.d/99-ctwatch.rules kind=whole mode=644 ;;
	modprobe) path=/etc/modprobe.d/ctwatch.conf kind=whole mode=644 ;;
	esac
}

# check_system ends if this is another system than the script is for.
check_system() {
	if [ ! -e "$max_file" ] && [ -e "$ROOT/proc/sys/net/ipv4/netfilter/ip_conntrack_max" ]; then
		fail 3 "this kernel has ip_conntrack, not nf_conntrack: take the script for centos5"
	fi
	if [ -d "$ROOT/run/systemd/system" ]; then
		fail 3 "this system has systemd: take the script for sysctl.d"
	fi
}
