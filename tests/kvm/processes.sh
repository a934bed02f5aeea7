#!/bin/sh
# The processes a person would start: a software NIC, the driver of its PF,
# two VMs that own a VF each and exchange frames; then the NIC is killed, and
# the VMs go on with another one.
#
# usage: processes.sh PAGURUS GUEST-NET
set -u
case ${1:-} in
-h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" && exit ;;
esac
pagurus=$1 guest=$2
# shellcheck source=tests/kvm/lib.sh
. "$(dirname "$0")/lib.sh"
vm0='' vm1=''

# start_nic N: the NIC, and the driver of its PF.
start_nic() {
	"$pagurus" nic --dir "$dir/nic$1" --vfs 2 --direct-pages 2,3 -v \
	    >>"$dir/nic$1.log" 2>&1 &
	nic=$!
	pids="$pids $nic"
	until_true 120 test -S "$dir/nic$1/pf.sock" || wrong "no NIC"
	"$pagurus" pf --name "pf$1" --vfs 2 "vfio-user:$dir/nic$1/pf.sock" -v \
	    >>"$dir/pf$1.log" 2>&1 &
	pids="$pids $!"
	until_true 120 grep -q 'link is up' "$dir/pf$1.log" ||
	    wrong "no PF driver"
}

# start_vm N ARGUMENTS
start_vm() {
	"$pagurus" run --name "vm$1" --kernel "$guest" --mem 64M \
	    --append "id=$(($1 + 1)) limit_s=1000 $2" \
	    --vf "pf:$dir/ctl/pf1.pf,vf=$1" --console stdio \
	    >"$dir/vm$1.log" 2>&1 </dev/null &
	eval "vm$1=\$!"
	pids="$pids $!"
}

# got N: frames that guest N has received.
got() {
	sed -n 's/^T .* got=\([0-9]*\) .*/\1/p' "$dir/vm$1.log" | tail -n 1
}

# more N FRAMES: it has received at least that many.
# shellcheck disable=SC2317  # called through until_true
more() {
	[ "$(got "$1")" -ge "$2" ]
}

# unbacked N: VM N has a device with nothing behind it.
# shellcheck disable=SC2317
unbacked() {
	"$pagurus" status --json "vm$1" | grep -q unbacked
}

# longer N LINES: what VM N has printed is.
# shellcheck disable=SC2317
longer() {
	[ "$(wc -l <"$dir/vm$1.log")" -gt "$2" ]
}

start_nic 1

# Every frame is accounted for: the guests' exit status says so.
for n in 0 1; do
	start_vm "$n" "count=200000 size_min=82 size=1514"
done
wait "$vm0" || wrong "the first VM ended with $?"
wait "$vm1" || wrong "the second VM ended with $?"
for n in 0 1; do
	grep -q 'got=200000 lost=0 doubled=0 reordered=0 corrupt=0' \
	    "$dir/vm$n.log" || wrong "frames of VM $n"
done
echo "2 x 200000 frames between two processes, all accounted for"

# A NIC that dies takes nobody with it.
for n in 0 1; do
	start_vm "$n" "stay=1 stat_ms=200"
done
until_true 120 grep -q 'got=[1-9][0-9][0-9]' "$dir/vm1.log" ||
    wrong "no traffic"
kill -9 "$nic"
wait "$nic" 2>/dev/null
for n in 0 1; do
	until_true 120 grep -q 'is gone' "$dir/vm$n.log" ||
	    wrong "nobody was told"
	until_true 120 unbacked "$n" || wrong "VM $n did not notice"
done
lines=$(wc -l <"$dir/vm0.log")
until_true 120 longer 0 "$((lines + 10))" ||
    wrong "the guest hangs without its NIC"
for n in 0 1; do
	eval "kill -0 \$vm$n" 2>/dev/null || wrong "VM $n died with the NIC"
done
echo "the NIC was killed; both VMs ran on"

# Another NIC: the guests' drivers start over on it by themselves.
start_nic 2
for n in 0 1; do
	"$pagurus" rebind --vf "pf:$dir/ctl/pf2.pf,vf=$n" "vm$n" ||
	    wrong "VM $n does not come to the other NIC"
done
for n in 0 1; do
	until_true 120 more "$n" "$(($(got "$n") + 5000))" ||
	    wrong "no traffic on the other NIC"
	# The last line may be half written.
	grep '^T .* gap_us' "$dir/vm$n.log" |
	    grep -qv 'doubled=0 reordered=0 corrupt=0' && wrong "frames"
	grep -q '^R reinit=1 ' "$dir/vm$n.log" || wrong "no re-init"
done
echo "both go on over another NIC"
for n in 0 1; do
	# A test guest has no use for a power button.
	eval "kill -TERM \$vm$n"
	eval "wait \$vm$n" || wrong "VM $n ended with $?"
done
end
