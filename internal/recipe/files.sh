# shellcheck shell=sh disable=SC2034,SC2154 # what this sets and uses is in the other parts of the script

# The files that are read at boot: each is as it was, or as it shall be. What was before is kept.

state=$ROOT/var/lib/ctwatch-script

# Which lines of a file are ours, and that nobody edited them, is written in it as ctwatch itself does that: the first
# line of a file of ours, or of our lines in a file of others, has the SHA-256 of what follows.
first='# BEGIN ctwatch'
last='# END ctwatch'

# check_owner refuses what others than root, or than who runs this, may write to.
check_owner() {
	# shellcheck disable=SC2012,SC2046 # stat is not everywhere; to be split
	set -- "$1" $(ls -ldn "$1")
	if [ "$4" != 0 ] && [ "$4" != "$uid" ]; then fail 1 "$1 belongs to user $4: it is not safe to write to; nothing was changed"; fi
	case $2 in
	????????w*) fail 1 "$1 is writable by everybody: it is not safe to write to; nothing was changed" ;;
	?????w*) [ "$5" = 0 ] || fail 1 "$1 is writable by group $5: it is not safe to write to; nothing was changed" ;;
	esac
	case $2 in
	-*) [ "$3" = 1 ] || fail 1 "$1 has $3 names (hard links): it is not safe to replace; nothing was changed" ;;
	esac
}

# check_directory refuses a directory that files cannot be safely written to. One that is not there will be made.
check_directory() {
	if [ -h "$1" ]; then fail 1 "$1 is a symbolic link; nothing was changed"; fi
	if [ ! -e "$1" ]; then
		check_directory "${1%/*}"
		return
	fi
	[ -d "$1" ] || fail 1 "$1 is no directory; nothing was changed"
	check_owner "$1"
	temporary=$1/.ctwatch-probe.tmp
	rm -f "$temporary"
	(set -C && : >"$temporary") 2>/dev/null || fail 3 "$1 cannot be written to; nothing was changed. -n sets the running limits alone; for the files, use the system's own way to change them"
	rm -f "$temporary"
}

# check_file refuses a file that is not as it was left.
check_file() {
	path_of "$1"
	check_directory "$ROOT${path%/*}"
	if [ -h "$ROOT$path" ]; then fail 1 "$path is a symbolic link; nothing was changed"; fi
	[ -e "$ROOT$path" ] || return 0
	[ -f "$ROOT$path" ] || fail 1 "$path is no file; nothing was changed"
	check_owner "$ROOT$path"
	if [ "$1" = rc_local ] && [ ! -x "$ROOT$path" ]; then
		fail 1 "$path is not executable, so nothing in it is run at boot: chmod +x it, if its other lines may run; nothing was changed"
	fi
	if as_left "$1"; then return 0; fi
	if [ "$kind" = whole ]; then
		refuse "$path is there, and is not as this script left it"
	else
		refuse "the lines of ctwatch in $path are not as this script left them"
	fi
}

# as_left tells whether a file holds of us only what was written by ctwatch or by this.
as_left() {
	if [ "$kind" = block ]; then
		begins=$(grep -c "^$first" "$ROOT$path")
		ends=$(grep -cx "$last" "$ROOT$path")
		if [ "$begins$ends" = 00 ]; then return 0; fi
		[ "$begins$ends" = 11 ] || fail 1 "$path has not one line $first and one $last after it, so whose lines are whose cannot be told; nothing was changed"
	fi
	if is_sealed; then return 0; fi
	for kept in new was; do
		if [ -e "$state/$1.$kept" ] && [ "$(ours "$ROOT$path")" = "$(ours "$state/$1.$kept")" ]; then return 0; fi
	done
	[ "$kind" = whole ] && cmp -s "$state/$1.old" "$ROOT$path"
}

# is_sealed tells whether our lines are as they were written, by their sum.
is_sealed() {
	case $kind in
	whole) sealed=$(sed -n '1s/^# Managed by ctwatch .* sha256=\([0-9a-f]*\).*/\1/p' "$ROOT$path") ;;
	block) sealed=$(sed -n "s/^$first .* sha256=\([0-9a-f]*\).*/\1/p" "$ROOT$path") ;;
	esac
	[ -n "$sealed" ] && [ "$sealed" = "$(ours "$ROOT$path" | sum)" ]
}

# sum prints the SHA-256 of standard input; nothing where no program can.
sum() {
	if command -v sha256sum >/dev/null 2>&1; then
		sha256sum | sed 's/ .*//'
	elif command -v openssl >/dev/null 2>&1; then
		openssl dgst -sha256 | sed 's/.* //'
	fi
}

# check_other refuses if a file of others has a line that sets a limit to something else.
check_other() {
	[ -f "$ROOT$1" ] || return 0
	case $1 in
	*rc.local) [ -x "$ROOT$1" ] || return 0 ;;
	esac
	found=$(grep -n 'conntrack_\(max\|buckets\)' "$ROOT$1" | grep -v '^[0-9]*:[[:space:]]*[#;]' |
		grep -v "conntrack_max[[:space:]]*=[[:space:]]*${max}[[:space:]]*\$" |
		grep -v "conntrack_buckets[[:space:]]*=[[:space:]]*${buckets}[[:space:]]*\$") || return 0
	while read -r line; do
		refuse "$1:${line%%:*} sets it too, and would win: ${line#*:}"
	done <<END
$found
END
}

# ours prints our lines of a file, without the first line, and others the lines of others.
ours() {
	if [ "$kind" = whole ]; then
		sed 1d "$1"
	else
		awk -v last="$last" '$0 == last { in_ours = 0 } in_ours { print } /^# BEGIN ctwatch/ { in_ours = 1 }' "$1"
	fi
}
others() { awk -v last="$last" '/^# BEGIN ctwatch/ { in_ours = 1 } !in_ours { print } $0 == last { in_ours = 0 }' "$1"; }

# sealed prints what a file shall have from us, with the line that goes before it.
sealed() { # ID WORDS FLAGS
	say "# $2 ctwatch $version: do not edit, remove with 'ctwatch limit unpersist'. sha256=$(text "$1" | sum)$3"
	text "$1"
}

# made is what the first line of a file says of the directories that were made for it.
made() {
	if [ -e "$ROOT$path" ]; then
		sed -n '1s/^# Managed by ctwatch .* sha256=[0-9a-f]*\( made=[1-9]\)$/\1/p' "$ROOT$path"
		return
	fi
	number=0 directory=${path%/*}
	while [ -n "$directory" ] && [ ! -d "$ROOT$directory" ]; do number=$((number + 1)) directory=${directory%/*}; done
	[ "$number" = 0 ] || printf ' made=%d' "$number"
}

# render is all that a file shall hold. Our lines go where they are, else before an exit of the script, else to the end.
render() {
	if [ "$kind" = whole ]; then
		sealed "$1" 'Managed by' "$(made)"
		return
	fi
	lines='' present='' flags=''
	if [ ! -e "$ROOT$path" ]; then
		flags=' made'
	elif grep -q "^$first" "$ROOT$path"; then
		present=1
		flags=$(sed -n "s/^$first .* sha256=[0-9a-f]*//p" "$ROOT$path")
	elif [ -s "$ROOT$path" ] && [ -n "$(tail -c 1 "$ROOT$path")" ]; then
		flags=' joined'
	fi
	if [ -n "$(text "$1")" ]; then
		lines=$(sealed "$1" BEGIN "$flags" && say "$last")
	fi
	if [ ! -e "$ROOT$path" ]; then
		if [ "$mode" = 755 ]; then say '#!/bin/sh'; fi
		say "$lines"
		return
	fi
	lines=$lines present=$present awk -v last="$last" '
		BEGIN { lines = ENVIRON["lines"]; present = ENVIRON["present"]; if (lines == "") done = 1 }
		/^# BEGIN ctwatch/ { in_ours = 1; if (!done) print lines; done = 1 }
		!present && !done && /^exit([ \t;]|$)/ { print lines; done = 1 }
		!in_ours { print }
		$0 == last { in_ours = 0 }
		END { if (!done) print lines }' "$ROOT$path"
}

# put writes standard input to a temporary file beside PATH, with PATH's owner and mode if it is there.
put() { # TEMPORARY PATH MODE
	rm -f "$1"
	(set -C && : >"$1") 2>/dev/null || return 1
	if [ -e "$2" ]; then cp -p "$2" "$1" || return 1; else chmod "$3" "$1" || return 1; fi
	cat >"$1"
}

# keep keeps standard input under a name, whole or not at all.
keep() { # NAME
	put "$state/.tmp" "$state/$1" 600 && mv -f "$state/.tmp" "$state/$1" && return 0
	fail 1 "$state/$1 cannot be written: is the disk full? The files of the system are as they were"
}

# remove_temporaries removes what was not moved into place, by this run or by one that was killed.
remove_temporaries() {
	for id in $files; do
		path_of "$id"
		rm -f "$(beside)"
	done
}

# clean is run at the end, however that comes.
clean() {
	[ -n "$locked" ] || return 0
	remove_temporaries
	rm -f "$state/.tmp" "$state/lock"
	rmdir "$state" 2>/dev/null
}

# beside is the temporary file for the file at path.
beside() { printf '%s' "$ROOT${path%/*}/.ctwatch-${path##*/}.tmp"; }

begin() {
	[ -d "${state%/*}" ] || fail 3 "there is no ${state%/*} to keep in what was there before; nothing was changed"
	check_directory "$state"
	if [ ! -d "$state" ]; then mkdir -m 700 "$state" || fail 3 "$state cannot be made; nothing was changed"; fi
	if ! ln -s $$ "$state/lock" 2>/dev/null; then
		holder=$(readlink "$state/lock")
		if kill -0 "$holder" 2>/dev/null; then fail 1 "another run is under way, as process $holder; if that is something else, remove $state/lock"; fi
		rm -f "$state/lock"
		ln -s $$ "$state/lock" || fail 1 "$state/lock cannot be made"
	fi
	locked=1
	remove_temporaries
}

# make_directory makes a directory of the system that is not there, and notes that.
make_directory() {
	[ ! -d "$ROOT$1" ] || return 0
	make_directory "${1%/*}"
	{
		if [ -e "$state/made" ]; then cat "$state/made"; fi
		say "$1"
	} | keep made || exit 1
	mkdir -m 755 "$ROOT$1" || fail 3 "$1 cannot be made"
}

# relabel gives a file the SELinux label that its place asks for.
relabel() {
	if [ -z "$ROOT" ] && command -v restorecon >/dev/null 2>&1; then restorecon "$1" 2>/dev/null; fi
}

wants_nothing() { [ "$kind" = whole ] && [ -z "$(text "$1")" ]; }

is_done() {
	if wants_nothing "$1"; then
		[ ! -e "$ROOT$path" ]
	elif [ -e "$ROOT$path" ]; then
		[ "$(ours "$ROOT$path")" = "$(text "$1")" ] && as_left "$1"
	else
		[ -z "$(text "$1")" ]
	fi
}

# prepare keeps what a file holds, and writes what it shall hold beside it.
prepare() {
	if [ ! -e "$state/$1.old" ] && [ ! -e "$state/$1.absent" ]; then
		if [ -e "$ROOT$path" ]; then keep "$1.old" <"$ROOT$path"; else keep "$1.absent" </dev/null; fi
	fi
	if [ -e "$ROOT$path" ]; then keep "$1.was" <"$ROOT$path"; fi
	if wants_nothing "$1"; then return 0; fi
	render "$1" | keep "$1.new" || exit 1
	render "$1" | cmp -s - "$state/$1.new" || fail 1 "$state/$1.new is not as it was written; the files of the system are as they were"
	make_directory "${path%/*}"
	stage "$1" "$state/$1.new"
}

# stage writes what a file shall hold beside it.
stage() { # ID SOURCE
	put "$(beside)" "$ROOT$path" "$mode" <"$2" && cmp -s "$2" "$(beside)" && return 0
	fail 1 "$path cannot be written: is the disk full? The files of the system are as they were"
}

# commit moves into place what was staged. What was not is to be removed.
commit() { # ID
	if [ -e "$(beside)" ]; then
		mv -f "$(beside)" "$ROOT$path" || fail 1 "$path cannot be replaced"
		relabel "$ROOT$path"
		say "$path: written"
	else
		rm -f "$ROOT$path" || fail 1 "$path cannot be removed"
		say "$path: removed"
	fi
}

persist() {
	todo=
	for id in $files; do
		path_of "$id"
		if is_done "$id"; then
			if [ -e "$ROOT$path" ]; then say "$path: unchanged"; fi
			continue
		fi
		prepare "$id"
		todo="$todo $id"
	done
	[ -n "$todo" ] || return 0
	sync
	for id in $todo; do
		path_of "$id"
		commit "$id"
	done
	sync
}
