# shellcheck shell=sh disable=SC2034,SC2154 # what this sets and uses is in the other parts of the script

# text is what a file shall have from us. It is empty where the file is not needed.
text() {
	case $1 in
	rc_local)
		say "/sbin/modprobe $module"
		say "echo $max > $boot_file"
		;;
	sysctl) say "net.netfilter.nf_conntrack_max = $max" ;;
	udev)
		# This kernel tells udev of a module before its sysctls are there.
		say "ACTION==\"add\", SUBSYSTEM==\"module\", KERNEL==\"$module\", RUN+=\"/bin/sh -c 'for i in 0 1 2 3 4 5 6 7 8 9; do [ -e $boot_file ] && exec /sbin/sysctl -q -p /etc/sysctl.d/99-zz-ctwatch.conf; sleep 1; done'\""
		;;
	modprobe)
		[ "$buckets" = 0 ] || say "options $module hashsize=$buckets"
		;;
	esac
}

# check_others refuses if a file of others would set the limit to something else when the network is restarted.
check_others() {
	for other in "$ROOT/etc/sysctl.conf" "$ROOT"/etc/sysctl.d/*; do
		case $other in
		*/99-zz-ctwatch.conf) ;;
		*) check_other "${other#"$ROOT"}" ;;
		esac
	done
}
