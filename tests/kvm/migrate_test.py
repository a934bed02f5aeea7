#!/usr/bin/env python3
"""Live migration between two hosts made of processes, as a person would.

Each case is a function; its docstring is what it shows.  A VM with a VF
exchanges numbered, checked frames with a peer all the while.

usage: migrate_test.py BUILD [CASE...]
PAGURUS_MIGRATIONS=N makes the long case longer (4).
"""

import json
import os
import re
import signal
import socket
import sys
import threading
import time

from moves import (LOAD, TRAFFIC, During, ask, check, clean, credentials,
                   direct, flows, main, pair, shut)

N = int(os.environ.get("PAGURUS_MIGRATIONS", "4"))


def there_and_back(rig):
    """A VM moves there and back again and again; its driver is never reset.
    Every page of RAM is compared at each switch-over."""
    a, b, vm, peer = pair(rig, more=LOAD)
    v0 = ask(vm)["V"]
    outages, pages = [], 0
    for i in range(N):
        src, dst = ((a, b), (b, a))[i % 2]
        inc = dst.receive("mover", vf=0)
        r = src.migrate("mover", inc, more=["--verify"])[1]
        pages += r["verified_pages"]
        check("all of RAM was compared",
              r["verified_pages"] == (64 << 20) // 4096, r["verified_pages"])
        check("it was kept", r["plan"][0]["action"] == "keep", r["plan"])
        total = sum(p["ns"] for p in r["phases"] if p["outage"])
        check("the outage is the sum of its phases",
              abs(total - r["downtime_ns"]) < 1e6, r)
        parts = {p["name"]: p["save_ns"] + p["load_ns"] for p in r["parts"]}
        check("each part's share", set(parts) == {"machine", "net0"} and
              all(p["load_ns"] > 0 and p["save_ns"] > 0 for p in r["parts"]),
              r["parts"])
        share = sum(parts.values()) + r["devices"]["net0"]["drain_ns"]
        check("no more than the outage", 0 < share <= r["downtime_ns"],
              (share, r["downtime_ns"], r["parts"]))
        check("state is small", r["state_bytes"] < 65536, r["state_bytes"])
        check("the source ends with 0", vm.wait() == 0, vm.tail())
        vm = inc
        flows(vm, peer)
        direct(dst, "mover")
        outages.append(r["downtime_ns"] / 1e6)
    lost = clean(vm, peer)
    # Whatever is missing was dropped by the wire, for which this is more
    # than it carries, came while the guest was nowhere, or was the one frame
    # a move that a NIC held when its queue was switched off: a completion
    # that was lost would have stopped the driver.
    nics = [h.nic_counts() for h in (a, b)]
    wire = sum(n["wire_lost"] + n["no_buffer"] for n in nics)
    check("all that was sent and not lost on the wire was heard",
          lost[1] <= wire + N, (lost, nics))
    check("all that came while it was there was heard",
          lost[0] <= wire + sum(n["filtered"] for n in nics), (lost, nics))
    v = ask(vm)["V"]
    check("no reset, no link change",
          v["reinits"] == v0["reinits"] and v["downs"] == v0["downs"], (v0, v))
    outages.sort()
    t = ask(vm, "T")["T"]
    print("    %d migrations, %d pages compared, outage median %.1f ms, worst "
          "%.1f ms; frames sent %d, heard %d, lost %s, of that on "
          "the wire %d" %
          (N, pages, outages[len(outages) // 2], outages[-1], t["sent"],
           t["got"], lost, wire))


def with_interrupts(rig):
    """The same for a driver that sleeps until interrupted."""
    a, b, vm, peer = pair(rig, more=TRAFFIC.replace("poll", "irq"))
    inc = b.receive("mover", vf=0)
    a.migrate("mover", inc)
    flows(inc, peer)
    clean(inc, peer)
    check("interrupts", ask(inc)["V"]["irq"] >= 0)


def a_report_of_three_parts(rig):
    """Under traffic a report knows its rate before, during and after; the
    source's VF is free and the command has said where the VM is before the
    last of that has come."""
    a, b, vm, peer = pair(rig)
    inc = b.receive("mover", vf=0)
    path = os.path.join(rig.dir, "report.html")
    r = a.migrate("mover", inc, more=["--report", path])[1]
    t = r["traffic"]
    for part in ("before", "shadowing", "after"):
        check("frames " + part, t[part]["frames_per_s"] > 0 and
              t[part]["bytes_per_s"] > t[part]["frames_per_s"], t)
    check("the outage", t["outage"]["ns"] > 0 and
          t["outage"]["frames_per_s"] < t["before"]["frames_per_s"], t)
    check("ratios", abs(t["after_to_before"] * t["before"]["frames_per_s"] -
                        t["after"]["frames_per_s"]) < 1, t)
    check("frames are of this size", 500 < t["after"]["bytes_per_s"] /
          t["after"]["frames_per_s"] < 530, t)
    after = r["samples_after"]
    check("samples go on", len(after) > 10 and after[-1][1] > 0 and
          all(x[0] < y[0] and x[1] <= y[1] for x, y in zip(after, after[1:])),
          after)
    check("what was sent again", 0 < r["resent"]["changed_pages"] <=
          r["resent"]["pages"], r["resent"])
    with open(path) as f:
        page = f.read()
    for word in ("before: direct at the source", "during: shadowed",
                 "the outage", "after: at the destination",
                 "Dirty precision"):
        check("the page has '%s'" % word, word in page, page[-3000:])
    flows(inc, peer)
    check("the source ends with 0", vm.wait() == 0, vm.tail())
    # Without a report none of it is waited for.
    vm, inc = inc, a.receive("mover", vf=0)
    r = b.migrate("mover", inc)[1]
    check("no baseline", "baseline" not in [p["phase"] for p in r["phases"]]
          and "after" not in r["traffic"] and "resent" not in r, r["traffic"])
    flows(inc, peer)
    clean(inc, peer)


def let_go(host, vm):
    """The source of a move keeps neither VM nor VF, if it is there at all."""
    seen = []
    while vm.alive() and seen.count("paused") < 20:
        try:
            s = host.status("mover")
        except Failed:
            break
        seen.append(s["state"])
        if s["state"] == "empty" and not s["devices"]:
            return
        time.sleep(0.02)
    check("the source has let go", not vm.alive() or
          seen.count("paused") < 20, seen)


def gone_at_once(rig):
    """While the report's last part is awaited the source has let go: its VF
    backs another VM, and what becomes of its process, or of what is awaited,
    changes nothing."""
    a, b, vm, peer = pair(rig)
    for kill in (False, True):
        inc = b.receive("mover", vf=0)
        d = During(a, inc, more=("--report",
                                 os.path.join(rig.dir, "report.html")))
        d.at("done")
        # It runs there and does not get to say how.
        inc.p.send_signal(signal.SIGSTOP)
        try:
            let_go(a, vm)
            other = a.run("other%d" % kill, "id=3 " + TRAFFIC, vf=0)
            other.expect(r"^G ready")
            if kill:
                vm.kill()
            rc, r, err = d.end()
        finally:
            inc.p.send_signal(signal.SIGCONT)
        check("it moved", rc == 0 and r["outcome"] == 0, (rc, r, err))
        check("and the page says what is not known",
              "after" not in r["traffic"] and r["traffic"]["shadowing"], r)
        flows(inc, peer)
        clean(inc, peer)
        other.end()
        vm.wait()
        if not kill:
            vm = a.receive("mover", vf=0)
            b.migrate("mover", vm)
            inc.wait()


def over_tls(rig):
    """TLS 1.3 both ways; a certificate of another authority is refused."""
    a, b, vm, peer = pair(rig)
    mine, theirs = credentials(rig, "a"), credentials(rig, "b")
    evil = credentials(rig, "a", ca="evil")
    inc = b.receive("mover", vf=0, more=["--tls", theirs],
                    listen="127.0.0.1:0")
    rc, r = a.migrate("mover", inc, more=["--tls", evil], ok=False)
    check("another authority", rc == 1, r)
    rc, r = a.migrate("mover", inc, ok=False)
    check("plain TCP unasked", rc == 1 and r is None, r)
    flows(vm, peer)
    r = a.migrate("mover", inc, more=["--tls", mine])[1]
    check("TLS 1.3", r["transport"].startswith("TLSv1.3"), r["transport"])
    flows(inc, peer)
    clean(inc, peer)


def a_check_moves_nothing(rig):
    """`check` answers with inputs and reason, and can be asked again."""
    a, b, vm, peer = pair(rig)
    inc = b.receive("mover", vf=0)
    for _ in range(2):
        p = rig.pagurus("check", "--dir", a.dir, "--json", "mover", inc.addr)
        check("check", p.returncode == 0, p.stderr)
        plan = json.loads(p.stdout)["plan"][0]
        check("inputs are there", plan["device"]["type"] == "82576" and
              plan["offer"]["type"] == "82576" and plan["reason"], plan)
    empty = b.receive("mover2")
    p = rig.pagurus("check", "--dir", a.dir, "mover", empty.addr)
    check("nothing to back it", p.returncode == 1 and
          "has no VF for it" in p.stdout, p.stdout)
    rc, r = a.migrate("mover", empty, ok=False)
    check("refused before any RAM", rc == 1 and r["rounds"] == 0, r)
    p = rig.pagurus("migrate", "--dir", a.dir, "mover", empty.addr)
    check("its decision, and no figures of what was not",
          p.returncode == 1 and "device" in p.stdout and
          not re.search("total|outage", p.stdout), p.stdout)
    flows(vm, peer)
    clean(vm, peer)


class Wire:
    """The other end of a NIC's wire: all frames that came, and when."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.s.bind(path + ".peer")
        self.frames = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            self.frames.append((self.s.recv(10240), time.monotonic()))


def announced(rig):
    """The destination's switch learns where the guest is: RARP from each of
    its addresses, five rounds, the first within 100 ms."""
    path = os.path.join(rig.dir, "outside")
    wire = Wire(path)
    (a,) = rig.hosts("a")
    (b,) = rig.hosts("b", wire="unix:" + path)
    vm = a.run("mover", "id=1 " + TRAFFIC, vf=0)
    vm.expect(r"^G ready")
    inc = b.receive("mover", vf=0)
    a.migrate("mover", inc)
    t0 = time.monotonic()
    pf = lambda: json.loads(rig.pagurus("status", "--dir", b.dir, "--json",
                                        "pf0").stdout)["vfs"][0]
    mac = bytes(int(x, 16) for x in pf()["mac"].split(":"))
    want = (b"\xff" * 6 + mac + bytes.fromhex("8035000108000604" "0003") +
            mac + bytes(4) + mac + bytes(4)).ljust(60, b"\0")
    deadline = time.monotonic() + 120
    got = []
    while len(got) < 5 and time.monotonic() < deadline:
        got = [(f, t) for f, t in wire.frames if f[12:14] == b"\x80\x35"]
        time.sleep(0.02)
    check("five rounds", len(got) == 5, [(f.hex(), t - t0) for f, t in got])
    check("right bytes", all(f == want for f, t in got), got[0][0].hex())
    # On a slow machine the later rounds are slow, too.
    check("at once", got[0][1] - t0 < max(0.1, got[1][1] - got[0][1]),
          [t - t0 for f, t in got])
    check("counted", pf()["announced"] == 5 and pf()["unannounced"] == 0, pf())
    check("and by the VM",
          b.status("mover")["devices"][0]["announce"]["times"] == 1)


def cancel(rig):
    """Ctrl-C in pre-copy: the VM goes on here, direct, and can still move."""
    a, b, vm, peer = pair(rig)
    inc = b.receive("mover", vf=0)
    d = During(a, inc)
    d.at("pre-copy")
    d.p.send_signal(signal.SIGINT)
    rc, r, err = d.end()
    check("exit status", rc == 1, (rc, r, err))
    check("reason", "cancelled" in r["reason"], r["reason"])
    flows(vm, peer)
    direct(a, "mover")
    check("the receiver has ended", inc.wait() != 0)
    inc = b.receive("mover", vf=0)
    a.migrate("mover", inc)
    flows(inc, peer)
    clean(inc, peer)


def one_at_a_time(rig):
    """Neither a rebind during a migration, nor either of a VM that arrives."""
    a, b, vm, peer = pair(rig)
    inc = b.receive("mover", vf=0)
    d = During(a, inc, more=("--bandwidth", "8M"))
    d.at("pre-copy")
    p = rig.pagurus("rebind", "--dir", a.dir, "--vf", a.vf(2), "mover")
    check("no rebind during it", p.returncode == 1 and
          "a migration is going on" in p.stderr, (p.returncode, p.stderr))
    p = rig.pagurus("rebind", "--dir", b.dir, "--vf", b.vf(2), "mover")
    check("nor where it arrives", p.returncode == 1 and
          "no VM runs here" in p.stderr, (p.returncode, p.stderr))
    p = rig.pagurus("migrate", "--dir", b.dir, "--json", "mover",
                    "unix:" + os.path.join(rig.dir, "nobody"))
    check("nor does it go on from there", p.returncode != 0 and
          "no VM runs here" in p.stdout + p.stderr, (p.stdout, p.stderr))
    rc, r, err = d.end()
    check("it moves all the same", rc == 0, (rc, r, err))
    flows(inc, peer)
    p = rig.pagurus("rebind", "--dir", b.dir, "--vf", b.vf(2), "mover")
    check("and then it may", p.returncode == 0, p.stderr)
    flows(inc, peer)
    direct(b, "mover")
    clean(inc, peer)


def runs_once(vm, inc):
    """Exactly one of them is a machine."""
    alive = [p.name for p in (vm, inc) if p.alive()]
    check("one machine", len(alive) == 1, alive)


def kill_destination(rig):
    """kill -9 of the destination, phase by phase: the source goes on."""
    a, b, vm, peer = pair(rig)
    for phase in ("check", "prepare", "engage", "pre-copy"):
        inc = b.receive("mover", vf=0)
        d = During(a, inc)
        d.at(phase)
        inc.kill()
        inc.wait()
        rc, r, err = d.end()
        check("killed in %s: still here" % phase, rc == 1, (rc, r, err))
        runs_once(vm, inc)
        flows(vm, peer)
        direct(a, "mover")
    inc = b.receive("mover", vf=0)
    a.migrate("mover", inc)
    flows(inc, peer)
    clean(inc, peer)


def kill_source(rig):
    """kill -9 of the source in pre-copy: the destination gives up, the VF
    can be had again."""
    a, b, vm, peer = pair(rig)
    inc = b.receive("mover", vf=0)
    d = During(a, inc)
    d.at("pre-copy")
    vm.kill()
    vm.wait()
    d.end()
    check("the destination does not run half a VM", inc.wait() == 1,
          inc.tail())
    vm = a.run("again", "id=3 " + TRAFFIC, vf=0)
    vm.expect(r"^G ready")
    flows(vm, peer)


def kill_pf(rig):
    """The PF driver of the source dies in pre-copy and another takes over."""
    a, b, vm, peer = pair(rig)
    inc = b.receive("mover", vf=0)
    d = During(a, inc)
    d.at("pre-copy")
    a.pf.kill()
    a.pf.wait()
    a.start_pf()
    rc, r, err = d.end()
    check("a decision", rc in (0, 1), (rc, r, err))
    now = inc if rc == 0 else vm
    flows(now, peer)
    clean(now, peer)


def kill_destination_nic(rig):
    """The destination's NIC dies in pre-copy: the VM is at one place only."""
    a, b, vm, peer = pair(rig)
    inc = b.receive("mover", vf=0)
    d = During(a, inc)
    d.at("pre-copy")
    b.nic.kill()
    rc, r, err = d.end()
    check("still here", rc == 1, (rc, r, err))
    check("vCPUs run", a.status("mover")["state"] == "running")
    direct(a, "mover")


class Proxy(threading.Thread):
    """Between source and destination; spoils byte number 'at' or cuts."""

    def __init__(self, rig, to, at, cut):
        super().__init__(daemon=True)
        self.addr = os.path.join(rig.dir, "proxy%d" % at)
        self.to, self.at, self.cut, self.n = to, at, cut, 0
        self.lock = threading.Lock()
        self.s = socket.socket(socket.AF_UNIX)
        self.s.bind(self.addr)
        self.s.listen(16)
        self.conns = []
        self.start()

    def run(self):
        while True:
            try:
                a, _ = self.s.accept()
                b = socket.socket(socket.AF_UNIX)
                b.connect(self.to)
            except OSError:
                return
            self.conns += [a, b]
            for x, y, spoil in ((a, b, True), (b, a, False)):
                threading.Thread(target=self.copy, args=(x, y, spoil),
                                 daemon=True).start()

    def copy(self, x, y, spoil):
        try:
            while True:
                data = bytearray(x.recv(65536))
                if not data:
                    break
                with self.lock:
                    first, self.n = self.n, self.n + len(data) * spoil
                if spoil and first <= self.at < first + len(data):
                    if self.cut:
                        shut(*self.conns)
                        return
                    data[self.at - first] ^= 0x10
                y.sendall(data)
        except OSError:
            pass
        shut(x, y)


def spoiled_stream(rig):
    """A flipped bit or a cut anywhere in the stream is noticed; the VM stays."""
    a, b, vm, peer = pair(rig)
    for at, cut in ((10, False), (150, False), (200000, False),
                    (300000, True), (1500000, False), (1800000, True)):
        inc = b.receive("mover", vf=0)
        proxy = Proxy(rig, inc.addr[len("unix:"):], at, cut)
        rc, r = a.migrate("mover", "unix:" + proxy.addr, ok=False)
        check("at %d: still here" % at, rc == 1, (rc, r and r["reason"]))
        flows(vm, peer)
        proxy.s.close()
        inc.end()
    direct(a, "mover")
    inc = b.receive("mover", vf=0)
    a.migrate("mover", inc)
    flows(inc, peer)
    clean(inc, peer)


def other_generation(rig):
    """82576 -> I350 -> 82576: quiesced, deleted, rebuilt by the driver."""
    a, b, vm, peer = pair(rig, models=["82576", "i350"],
                          more=TRAFFIC + " holdoff_ms=500 tick_ms=200")
    for i, (src, dst) in enumerate(((a, b), (b, a))):
        inc = dst.receive("mover", vf=0)
        r = src.migrate("mover", inc)[1]
        print("    " + " ".join("%s %.0f" % (p["phase"], p["ns"] / 1e6)
                                for p in r["phases"]) + " ms")
        check("it was rebuilt", r["plan"][0]["action"] == "rebuild", r["plan"])
        check("and says why", "82576" in r["plan"][0]["reason"] and
              "i350" in r["plan"][0]["reason"], r["plan"][0]["reason"])
        vm.wait()
        vm = inc
        flows(vm, peer)
        d = direct(dst, "mover")
        check("the identity stays", d["model"] == "igb/82576", d["model"])
        check("the generation is the new one",
              d["generation"] == ("igb/i350", "igb/82576")[i], d)
        v = ask(vm)["V"]
        # At least once a move: on a busy machine its wait for an answer, a
        # second, may run out and it tries again.
        check("the driver rebuilt its rings", v["reinits"] > i, v)
    clean(vm, peer)


def rebind(rig):
    """Another VF of the same host, of the same and of another generation."""
    a, b, vm, peer = pair(rig, models=["82576", "i350"],
                          more=TRAFFIC + " holdoff_ms=500 tick_ms=200")
    for spec, action in ((a.vf(2), "keep"), (b.vf(2), "rebuild"),
                         (a.vf(0), "rebuild")):
        p = rig.pagurus("rebind", "--dir", a.dir, "--json", "--vf", spec,
                        "mover")
        check("rebind", p.returncode == 0, p.stderr)
        check("action", json.loads(p.stdout)["action"] == action, p.stdout)
        flows(vm, peer)
        direct(a, "mover")
    p = rig.pagurus("rebind", "--dir", a.dir, "--vf", b.vf(1), "mover")
    check("a VF in use is refused", p.returncode == 1, p.stdout)
    flows(vm, peer)
    clean(vm, peer)


CASES = [there_and_back, with_interrupts, a_report_of_three_parts,
         gone_at_once, over_tls, a_check_moves_nothing, announced, cancel,
         one_at_a_time,
         kill_destination, kill_source, kill_pf, kill_destination_nic,
         spoiled_stream, other_generation, rebind]


if __name__ == "__main__":
    sys.exit(main(CASES, "migrate-test"))
