"""Pagurus on the hosts of a scenario: PF drivers, VMs, and their moves."""

import json
import re

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


def soft_pf(h, model, card=0):
    """A software NIC and its PF driver; its wire is igb card number 'card',
    and so is the number of the PF driver's name."""
    nic = h.nics[card]
    nic.up()
    h.spawn("exec pagurus nic --dir /run/nic%d --model %s --vfs 2 "
            "--uplink packet:%s" % (card, model, nic.dev))
    h.wait_for("test -S /run/nic%d/pf.sock" % card, 30)
    h.spawn("exec pagurus pf --name pf%d --vfs 2 vfio-user:/run/nic%d/pf.sock"
            % (card, card))
    h.wait_for("test -S /run/nic%d/vf1.sock && test -S /run/pagurus/pf%d.pf" %
               (card, card), 60)


def run(h, vf=VF, memory="128M"):
    """A VM named g with a stock guest; its Guest, ready for commands."""
    return h.guest(RUN % (memory, vf))


def status(h):
    return h.run("pagurus status g --json").json()


def device(h):
    return status(h)["devices"][0]


def announced(lab, h):
    """The PF driver at h has told the switches of the guest, and its ring
    has sent all of it."""
    lab.sleep(1)
    pf = h.run("pagurus status pf0 --json").json()
    lab.equal("RARP rounds at %s" % h, [
        pf["vfs"][0]["announced"], pf["vfs"][0]["unannounced"],
        pf["tx_pending"]], [5, 0, 0])


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


def rebind(lab, h, vf):
    """Put g's device on another VF of its host h; the result."""
    lab.step("it goes to " + vf)
    result = h.run("pagurus rebind --json --vf %s g" % vf, timeout=60).json()
    lab.say("%s: %s" % (result["action"], result["reason"]))
    return result


def identity(g):
    """What a reboot or a new probe of the driver would change."""
    return (str(g.run("cat /proc/sys/kernel/random/boot_id")),
            str(g.run("dmesg | grep -c 'igbvf.*Address'")))


def undamaged(lab, u):
    lab.check("none doubled, none damaged",
              not u["doubled"] and not u["corrupt"], u)


class Outage:
    """One move as its guest sees it: 100 datagrams a second of its own.

    The guest's clock stands still with its CPUs, so that what they were
    stopped for is added to the silence that it sees.
    """

    def __init__(self, lab, g, peer):
        self.lab = lab
        self.g = g
        g.run("dmesg > /tmp/before; load udp %s 5000 100 0 > /tmp/o & "
              "echo $! > /tmp/opid" % peer)
        lab.sleep(2)

    def end(self, stopped_ns, quiesce_ns):
        """Print the figures: for so long the CPUs were stopped, and for so
        long before that the driver was asked to give up its rings (0: not)."""
        lab = self.lab
        if quiesce_ns:
            self.g.wait_for("dmesg | diff /tmp/before - | "
                            "grep -e 'Link is' | tail -n 1 | grep -q Up", 60)
        lab.sleep(2)
        self.g.run("kill $(cat /tmp/opid); "
                   "until [ -s /tmp/o ]; do sleep 1; done", timeout=30)
        u = self.g.run("cat /tmp/o").json()
        undamaged(lab, u)
        stopped = stopped_ns / 1e6
        link = [(float(m.group(1)), m.group(2)) for m in re.finditer(
            r"^\+\[ *([\d.]+)\] .*Link is (\w+)", self.g.run(
                "dmesg | diff /tmp/before - ; true").out, re.M)]
        away = sum((t if what == "Up" else -t) for t, what in link)
        # Frames that wait in its queues may hide the ends of the latter.
        lab.say("outage seen by the guest: %.0f ms; CPUs stopped: %.0f ms; "
                "link down, by its driver's watchdog and re-init: %.0f ms" %
                (u["gap_ms"] + stopped, stopped, away * 1e3))
        lab.say("frames lost: %d of %d" % (u["lost"], u["sent"]))
        if quiesce_ns:
            lab.equal("the link went down and came back, once",
                      [what for _, what in link], ["Down", "Up"])
            lab.say("from busy to the driver's knock: %.0f ms" %
                    (quiesce_ns / 1e6))
        else:
            lab.equal("news of the link", link, [])
        return u


def bulk(lab, g, host, mib):
    """Random content from a host to the guest and back again."""
    lab.step("%d MiB from the other host" % mib)
    host.run("dd if=/dev/urandom of=/tmp/data bs=1M count=%d 2>/dev/null" %
             mib)
    want = host.run("md5sum < /tmp/data").out.split()[0]
    t = host.spawn("nc -l -p 5001 < /tmp/data")
    host.wait_for("netstat -ltn | grep -q :5001", 20)
    lab.equal("content", g.run("nc %s 5001 > /tmp/data; md5sum < /tmp/data" %
                               host.data, timeout=500).out.split()[0], want)
    t.wait(30)

    lab.step("%d MiB back" % mib)
    # An nc whose input is at its end leaves; a pipe held open keeps it.
    t = host.spawn("mkfifo /tmp/p; exec 3<>/tmp/p; "
                   "nc -l -p 5002 <&3 > /tmp/back; md5sum < /tmp/back")
    host.wait_for("netstat -ltn | grep -q :5002", 20)
    g.run("nc %s 5002 < /tmp/data" % host.data, timeout=500)
    t.wait(60)
    lab.equal("content", t.out.split()[0], want)


class Traffic:
    """A verified stream from guest to peer and, if 'datagrams', 100 of those
    a second."""

    def __init__(self, lab, g, peer, datagrams=True):
        self.lab = lab
        self.g = g
        self.files = "tu" if datagrams else "t"
        lab.step("a verified stream" +
                 " and 100 datagrams a second" * datagrams)
        g.run("load tcp %s 5000 0 > /tmp/t & echo $! > /tmp/pids" % peer)
        if datagrams:
            g.run("load udp %s 5000 100 0 > /tmp/u & echo $! >> /tmp/pids" %
                  peer)
        lab.sleep(3)

    def end(self):
        """Stop; neither may have noticed more than silence and loss."""
        lab = self.lab
        lab.step("what the traffic noticed")
        self.g.run("kill $(cat /tmp/pids); for f in %s; do "
                   "until [ -s /tmp/$f ]; do sleep 1; done; done" %
                   " ".join(self.files), timeout=100)
        t, *u = [self.g.run("cat /tmp/" + f).json() for f in self.files]
        lab.say("stream: %s" % t)
        lab.check("one connection, intact",
                  not t["broken"] and not t["corrupt"], t)
        lab.check("it carried something", t["bytes"] > 100000, t)
        for d in u:
            lab.say("datagrams: %s" % d)
            undamaged(lab, d)
