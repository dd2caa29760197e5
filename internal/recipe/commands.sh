# shellcheck shell=sh disable=SC2034,SC2154 # what this sets and uses is in the other parts of the script

usage() {
	cat >&2 <<END
usage: $0 [-f] [-n] [show | apply | undo]
  show   what is set now, and what the files give
  apply  raise the limits to max=$max, buckets=$buckets (0: as they are), and keep them at each boot; the default
  undo   take back what apply did
  -f     also lower a limit, replace lines that were edited, and do not mind what others' files set
  -n     with apply: set the running limits alone, and write no file
ROOT=DIR in the environment: of a mounted disk or an image
END
	exit 2
}

# refuse says why not, and ends, unless -f is given. To show, it only says so.
refuse() {
	if [ "$command" = show ]; then
		say "$*"
	elif [ -n "$force" ]; then
		warn "$* (-f: done nevertheless)"
	else
		fail 1 "$*; nothing was changed"
	fi
}

apply() {
	read_running
	if [ -n "$now_max" ]; then
		writable "$max_file" || fail 3 "$max_file cannot be written to: only the host can set it, in its own network namespace, not a container; nothing was changed"
		if [ "$now_max" = 0 ]; then
			refuse "there is no limit now (max is 0), and $max would be one"
		elif [ "$now_max" -gt "$max" ]; then
			refuse "the limit is $now_max now, and $max is lower"
		fi
	fi
	if [ -z "$files_too" ]; then
		[ -n "$now_max" ] || fail 3 "conntrack is not loaded here: there is nothing to set"
		set_running
		return
	fi
	begin
	for id in $files; do check_file "$id"; done
	check_others
	set_running
	persist
}

show() {
	read_running
	if [ -n "$now_max" ]; then
		say "running: max $now_max, buckets ${now_buckets:-unknown}, entries ${now_count:-unknown}"
	else
		say "running: conntrack is not loaded here"
	fi
	say "wanted: max $max, buckets $buckets"
	for id in $files; do
		path_of "$id"
		if is_done "$id"; then
			if [ -e "$ROOT$path" ]; then say "$path: as wanted"; fi
		elif [ -n "$(held)" ]; then
			say "$path: $(held)"
		else
			say "$path: not written"
		fi
	done
	check_others
}

# held is what a file holds of the limits, in one line.
held() {
	if [ -f "$ROOT$path" ]; then ours "$ROOT$path" | tr '\n' ' '; fi
}

# take_back readies what a file held before; id, path, kind and mode are the file's.
take_back() {
	if [ ! -e "$ROOT$path" ]; then
		[ -e "$state/$id.old" ] || return 0
		stage "$id" "$state/$id.old"
	elif cmp -s "$state/$id.old" "$ROOT$path"; then
		return 0
	elif [ "$kind" = whole ] || cmp -s "$state/$id.new" "$ROOT$path" || cmp -s "$state/$id.was" "$ROOT$path"; then
		if [ -e "$state/$id.old" ]; then stage "$id" "$state/$id.old"; fi
	else
		others "$ROOT$path" | keep "$id.rest" || exit 1
		stage "$id" "$state/$id.rest"
	fi
	todo="$todo $id"
}

undo() {
	if [ ! -d "$state" ]; then
		say "nothing to undo"
		return
	fi
	read_running
	begin
	back_max='' back_buckets=''
	if [ -e "$state/max" ] && [ -n "$now_max" ]; then
		read -r from to <"$state/max"
		if [ "$now_max" != "$to" ]; then
			say "running max: left at $now_max, which is not what apply set"
		else
			back_max=$from
			if [ "$from" != 0 ] && [ -n "$now_count" ] && [ "$now_count" -ge "$from" ]; then
				refuse "the table holds $now_count entries: with a limit of $from again new connections would be refused"
			fi
		fi
	fi
	if [ -e "$state/buckets" ] && [ -n "$now_buckets" ]; then
		read -r from to <"$state/buckets"
		if [ "$now_buckets" != "$to" ]; then
			say "running buckets: left at $now_buckets, which is not what apply set"
		elif [ "$from" != 0 ]; then
			back_buckets=$from
		fi
	fi
	kept=
	for id in $files; do
		if [ -e "$state/$id.old" ] || [ -e "$state/$id.absent" ]; then
			kept="$kept $id"
			check_file "$id"
		fi
	done
	todo=
	for id in $kept; do
		path_of "$id"
		take_back
	done
	sync
	for id in $todo; do
		path_of "$id"
		commit "$id"
	done
	if [ -n "$back_max" ]; then
		set_number "$max_file" "$back_max" 1 || exit 1
		say "running max: $now_max -> $back_max"
	fi
	if [ -n "$back_buckets" ]; then
		set_buckets "$back_buckets" || exit 1
		say "running buckets: $now_buckets -> $number"
	fi
	if [ -e "$state/made" ]; then
		sort -r "$state/made" | while read -r directory; do rmdir "$ROOT$directory" 2>/dev/null; done
	fi
	sync
	# The notes of what to undo go last.
	for id in $files; do rm -f "$state/$id.old" "$state/$id.absent" "$state/$id.was" "$state/$id.new" "$state/$id.rest"; done
	rm -f "$state/made" "$state/max" "$state/buckets"
}

command='' force='' files_too=1 locked='' failed=0 uid=$(id -u)
for argument; do
	case $argument in
	-f) force=1 ;;
	-n) files_too= ;;
	show | apply | undo)
		[ -z "$command" ] || usage
		command=$argument
		;;
	*) usage ;;
	esac
done
command=${command:-apply}

if ! is_number "$max" || [ "$max" -lt 1 ] || [ "$max" -gt 2147483647 ]; then
	fail 2 "max is '$max', and must be a number from 1 to 2147483647"
fi
if ! is_number "$buckets" || [ "$buckets" -gt 268435455 ]; then
	fail 2 "buckets is '$buckets', and must be a number from 0 to 268435455"
fi

check_system
if [ "$command" != show ]; then
	[ -n "$ROOT" ] || [ "$uid" = 0 ] || fail 3 "only root can set the limits"
	umask 022
	trap clean EXIT
	trap 'exit 1' HUP INT TERM
fi
case $command in
show) show ;;
apply) apply ;;
undo) undo ;;
esac
[ "$failed" = 0 ] # the code to end with
