#!/bin/sh
# shellcheck disable=SC2034 # used in the other parts of the script
# Written by ctwatch @VERSION@.
max=@MAX@
buckets=@BUCKETS@
version='@VERSION@'
ROOT=${ROOT:-}
PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
set -u

say() { printf '%s\n' "$*"; }
warn() { printf '%s: %s\n' "$0" "$*" >&2; }
fail() { # CODE TEXT
	code=$1
	shift
	warn "$*"
	exit "$code"
}
