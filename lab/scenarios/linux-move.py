"""A stock kernel's machine state moves between VMs while it boots and works."""

import os

HERE = os.path.dirname(os.path.abspath(__file__))
EXTRA = [os.path.join(HERE, "../../build/tests/kvm/kvm-boot")]
LIMIT = 500

BOOT = """exec /tree/share/kvm-boot -t 400 -m 160 -c 2 -M 5 \
    -i /tree/guest/initrd \
    -a "console=ttyS0 mitigations=off panic=-1 quiet" /tree/guest/vmlinuz"""

WORK = """
( while :; do echo x; done | md5sum ) >/dev/null 2>&1 &
w=$!
sum=
for i in 1 2 3 4 5 6 7 8; do
    a=$(cut -d. -f1 /proc/uptime)
    sleep 2
    b=$(cut -d. -f1 /proc/uptime)
    [ $((b - a)) -ge 1 ] && [ $((b - a)) -le 4 ] || echo "slept $((b - a))"
    s=$(seq 1 20000 | sha1sum)
    [ "${sum:-$s}" = "$s" ] || echo "another sum"
    sum=$s
done
kill $w
dmesg | grep -v 'and report a bug' |
    grep -Ei "lockup|stall|unstable|BUG|warn|hung" || echo clean
"""


def scenario(lab):
    a = lab.host("a")

    lab.step("it boots, moving every five seconds")
    g = a.guest(BOOT, ready=300)
    lab.equal("CPUs", g.run("nproc").out.strip(), "2")

    lab.step("it works, sleeps and computes as if nothing were")
    r = g.run(WORK, timeout=150)
    lab.equal("what it noticed", r.out.strip(), "clean")

    lab.step("power off")
    g.send("poweroff -f\n")
    m = g.expect("boot: poweroff.*moved ([0-9]+) times in ([0-9.]+) ms", 90)
    lab.say("moved %s times in %s ms" % m.groups())
    lab.check("it moved at least five times", int(m.group(1)) >= 5, m.group(1))
