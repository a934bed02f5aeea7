#!/bin/sh
# What --help says and what the man pages say is the same: every command has
# a page, every option stands in both with the same letter, both tell the exit
# status; and the pages render without a warning.
#
# usage: help.sh PAGURUS MAN-FOLDER
set -u
pagurus=$1 man=$2
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail=0 n=0

wrong() {
	echo "FAIL: $1"
	fail=1
}

# "--name letter" for each option of a --help text.
of_help() {
	sed -n '/^Options:/,/^$/p' |
	    sed -n 's/^  \(-\(.\),\|   \) --\([a-z0-9-]*\).*/--\3 \2/p' |
	    sed 's/ *$//' | grep -v '^--help$' | sort
}

# The same of mdoc: .It Fl -name Ar x , Fl n Ar x    or    .It Fl Fl name
of_man() {
	sed -n 's/^\.It Fl Fl /.It Fl -/; s/^\.It Fl -\([a-z0-9-]*\)/--\1 /p' |
	    sed 's/^\(--[a-z0-9-]*\).*, Fl \([a-z]\).*/\1 \2/; t
		s/^\(--[a-z0-9-]*\).*/\1/' | sort
}

for c in $("$pagurus" --help | sed -n 's/^  \([a-z]*\)  .*/\1/p'); do
	n=$((n + 1))
	page=$man/pagurus-$c.1
	if ! [ -f "$page" ]; then
		wrong "$c has no man page"
		continue
	fi
	"$pagurus" "$c" --help >"$dir/help" || wrong "$c --help fails"
	wide=$(awk 'length > 80' "$dir/help")
	[ -z "$wide" ] || wrong "$c --help is wider than a terminal: $wide"
	of_help <"$dir/help" >"$dir/a"
	of_man <"$page" >"$dir/b"
	[ -s "$dir/a" ] || wrong "$c --help names no option"
	cmp -s "$dir/a" "$dir/b" ||
	    wrong "$c, --help (<) and man page (>):
$(diff "$dir/a" "$dir/b")"
	grep -q '^Exit status' "$dir/help" || wrong "$c --help: exit status?"
	grep -q '^\.Sh EXIT STATUS' "$page" || wrong "$page: exit status?"
	grep -q "pagurus-$c 1" "$man/pagurus.1" ||
	    wrong "pagurus.1 does not name pagurus-$c"
done
[ "$n" -gt 10 ] || wrong "only $n commands"

if command -v groff >/dev/null 2>&1; then
	for page in "$man"/*.1; do
		groff -man -Tutf8 -ww -z "$page" >"$dir/warn" 2>&1
		[ -s "$dir/warn" ] && wrong "$(cat "$dir/warn")"
	done
else
	echo "no groff: the pages are not rendered"
fi
exit $fail
