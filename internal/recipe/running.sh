# shellcheck shell=sh disable=SC2034,SC2154 # what this sets and uses is in the other parts of the script

# The running limits.

hashsize_file=$ROOT/sys/module/$module/parameters/hashsize
rounding=8192 # the kernel rounds buckets up to a page of pointers; the largest pages have 64 KiB

is_number() {
	case $1 in
	'' | *[!0-9]* | 0?* | ???????????*) return 1 ;;
	esac
}

# read_number reads a file of the kernel to $number.
read_number() {
	number=
	[ -r "$1" ] || return 1
	read -r number <"$1" 2>/dev/null || [ -n "$number" ] || return 1
	is_number "$number"
}

# read_running reads the running limits to $now_max, $now_buckets and $now_count; they are empty if there are none.
read_running() {
	now_max='' now_buckets='' now_count=''
	if [ -e "$max_file" ]; then
		read_number "$max_file" || fail 1 "$max_file holds no number: '$number'"
		now_max=$number
		if read_number "$count_file"; then now_count=$number; fi
	fi
	# Until Linux 5.11 the sysctl does not show what was written to the parameter.
	if read_number "$hashsize_file" || read_number "$buckets_file"; then now_buckets=$number; fi
}

# writable tells by the mode, because root may write to every other file.
writable() {
	# shellcheck disable=SC2012 # stat is not everywhere
	case $(ls -ld "$1" 2>/dev/null) in
	-?w*) [ -w "$1" ] ;;
	*) return 1 ;;
	esac
}

# set_number writes a number to a file of the kernel, and reads it back to $number. The kernel may round up.
set_number() { # FILE NUMBER MORE
	if ! (echo "$2" >"$1") 2>/dev/null; then
		warn "the kernel refuses to have $2 written to $1"
	elif ! read_number "$1"; then
		warn "$1 cannot be read back"
	elif [ "$number" -lt "$2" ] || [ $((number - $2)) -ge "$3" ]; then
		warn "$1 is $number after $2 was written to it"
	else
		return 0
	fi
	return 1
}

set_buckets() {
	if writable "$buckets_file"; then
		set_number "$buckets_file" "$1" "$rounding"
	elif [ -e "$hashsize_file" ]; then
		set_number "$hashsize_file" "$1" "$rounding"
	else
		warn "nothing sets the buckets here: there is no $hashsize_file"
		return 1
	fi
}

# note keeps from where and to where a running limit is set; the first "from" stays.
note() { # NAME FROM TO
	from=$2
	if [ -e "$state/$1" ]; then read -r from number <"$state/$1"; fi
	say "$from $3" | keep "$1" || exit 1
}

set_running() {
	if [ -z "$now_max" ]; then
		say "running: conntrack is not loaded here, so there is nothing to set now"
		return
	fi
	if [ "$now_max" = "$max" ]; then
		say "running max: unchanged, $max"
	else
		if [ -n "$files_too" ]; then note max "$now_max" "$max"; fi
		set_number "$max_file" "$max" 1 || exit 1
		say "running max: $now_max -> $max"
	fi
	if [ -n "$now_count" ] && [ "$now_count" -ge "$max" ]; then
		warn "the table holds $now_count entries: new connections are refused until it has less than $max"
	fi
	[ "$buckets" != 0 ] || return 0
	if [ -n "$now_buckets" ] && [ "$now_buckets" -ge "$buckets" ] &&
		{ [ -z "$force" ] || [ $((now_buckets - buckets)) -lt "$rounding" ]; }; then
		say "running buckets: unchanged, $now_buckets"
		return
	fi
	if [ -n "$files_too" ]; then note buckets "${now_buckets:-0}" "$buckets"; fi
	if ! set_buckets "$buckets"; then
		failed=1 # the limit is what counts: go on
		return
	fi
	if [ -n "$files_too" ]; then note buckets "${now_buckets:-0}" "$number"; fi
	say "running buckets: ${now_buckets:-unknown} -> $number"
}
