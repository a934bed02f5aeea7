#!/bin/sh
# Whatever a person may start answers --help: with its usage, and nothing else
# is done.
#
# usage: tools_help.sh SOURCE-FOLDER
set -u
cd "$1" || exit 2
fail=0 n=0

for f in ./check ./demo lab/run lab/selftest $(find tools bench tests/kvm fuzz \
    -type f -perm -100); do
	n=$((n + 1))
	if ! out=$("$f" --help 2>&1 </dev/null) ||
	    ! echo "$out" | grep -q "^usage: .*$(basename "$f")"; then
		echo "FAIL: $f --help: $(echo "$out" | head -n 3)"
		fail=1
	fi
done
[ "$n" -gt 15 ] || { echo "FAIL: only $n programs"; fail=1; }
exit $fail
