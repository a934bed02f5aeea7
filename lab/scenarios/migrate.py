"""A stock guest with its VF moves to another host and back, traffic running."""

import json

LIMIT = 600
MARK = "10.78.1.100"	# the guest
PORT = 4747

RUN = """exec pagurus run --name g --kernel /tree/guest/vmlinuz \
    --initrd /tree/guest/initrd --mem 128M --vf %s \
    --append "console=ttyS0 mitigations=off panic=-1 quiet" --console stdio"""
RECEIVE = """exec pagurus receive --name g --listen %s:%d --tls %s --vf %s \
    --console stdio"""
VF = "pf:/run/pagurus/pf0.pf,vf=0"


def pf(h):
    """The host's PF and two VFs, driven by pagurus pf."""
    h.nic.pf_to_vfio()
    h.spawn("exec pagurus pf --name pf0 --vfs 2 " + h.nic.bdf)
    h.wait_for("test -S /run/pagurus/pf0.pf", 60)


def status(h):
    return h.run("pagurus status g --json").json()


def move(lab, g, a, b, tls):
    """Migrate from a to b, whose console is the guest's from then on."""
    c = b.spawn(RECEIVE % (b.mgmt, PORT, tls, VF), stdin=True)
    c.expect("listening on")
    r = a.run("pagurus migrate --json --tls %s --report /tmp/report.html g "
              "%s:%d" % (tls, b.mgmt, PORT), timeout=240)
    g.command.wait(60, check=False)
    g.adopt(c)
    a.get("/tmp/report.html")
    result = json.loads(r.lines[-1])
    lab.say("%.1f s, %d rounds, %.0f ms of outage: %s" % (
        result["total_ns"] / 1e9, result["rounds"],
        result["downtime_ns"] / 1e6, ", ".join(
            "%s %.0f" % (p["phase"], p["ns"] / 1e6)
            for p in result["phases"] if p["outage"])))
    lab.equal("plan", result["plan"][0]["action"], "keep")


def direct(lab, h):
    """Wait until the guest reaches all of its VF without us."""
    def pages():
        dev = status(h)["devices"][0]
        return [p["direct"] for p in dev["pages"] if p["bar"] == 0]

    for _ in range(20):
        now = pages()
        if all(now):
            return
        lab.sleep(1)
    lab.equal("direct pages of BAR 0 on %s" % h, now, [True] * 4)


def scenario(lab):
    a, b = lab.hosts("a", "b", nics=2)
    tls = lab.tls(a, b)
    for h in (a, b):
        pf(h)
    # The peer is another card of b, which knows nothing of all this.
    b.nics[1].up()
    b.spawn("exec load echo 5000")
    peer = b.data.replace("10.78.0", "10.78.1")

    lab.step("the guest boots on a, its VF has link")
    g = a.guest(RUN % VF)
    dev = g.vf_up(MARK)
    g.run("ping -c 2 -W 5 " + peer)
    direct(lab, a)
    g.run("dmesg > /tmp/dmesg")

    lab.step("a verified stream and 100 datagrams a second")
    g.run("load tcp %s 5000 0 > /tmp/t & echo $! > /tmp/pids; "
          "load udp %s 5000 100 0 > /tmp/u & echo $! >> /tmp/pids" % (
              peer, peer))
    lab.sleep(3)

    for src, dst in ((a, b), (b, a)):
        lab.step("it moves from %s to %s" % (src, dst))
        move(lab, g, src, dst, tls)
        direct(lab, dst)
        lab.step("%s's VF is free again" % src)
        src.wait_for("! pagurus status g --json", 20)
        lab.step("the guest goes on at %s" % dst)
        g.run("ping -c 2 -W 5 " + peer)
        lab.sleep(3)

    lab.step("what the guest noticed")
    g.run("kill $(cat /tmp/pids); sleep 4", timeout=90)
    t, u = (g.run("cat /tmp/" + f).json() for f in "tu")
    lab.say("stream: %s" % t)
    lab.say("datagrams: %s" % u)
    lab.check("one connection, intact", not t["broken"] and not t["corrupt"],
              t)
    lab.check("it carried something", t["bytes"] > 100000, t)
    lab.check("none doubled, none damaged",
              not u["doubled"] and not u["corrupt"], u)
    lab.equal("news in the guest's log", str(g.run(
        "dmesg | diff /tmp/dmesg - | grep -i -e igbvf -e '%s' -e reset; true"
        % dev)), "")
    g.send("poweroff -f")
    g.command.wait(60)
