#!/bin/sh
# Runs test binaries in a machine made for it, and says on standard output how each ended. The first process of a
# virtual machine mounts what tests expect before, and powers off after.
# Usage: guest.sh [PLAN [DIRECTORY]]
#   A line of PLAN is: env KEY=VALUE, for what comes after it; or: run DIRECTORY PROGRAM ARGUMENT...
set -u

if [ $$ = 1 ]; then
	set -- # what the kernel does not know of its command line comes as arguments
fi
plan=${1:-/plan}
root=${2:-/ctwatch}

mounts() {
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t devtmpfs devtmpfs /dev
	mount -t tmpfs tmpfs /run
	mount -t tmpfs tmpfs /tmp
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t debugfs debugfs /sys/kernel/debug
	mount -t tracefs tracefs /sys/kernel/tracing
	mount -t securityfs securityfs /sys/kernel/security
	mount -t bpf bpf /sys/fs/bpf
	ifconfig lo up
}

modules() {
	for m in nf_conntrack nf_conntrack_netlink veth; do
		modprobe "$m" || echo "vm: modprobe $m failed"
	done
}

run() {
	name=$1
	shift
	echo "vm: begin $name"
	(cd "$root/$name" && exec "$@") </dev/null 3<&-
	echo "vm: end $name $?"
}

if [ $$ = 1 ]; then
	export PATH=/usr/sbin:/usr/bin:/sbin:/bin
	mounts
	export CTWATCH_TEST_GUEST=1 # nobody else is here
fi
export HOME=/tmp TMPDIR=/tmp CTWATCH_TEST_REQUIRE=1
echo "vm: kernel $(uname -r)"
modules
set -f # a pattern among the arguments is for the program
while read -r word rest <&3; do
	case $word in
	env) export "${rest?}" ;;
	run)
		# shellcheck disable=SC2086 # to be split
		run $rest
		;;
	esac
done 3<"$plan"
echo "vm: done"
if [ $$ = 1 ]; then
	poweroff -f
fi
