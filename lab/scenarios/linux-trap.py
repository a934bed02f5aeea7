"""A breakpoint in a stock kernel's function stops the VM each time, and only then."""

import os

HERE = os.path.dirname(os.path.abspath(__file__))
EXTRA = [os.path.join(HERE, "../../build/tests/kvm/kvm-boot")]
LIMIT = 400

BOOT = """exec /tree/share/kvm-boot -t 350 -m 160 -c 2 -B /tmp/bp \
    -i /tree/guest/initrd \
    -a "console=ttyS0 mitigations=off panic=-1 quiet" /tree/guest/vmlinuz"""

CALLS = 20


def scenario(lab):
    a = lab.host("a")

    lab.step("the guest boots")
    g = a.guest(BOOT, ready=300)
    at = g.run("grep ' __x64_sys_sethostname$' /proc/kallsyms").out.split()[0]

    lab.step("the breakpoint is set")
    a.write("/tmp/bp.new", at + "\n")
    a.run("mv /tmp/bp.new /tmp/bp")
    g.expect("breakpoint at .*: Success", 30)

    lab.step("each call stops once and works as without")
    r = g.run("for i in $(seq %d); do hostname h$i; done; hostname" % CALLS)
    lab.equal("name", r.out.strip(), "h%d" % CALLS)
    m = g.expect("breakpoint gone: Success: ([0-9]+) hits, ([0-9]+) odd", 60)
    lab.say(str(m))
    lab.check("every call was seen, and nothing else",
              "%d hits, 0 odd" % CALLS in g.console)

    lab.step("without it the guest goes on")
    lab.equal("name", g.run("hostname x; hostname").out.strip(), "x")
