"""Hardware, software NIC, hardware again on one host, under a stock guest."""

from labkit import pagurus

LIMIT = 300
GUEST = "10.78.0.100"
CARD = "pf:/run/pagurus/pf0.pf,vf=0"
SOFT = "pf:/run/pagurus/pf1.pf,vf=0"


def scenario(lab):
    a = lab.hosts("a", nics=2)[0]
    b = lab.host("b")
    pagurus.card_pf(a)
    pagurus.soft_pf(a, "i350", card=1)
    b.nic.up()
    b.spawn("exec load echo 5000")

    lab.step("the guest boots on the 82576")
    g = pagurus.run(a)
    g.vf_up(GUEST)
    g.run("ping -c 2 -W 5 " + b.data)
    was = pagurus.identity(g)
    traffic = pagurus.Traffic(lab, g, b.data, datagrams=False)

    for vf, backing in ((SOFT, "igb/i350"), (CARD, "igb/82576")):
        o = pagurus.Outage(lab, g, b.data)
        r = pagurus.rebind(lab, a, vf)
        lab.equal("action", r["action"], "rebuild")
        g.wait_for("ping -c 1 -W 2 " + b.data, 60)
        lab.equal("generation", pagurus.device(a)["generation"], backing)
        o.end(r["outage_ns"], r["quiesce_ns"])
        lab.equal("boot and probe", pagurus.identity(g), was)

    traffic.end()
    lab.step("the software NIC has nothing of it any more")
    lab.equal("VFs in use", [v["vf"] for v in a.run(
        "pagurus status pf1 --json").json()["vfs"] if v["claimed"]], [])
    g.send("poweroff -f")
    g.command.wait(60)
