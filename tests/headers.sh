#!/bin/sh
# Compile every header of src/ alone.  usage: headers.sh SOURCE-ROOT CC...
set -u
root=$1
shift
fail=0 n=0
for h in $(cd "$root/src" && find . -name '*.h' | sed 's,^\./,,' | sort); do
	n=$((n + 1))
	if ! printf '#include "%s"\n#include "%s"\n' "$h" "$h" |
	    "$@" -x c -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror \
	    -Wno-unused-parameter -I"$root/src" -fsyntax-only -; then
		echo "src/$h does not compile alone"
		fail=$((fail + 1))
	fi
done
echo "$n headers, $fail do not compile alone"
[ "$n" -gt 0 ] && [ "$fail" -eq 0 ]
