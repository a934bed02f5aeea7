"""A stock kernel owns a VF: link, ping, 64 MiB each way, no exit for a doorbell.

The PF is the host kernel's, so that the mailbox page stays trapped; the pages
of the rings are direct.
"""

from labkit import pagurus

LIMIT = 1200
EXTRA = ["setpriv"]
MIB = 64

RUN = """exec pagurus run --name g --kernel /tree/guest/vmlinuz \
    --initrd /tree/guest/initrd --mem 384M --cpus 2 --vf %s --console stdio \
    --append "console=ttyS0 mitigations=off panic=-1 quiet" """


def status(host):
    return host.run("pagurus status g --json").json()


def doorbells(st):
    """Intercepted accesses of the pages that hold RX and TX tails."""
    dev = st["devices"][0]
    return dev["counts"]["doorbell"] + sum(
        p["reads"] + p["writes"] for p in dev["pages"]
        if p["bar"] == 0 and p["page"] in (2, 3))


def scenario(lab):
    a, b = lab.hosts("a", "b")
    b.nic.up()
    vf = a.nic.vfs(1)[0]

    lab.step("what cannot work is refused before anything starts")
    a.nic.bind("igbvf", vf)
    r = a.fails(RUN % vf)
    lab.check("the driver is named", "bound to igbvf" in r.out, r.out)
    a.nic.bind("vfio-pci", vf)
    r = a.fails(RUN % (vf + ",vf-token=2ab74924-c335-45f4-9b16-8569e5b08258"))
    lab.check("the token is refused", "leave vf-token= out" in r.out, r.out)
    r = a.fails("ulimit -l 65536; exec setpriv --bounding-set -ipc_lock "
                "--inh-caps -ipc_lock " + (RUN % vf).replace("exec ", ""))
    lab.check("the limit is named",
              "384 MiB of guest RAM cannot be pinned" in r.out and
              "ulimit -l" in r.out, r.out)
    lab.check("nothing is left behind",
              not a.run("ls /run/pagurus 2>/dev/null; true").out.strip())

    lab.step("the guest boots")
    g = a.guest(RUN % vf)
    lab.equal("CPUs", g.run("nproc").out.strip(), "2")

    lab.step("igbvf binds and has link")
    dev = g.vf_up("10.78.0.100")
    lab.equal("MAC", str(g.run("cat /sys/class/net/%s/address" % dev)),
              a.nic.vf_mac(0))
    st = status(a)
    lab.equal("model", st["devices"][0]["model"], "igb/82576")
    lab.equal("direct pages of BAR 0", [
        p["direct"] for p in st["devices"][0]["pages"] if p["bar"] == 0],
        [False, True, True, True])
    lab.equal("why not page 0", st["devices"][0]["pages"][0]["reasons"],
              ["kernel"])

    lab.step("ping to the other host")
    g.run("ping -c 5 -W 2 " + b.data)

    before = status(a)
    pagurus.bulk(lab, g, b, MIB)

    lab.step("no exit for a doorbell")
    after = status(a)
    lab.equal("exits of RX and TX pages", doorbells(after), 0)
    lab.equal("exits of the interrupt page", [
        p["reads"] + p["writes"] for p in after["devices"][0]["pages"]
        if p["bar"] == 0 and p["page"] == 1], [0])
    # igbvf looks at its mailbox and 9 counters every 2 s, whatever flows.
    mmio = after["exits"]["mmio"] - before["exits"]["mmio"]
    ticks = (after["uptime_s"] - before["uptime_s"]) / 2
    lab.check("exits of the mailbox page are the watchdog's",
              mmio <= 15 * (ticks + 1), "%d in %d ticks" % (mmio, ticks))
    lab.say("exits during 2 x %d MiB: %s" % (MIB, {
        k: after["exits"][k] - before["exits"][k] for k in after["exits"]}))
    n = str(g.run("cat /proc/interrupts | grep %s" % dev).out)
    lab.say("interrupts of the guest:\n" + n)

    lab.step("a second VM cannot have the name, nor the VF")
    r = a.fails(RUN % vf)
    lab.check("the name is in use", "runs already" in r.out, r.out)
    r = a.fails((RUN % vf).replace("--name g", "--name h"))
    lab.check("the VF is in use", "in use by another process" in r.out, r.out)

    lab.step("power off, and again after a kill")
    g.send("poweroff -f\n")
    g.command.wait(60)
    lab.check("no socket is left",
              not a.run("ls /run/pagurus").out.strip())
    g = a.guest(RUN % vf)
    g.command.kill("KILL")
    g.command.wait(30, check=False)
    g = a.guest(RUN % vf)
    g.vf_up("10.78.0.100")
    g.run("ping -c 2 -W 2 " + b.data)
    a.run("pagurus stop --force g")
    g.command.wait(30)
