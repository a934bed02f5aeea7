"""A stock guest moves from an 82576 to an I350 software NIC, and back."""

from labkit import pagurus

LIMIT = 700
GUEST = "10.78.1.100"


def scenario(lab):
    a, b = lab.hosts("a", "b", nics=2)
    tls = lab.tls(a, b)
    pagurus.card_pf(a)
    pagurus.soft_pf(b, "i350")
    # The peer is another card of b, which knows nothing of all this.
    b.nics[1].up()
    b.spawn("exec load echo 5000")
    peer = b.nics[1].address

    lab.step("the guest boots on a's 82576")
    g = pagurus.run(a)
    g.vf_up(GUEST)
    g.run("ping -c 2 -W 5 " + peer)
    was = pagurus.identity(g)
    traffic = pagurus.Traffic(lab, g, peer, datagrams=False)

    lab.step("without leave to use software it is refused and goes on")
    c = b.spawn("exec pagurus receive --name g --listen %s:%d --tls %s "
                "--vf %s" % (b.mgmt, pagurus.PORT, tls, pagurus.VF))
    c.expect("listening on")
    r = a.fails("pagurus migrate -q --tls %s g %s:%d" % (
        tls, b.mgmt, pagurus.PORT), timeout=60)
    lab.check("the reason is told", "--fallback software" in r.out, r.out)
    c.kill()
    c.wait(30, check=False)
    g.run("ping -c 2 -W 5 " + peer)

    for src, dst in ((a, b), (b, a)):
        o = pagurus.Outage(lab, g, peer)
        r = pagurus.move(lab, g, src, dst, tls, "--fallback software")
        plan = r["plan"][0]
        lab.equal("action", plan["action"], "rebuild")
        lab.say("the reason: " + plan["reason"])
        lab.step("the same guest goes on at %s" % dst)
        g.wait_for("ping -c 1 -W 2 " + peer, 60)
        o.end(r["downtime_ns"], sum(p["ns"] for p in r["phases"]
                                    if p["phase"] == "quiesce"))
        lab.equal("boot and probe", pagurus.identity(g), was)

    traffic.end()
    g.send("poweroff -f")
    g.command.wait(60)
