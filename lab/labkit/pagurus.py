"""Pagurus on the hosts of a scenario: PF drivers, VMs, and their moves."""

import json

PORT = 4747
VF = "pf:/run/pagurus/pf0.pf,vf=0"	# of either PF driver below

RUN = """exec pagurus run --name g --kernel /tree/guest/vmlinuz \
    --initrd /tree/guest/initrd --mem %s --vf %s --console stdio \
    --append "console=ttyS0 mitigations=off panic=-1 quiet" """


def card_pf(h):
    """The igb card's PF on vfio-pci, driven by `pagurus pf`, with two VFs."""
    h.nic.pf_to_vfio()
    h.spawn("exec pagurus pf --name pf0 --vfs 2 " + h.nic.bdf)
    h.wait_for("test -S /run/pagurus/pf0.pf", 60)


def soft_pf(h, model):
    """A software NIC with its PF driver, its wire being the igb card's."""
    h.nic.up()
    h.spawn("exec pagurus nic --dir /run/nic0 --model %s --vfs 2 "
            "--uplink packet:%s" % (model, h.nic.dev))
    h.wait_for("test -S /run/nic0/pf.sock", 30)
    h.spawn("exec pagurus pf --name pf0 --vfs 2 vfio-user:/run/nic0/pf.sock")
    h.wait_for("test -S /run/nic0/vf1.sock && test -S /run/pagurus/pf0.pf",
               60)


def run(h, vf=VF, memory="128M"):
    """A VM named g with a stock guest; its Guest, ready for commands."""
    return h.guest(RUN % (memory, vf))


def status(h):
    return h.run("pagurus status g --json").json()


def device(h):
    return status(h)["devices"][0]


def move(lab, g, src, dst, tls, options=""):
    """Migrate g, whose console is dst's from then on; the result."""
    lab.step("it moves from %s to %s" % (src, dst))
    c = dst.spawn("exec pagurus receive --name g --listen %s:%d --tls %s "
                  "--vf %s --console stdio" % (dst.mgmt, PORT, tls, VF),
                  stdin=True)
    c.expect("listening on")
    r = src.run("pagurus migrate --json --tls %s --report /tmp/report.html %s "
                "g %s:%d" % (tls, options, dst.mgmt, PORT), timeout=240)
    g.command.wait(60, check=False)
    g.adopt(c)
    src.get("/tmp/report.html")
    result = json.loads(r.lines[-1])
    lab.say("%.1f s, %d rounds, %.0f ms of outage: %s" % (
        result["total_ns"] / 1e9, result["rounds"],
        result["downtime_ns"] / 1e6, ", ".join(
            "%s %.0f" % (p["phase"], p["ns"] / 1e6)
            for p in result["phases"] if p["outage"])))
    return result


def wait_direct(lab, h):
    """Wait until rings and interrupts are the guest's own, without exits.

    After a move the first page stays trapped for its statistics, which must
    go on from where they were: a few reads each two seconds.
    """
    def trapped():
        return [p for p in device(h)["pages"] if p["bar"] == 0 and
                not p["direct"] and (p["page"] or
                                     p["reasons"] != ["statistics"])]

    for _ in range(20):
        if not trapped():
            break
        lab.sleep(1)
    lab.equal("pages of BAR 0 trapped on %s" % h, trapped(), [])
    before = device(h)["counts"]["doorbell"]
    lab.sleep(3)
    lab.equal("exits for doorbells on %s" % h,
              device(h)["counts"]["doorbell"], before)


class Traffic:
    """A verified stream and 100 datagrams a second from guest to peer."""

    def __init__(self, lab, g, peer):
        self.lab = lab
        self.g = g
        lab.step("a verified stream and 100 datagrams a second")
        g.run("load tcp %s 5000 0 > /tmp/t & echo $! > /tmp/pids; "
              "load udp %s 5000 100 0 > /tmp/u & echo $! >> /tmp/pids" % (
                  peer, peer))
        lab.sleep(3)

    def end(self):
        """Stop; neither may have noticed more than silence and loss."""
        lab = self.lab
        lab.step("what the traffic noticed")
        self.g.run("kill $(cat /tmp/pids); sleep 4", timeout=90)
        t, u = (self.g.run("cat /tmp/" + f).json() for f in "tu")
        lab.say("stream: %s" % t)
        lab.say("datagrams: %s" % u)
        lab.check("one connection, intact",
                  not t["broken"] and not t["corrupt"], t)
        lab.check("it carried something", t["bytes"] > 100000, t)
        lab.check("none doubled, none damaged",
                  not u["doubled"] and not u["corrupt"], u)
        return t, u
