#!/bin/sh
# The first process of a machine with a disk: mounts it and hands over to what the kernel's command line calls first.
mount -t devtmpfs devtmpfs /dev
insmod /virtio_blk.ko
for _ in $(seq 100); do
	[ -b /dev/vda ] && break
	usleep 20000
done
# A file system that does not write a file out before it is renamed over another, as others do not either: what is not
# synced is then lost for certain.
mount -t ext4 -o noauto_da_alloc /dev/vda /disk || exit 1
mount --move /dev /disk/dev
# shellcheck disable=SC2154 # the kernel makes variables of what it does not know
exec switch_root /disk "$first"
