"""A stock guest with its VF moves to another host and back, traffic running."""

from labkit import pagurus

LIMIT = 600
GUEST = "10.78.1.100"


def scenario(lab):
    a, b = lab.hosts("a", "b", nics=2)
    tls = lab.tls(a, b)
    for h in (a, b):
        pagurus.card_pf(h)
    # The peer is another card of b, which knows nothing of all this.
    b.nics[1].up()
    b.spawn("exec load echo 5000")
    peer = b.nics[1].address

    lab.step("the guest boots on a, its VF has link")
    g = pagurus.run(a)
    dev = g.vf_up(GUEST)
    g.run("ping -c 2 -W 5 " + peer)
    pagurus.wait_direct(lab, a)
    g.run("dmesg > /tmp/dmesg")
    traffic = pagurus.Traffic(lab, g, peer)

    for src, dst in ((a, b), (b, a)):
        r = pagurus.move(lab, g, src, dst, tls)
        lab.equal("action", r["plan"][0]["action"], "keep")
        lab.step("the guest goes on at %s, its VF direct" % dst)
        g.run("ping -c 2 -W 5 " + peer)
        pagurus.wait_direct(lab, dst)
        pagurus.announced(lab, dst)
        lab.step("nothing is left at %s" % src)
        lab.equal("control sockets", str(src.run(
            "ls /run/pagurus | grep -v ^pf0; true")), "")

    traffic.end()
    lab.equal("news in the guest's log", str(g.run(
        "dmesg | diff /tmp/dmesg - | grep '^+' | "
        "grep -i -e igbvf -e '%s:' -e reset; true" % dev)), "")
    g.send("poweroff -f")
    g.command.wait(60)
