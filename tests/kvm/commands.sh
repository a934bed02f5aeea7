#!/bin/sh
# run, status, console and stop as a person uses them, on the unit guest:
# names, sockets, the console's ends, reboots, the ways to end, exit statuses.
#
# usage: commands.sh PAGURUS GUEST-UNIT
set -u
case ${1:-} in
-h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" && exit ;;
esac
pagurus=$1 guest=$2
# shellcheck source=tests/kvm/lib.sh
. "$(dirname "$0")/lib.sh"

# vm NAME TEST [OPTIONS]: in the background, its process in $vm.
vm() {
	name=$1 test=$2
	shift 2
	"$pagurus" run --name "$name" --kernel "$guest" --mem 32M \
	    --append "test=$test" "$@" >"$dir/$name.log" 2>&1 </dev/null &
	vm=$!
	pids="$pids $vm"
}

# says STATUS TEXT COMMAND...: fails with that status and that message.
says() {
	want=$1 text=$2
	shift 2
	out=$("$@" 2>&1 </dev/null)
	got=$?
	[ "$got" -eq "$want" ] || wrong "$*: exit $got, not $want: $out"
	case $out in
	*"$text"*) ;;
	*) wrong "$*: said '$out', not '$text'" ;;
	esac
}

ended() {
	wait "$vm"
	got=$?
	[ "$got" -eq "$1" ] || wrong "$name ended with $got, not $1"
	[ ! -e "$dir/ctl/$name.sock" ] || wrong "$name left its socket"
}

# What the command line can get wrong, and what the host.
says 64 'name and --kernel are needed' "$pagurus" run
says 64 'at most' "$pagurus" run --name a --kernel "$guest" --cpus 99
says 64 '1 to 32 CPUs' "$pagurus" run --name a --kernel "$guest" --cpus 0
for size in 0 1 3M; do
	says 64 'give a multiple of 2M' \
	    "$pagurus" run --name a --kernel "$guest" --mem "$size"
done
says 64 'not a size, as 512M' "$pagurus" run --name a --kernel "$guest" \
    --mem 16E
says 1 'give the VM less' "$pagurus" run --name a --kernel "$guest" --mem 100T
says 1 "'eth0' names no device" "$pagurus" pf eth0
says 1 'cannot be a name' "$pagurus" run --name a/b --kernel "$guest"
says 1 "$dir/none" "$pagurus" run --name a --kernel "$dir/none"
says 1 'is no model' "$pagurus" run --name a --kernel "$guest" --mem 32M \
    --vf none,model=igb/9
says 1 'needs model=' "$pagurus" run --name a --kernel "$guest" --mem 32M \
    --vf none
says 1 'no such PCI device' "$pagurus" run --name a --kernel "$guest" \
    --mem 32M --vf ffff:1f:1f.7
says 1 "nothing named 'a' runs here" "$pagurus" status a
says 1 "nothing named 'a' runs here" "$pagurus" stop a
says 0 'nothing runs here' "$pagurus" status
[ -z "$(ls "$dir/ctl")" ] || wrong "a VM that did not start left something"

# The guest's own end.
vm a hello --console stdio
ended 42
grep -q 'hello from ring 3' "$dir/a.log" || wrong 'nothing on the console'
vm a end
ended 0
vm a 'end how=1' --no-reboot
ended 0
vm a fault
! wait "$vm" || wrong 'a fault in the guest went unnoticed'

# A guest that waits for input; the console from the control socket.
vm a input --vf none,model=igb/82576
until_true 120 "$pagurus" status a || wrong 'it does not run'
says 1 'runs already' "$pagurus" run --name a --kernel "$guest"
[ "$(stat -c %a "$dir/ctl/a.sock")" = 600 ] || wrong 'mode of the socket'
"$pagurus" status --json a >"$dir/a.json" || wrong 'status'
for want in '"state": "running"' '"model": "igb/82576"' '"unbacked"' \
    '"pio-serial":' '"address": "00:01.0"'; do
	grep -q "$want" "$dir/a.json" || wrong "status has no $want"
done
"$pagurus" status | grep -q '^a  *running' || wrong 'status of all'
says 1 'may not listen to its power button' "$pagurus" stop -t 0 a
# Until it has read one: what comes before it listens may be lost.
says 0 'got x' sh -c \
    "while printf x; do sleep 0.3; done 2>/dev/null | '$pagurus' console a"
ended 0

# Nothing has begun when a migration cannot be asked for like that.
vm a input
until_true 120 "$pagurus" status a || wrong 'it does not run'
says 1 'zstd: level 1 to 19' "$pagurus" migrate --zstd 99 a unix:"$dir/none"
says 1 "report $dir/none/r" "$pagurus" migrate --report "$dir/none/r" a \
    unix:"$dir/none"
says 1 'pagurus migrate: ' "$pagurus" migrate a unix:"$dir/none"
"$pagurus" stop --force a || wrong 'stop --force'
ended 0

# A terminal is what it was, whatever ends its console.
console_ends() {
	python3 - "$pagurus" a <<-'EOF'
	import os, pty, signal, subprocess, sys, termios, time
	for end in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, None):
	    master, tty = pty.openpty()
	    before = termios.tcgetattr(tty)
	    p = subprocess.Popen([sys.argv[1], "console", sys.argv[2]],
	                         stdin=tty, stdout=tty, stderr=tty)
	    for _ in range(2400):
	        if termios.tcgetattr(tty) != before:
	            break
	        time.sleep(0.05)
	    else:
	        sys.exit("the terminal is never raw")
	    if end:
	        p.send_signal(end)
	    else:
	        os.write(master, b"\x1d")
	    if p.wait() != (-end if end else 0):
	        sys.exit("%s: exit %d" % (end, p.returncode))
	    if termios.tcgetattr(tty) != before:
	        sys.exit("%s leaves the terminal raw" % end)
	EOF
}
vm a input
until_true 120 "$pagurus" status a || wrong 'it does not run'
out=$(console_ends 2>&1) || wrong "console: $out"

# A process that is stopped is named, and waited for no longer than that.
kill -STOP "$vm"
says 1 "'kill -CONT $vm'" "$pagurus" status a
says 1 "'kill -CONT $vm'" "$pagurus" status
kill -CONT "$vm"
"$pagurus" stop --force a || wrong 'stop --force'
ended 0

# A socket of its own for the console.
vm a input --console "$dir/a.con"
until_true 120 test -S "$dir/a.con" || wrong 'no console socket'
"$pagurus" stop --force a || wrong 'stop --force'
ended 0
[ ! -e "$dir/a.con" ] || wrong 'the console left its socket'

# The power button: this guest ends with 0 when it sees it.
vm a button --console stdio
until_true 120 grep -q waiting "$dir/a.log" || wrong 'no button test'
"$pagurus" stop a || wrong 'stop'
ended 0

# Reboots are boots of the same process.
vm a 'end how=1'
boots() {
	# shellcheck disable=SC2317  # until_true calls it
	"$pagurus" status --json a | grep -Eq '"boots": ([3-9]|[0-9]{2})'
}
until_true 120 boots || wrong 'it does not reboot'
kill -TERM "$vm"
ended 0

# Killed: the name is free all the same.
vm a input
until_true 120 "$pagurus" status a || wrong 'it does not run'
kill -KILL "$vm"
wait "$vm" 2>/dev/null
[ -e "$dir/ctl/a.sock" ] || wrong 'a killed process cannot clean up'
says 1 "nothing named 'a' runs here" "$pagurus" status a
vm a hello
ended 42

end
