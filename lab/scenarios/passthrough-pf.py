"""A stock kernel owns a VF of a PF driven by `pagurus pf`: no exit at all.

Our PF driver calls back when the mailbox is wanted, so that in steady state
its page is direct like the others.
"""

from labkit import pagurus

LIMIT = 1200
MIB = 64

RUN = """exec pagurus run --name g --kernel /tree/guest/vmlinuz \
    --initrd /tree/guest/initrd --mem 384M --cpus 2 --vf %s --console stdio \
    --append "console=ttyS0 mitigations=off panic=-1 quiet" """
VF = "pf:/run/pagurus/pf0.pf,vf=0"


def status(host):
    return host.run("pagurus status g --json").json()


def scenario(lab):
    a, b = lab.hosts("a", "b")
    b.nic.up()
    a.nic.pf_to_vfio()

    lab.step("the PF driver")
    pf = a.spawn("exec pagurus pf --name pf0 --vfs 2 " + a.nic.bdf)
    a.wait_for("test -S /run/pagurus/pf0.pf", 60)
    lab.equal("VFs", len(a.nic.list_vfs()), 2)

    lab.step("a VF is not opened without its token")
    r = a.fails(RUN % a.nic.list_vfs()[0])
    lab.check("the token is asked for", "vf-token=UUID" in r.out, r.out)

    lab.step("the guest boots")
    g = a.guest(RUN % VF)

    lab.step("igbvf binds and has link")
    dev = g.vf_up("10.78.0.100")

    lab.step("ping to the other host")
    g.run("ping -c 5 -W 2 " + b.data)

    before = status(a)
    lab.equal("direct pages of BAR 0", [
        p["direct"] for p in before["devices"][0]["pages"] if p["bar"] == 0],
        [True] * 4)
    pagurus.bulk(lab, g, b, MIB)

    lab.step("no exit at all")
    after = status(a)
    lab.say("exits during 2 x %d MiB: %s" % (MIB, {
        k: after["exits"][k] - before["exits"][k] for k in after["exits"]}))
    lab.equal("exits of BARs",
              after["exits"]["mmio"] - before["exits"]["mmio"], 0)
    lab.say(g.run("grep %s /proc/interrupts" % dev).out)

    lab.step("power off; the VF is free again")
    g.send("poweroff -f\n")
    g.command.wait(60)
    lab.check("the PF driver goes on", pf.running)
    a.guest(RUN % VF)
    a.run("pagurus stop --force g")
