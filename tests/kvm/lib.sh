# shellcheck shell=sh disable=SC2034  # the sourcing script uses them
# Sourced by the shell tests here: a directory of their own in $dir, control
# sockets under it, processes in $pids that are ended whatever happens.
if ! [ -r /dev/kvm ] || ! [ -w /dev/kvm ]; then
	echo "skipped: /dev/kvm cannot be used"
	exit 77
fi
dir=$(mktemp -d /tmp/pagurus-test-XXXXXX) || exit 1
mkdir "$dir/ctl"
PAGURUS_DIR=$dir/ctl
export PAGURUS_DIR
pids='' fail=0

end() {
	for p in $pids; do
		kill "$p" 2>/dev/null
	done
	wait
	if [ "$fail" -ne 0 ]; then
		for f in "$dir"/*.log; do
			echo "--- $f"
			tail -n 40 "$f"
		done
	fi
	rm -rf "$dir"
	exit "$fail"
}
trap 'fail=1; end' INT TERM

wrong() {
	echo "FAIL: $1"
	fail=1
	end
}

# until_true SECONDS COMMAND...: as soon as the command is.
until_true() {
	tries=$(($1 * 20))
	shift
	while ! "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || return 1
		sleep 0.05
	done
}
