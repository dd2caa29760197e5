#!/usr/bin/env bash
# Installs what building and testing need beside Go, git, gcc and make. Safe to run again: what is there is left alone.
# Usage: scripts/setup.sh run|test|vm    run: what the demo needs; test: what the gate needs; vm: what booting kernels needs
set -euo pipefail

case "${1:-}" in
run) packages=() ;;
test) packages=(clang-19 llvm-19 libbpf-dev clang-format-19 shellcheck nftables conntrack iproute2 libc6-dev systemd busybox-static dash iptables util-linux) ;;
vm) packages=(qemu-system-x86 qemu-utils e2fsprogs busybox-static kmod xz-utils nftables conntrack) ;;
*)
	echo "usage: $0 run|test|vm" >&2
	exit 2
	;;
esac

if ! command -v go >/dev/null; then
	echo "setup: Go 1.26 or later is needed, see https://go.dev/dl" >&2
	exit 1
fi

# promtool alone: Debian's package would start a server, too.
promtool=$(dirname "$0")/../.tools/promtool
fetch_promtool() {
	[ "$1" = test ] && ! command -v promtool >/dev/null && [ ! -x "$promtool" ]
}

missing=()
for p in "${packages[@]}"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ] && ! fetch_promtool "$1"; then
	exit 0
fi
if ! command -v apt-get >/dev/null; then
	echo "setup: install these yourself (the names are Debian's), and promtool of prometheus: ${missing[*]}" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "setup: run as root, or install these yourself: ${missing[*]}" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d)
chmod 755 "$work" # apt downloads as another user
trap 'rm -rf "$work"' EXIT
try() {
	if ! "$@" >"$work/log" 2>&1; then
		tail -n 20 "$work/log" >&2
		echo "setup: $1 failed, see above" >&2
		exit 1
	fi
}
try apt-get update -qq
if [ ${#missing[@]} -gt 0 ]; then
	echo "setup: installing ${missing[*]}"
	try apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
if fetch_promtool "$1"; then
	echo "setup: fetching promtool"
	(cd "$work" && try apt-get download -qq prometheus)
	try dpkg-deb -x "$work"/prometheus_*.deb "$work/prometheus"
	mkdir -p "$(dirname "$promtool")"
	install "$work/prometheus/usr/bin/promtool" "$promtool"
fi
