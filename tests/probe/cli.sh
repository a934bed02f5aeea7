#!/bin/sh
# What a person types: help, mistakes, a command under probes, a running one.
# usage: cli.sh PAGURUS CORPUS BUSY
set -u
pagurus=$1 corpus=$2 busy=$3
out=$(mktemp) || exit 2
fails=0

# check WHAT STATUS WORDS COMMAND...: that status, and the words in the output.
check() {
	what=$1 want=$2 words=$3
	shift 3
	"$@" >"$out" 2>&1
	got=$?
	if [ "$got" != "$want" ] || ! grep -q -e "$words" "$out"; then
		echo "FAIL $what: status $got, wanted $want and '$words':"
		head -5 "$out"
		fails=$((fails + 1))
	fi
}

# The text is wrapped to the terminal: only what stands in one line.
check help 0 'exit, tail calls included' "$pagurus" probe --help
check 'no function' 64 'which functions' "$pagurus" probe
check 'no target' 64 'PID or -- COMMAND' "$pagurus" probe main
check 'two targets' 64 'PID or -- COMMAND' \
    "$pagurus" probe -p 1 main -- true
check 'too many arguments' 64 '0 to 6' "$pagurus" probe --args 7 main -- true
check 'entry and exit' 64 'one' "$pagurus" probe --entry --exit main -- true
check 'no such program' 1 'No such file' \
    "$pagurus" probe main -- /nonexistent/program
check 'no such process' 1 'no process' "$pagurus" probe -p 2147483000 main
check 'no such function' 1 "no function 'nosuch'" \
    "$pagurus" probe nosuch -- "$corpus" direct
check 'list of a file' 0 'tail call  *to d_g' \
    "$pagurus" probe --list -f "$corpus" d_f
check 'list as JSON' 0 '"kind":"return"' \
    "$pagurus" probe --list --json -f "$corpus" d_g
check 'events' 0 '> d_f(0x0)' \
    "$pagurus" probe --args 1 --ret d_f -- "$corpus" direct
check 'a result' 0 '< d_f = 0x4' \
    "$pagurus" probe --args 1 --ret d_f -- "$corpus" direct
check 'jumps' 0 '~ d_f jumps on' "$pagurus" probe --jumps d_f -- "$corpus" direct
check 'callers' 0 'case_direct+' \
    "$pagurus" probe --stack d_f -- "$corpus" direct
check 'counts' 0 'd_f  *5  *5  *0 ' \
    "$pagurus" probe --count 'd_*' -- "$corpus" direct
check 'histogram' 0 'd_f: latency of 5 calls' \
    "$pagurus" probe --hist 'd_*' -- "$corpus" direct
check 'the status of the program' 2 FUNCTION \
    "$pagurus" probe --count main -- "$corpus" no-such-case
check 'a function of a library' 0 'strtol' \
    "$pagurus" probe --count 'libc*:strtol' -- "$corpus" plt

"$busy" >"$out.busy" &
pid=$!
while ! grep -q ready "$out.busy"; do sleep 0.1; done
check 'a running process, for a second' 0 'b_leaf  *[0-9]' \
    "$pagurus" probe --count -d 1 -p $pid 'b_*'
"$pagurus" probe -p $pid 'b_*' >"$out" 2>&1 &
probe=$!
sleep 1
kill -INT $probe
wait $probe || { echo "FAIL interrupted: status $?"; fails=$((fails + 1)); }
grep -q '< b_leaf' "$out" || { echo 'FAIL interrupted: no events'; fails=$((fails + 1)); }
kill -TERM $pid
wait $pid || { echo "FAIL the probed process: status $?"; fails=$((fails + 1)); }
rm -f "$out" "$out.busy"
echo "$fails failures"
[ "$fails" = 0 ]
