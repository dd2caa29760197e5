# shellcheck shell=sh disable=SC2034,SC2154 # what this sets and uses is in the other parts of the script
# Sets the limits of connection tracking on CentOS 5 and its like (Linux 2.6.18), now and at each boot, and can take
# that back.
#
# At boot, /etc/modprobe.conf gives the module its buckets when it is loaded, and /etc/rc.d/rc.local loads it and sets the limit.
# "service iptables restart" unloads the module. The buckets survive that, and the limit becomes 8 times as many as
# they are, until the next boot or the next run of this. IPTABLES_MODULES_UNLOAD="no" in
# /etc/sysconfig/iptables-config keeps the module loaded, and so the limit as it is. Where the buckets are left alone
# (0), only the next boot or the next run of this sets the limit again.

module=ip_conntrack
boot_file=/proc/sys/net/ipv4/ip_conntrack_max
max_file=$ROOT/proc/sys/net/ipv4/netfilter/ip_conntrack_max
count_file=$ROOT/proc/sys/net/ipv4/netfilter/ip_conntrack_count
buckets_file=$ROOT/proc/sys/net/ipv4/netfilter/ip_conntrack_buckets

files='rc_local modprobe'

path_of() {
	case $1 in
	rc_local) path=/etc/rc.d/rc.local kind=block mode=755 ;;
	modprobe) path=/etc/modprobe.conf kind=block mode=644 ;;
	esac
}

# check_system ends if this is another system than the script is for.
check_system() {
	if [ ! -e "$max_file" ] && [ -e "$ROOT/proc/sys/net/netfilter/nf_conntrack_max" ]; then
		fail 3 "this kernel has nf_conntrack, not ip_conntrack: take the script for centos6 or for sysctl.d"
	fi
}
