#!/usr/bin/env python3
"""A mailbox that is struck in each state of an exchange, with the processes a
person would start: seven VMs whose mailboxes are in the seven states at once,
and then what ends an exchange early happens to all of them.

| strike | what |
| --- | --- |
| pf_killed | `pagurus pf` is killed; later another one comes |
| pf_hangs | `pagurus pf` is stopped; later it goes on |
| vf_reset | the guest resets its VF |
| vm_killed | the VM's process is killed |
| vm_hangs | the VM's process is stopped; later it goes on |

And what a policy refuses, as a person sees it (policy).

What must hold of every VM, while the strike lasts: its mailbox page is direct
again (quiesced, it belongs to whoever moves the device), and a guest that
asks gets its answer or its own driver's time-out, once.  And after it: the
guest's driver comes up, and what it is granted the PF driver has.

usage: mailbox_test.py BUILD [CASE...]
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from line import Line  # noqa: E402
from moves import check, main  # noqa: E402
from rig import Failed, ask  # noqa: E402

STATES = ["direct", "trapped", "asked", "answered", "posted", "busy", "held"]
MOVED = ("busy", "held")
APPEND = "id=%d stay=1 mode=poll send=0 tick_ms=200 holdoff_ms=300"
TRIES = 8


def ctl(host, name, method, **params):
    """A call to a process's control socket."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.path.join(host.dir, name + ".sock"))
        s.sendall(json.dumps({"id": 1, "method": method,
                              "params": params}).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            more = s.recv(1 << 20)
            if not more:
                raise Failed("%s: %s hangs up" % (name, method))
            line += more
    answer = json.loads(line)
    if "error" in answer:
        raise Failed("%s: %s: %s" % (name, method, answer["error"]["text"]))
    return answer["result"]


def until(what, fn, seconds=180):
    end = time.monotonic() + seconds
    while True:
        got = fn()
        if got:
            return got
        if time.monotonic() > end:
            raise Failed("waited for: " + what)
        time.sleep(0.02)


class Scene:
    """A VM for each state, on VFs of one PF; their drivers stand still."""

    def __init__(self, rig, states=STATES):
        self.rig, self.states = rig, states
        n = len(rig.procs)  # names of their own for each try
        self.a, self.b = rig.hosts("a%d" % n, "b%d" % n, vfs=7,
                                   models=["82576", "i350"],
                                   wire="unix:%s/wire%d" % (rig.dir, n))
        self.line = Line(os.path.join(self.a.dir, "line"), self.a.pf_socket)
        self.vm, self.moves, self.said = {}, [], {}
        for i, s in enumerate(states):
            self.vm[s] = self.boot(s, i)
        for s in states:
            self.vm[s].expect(r"^G ready")
        for s in states:
            self.comes_up(s)

    def end(self):
        for p in self.rig.procs:
            p.kill(signal.SIGCONT)
        for p in reversed(self.rig.procs):
            if p.alive():
                p.p.terminate()
        for p in self.rig.procs:
            p.wait()
        for m in self.moves:
            m.communicate(timeout=300)
        self.rig.all_hosts.clear()

    def boot(self, s, i):
        return self.a.run("vm-" + s, APPEND % (i + 1),
                          vf="pf:%s,vf=%d" % (self.line.path, i))

    def vf(self, s):
        return self.states.index(s)

    def say(self, s, line, answer, seconds=180):
        """A command of a guest's; its answer, which is a new one."""
        vm = self.vm[s]
        n = len(re.findall(answer, vm.text(), re.M))
        vm.say(line)
        return vm.expect(answer, seconds, n + 1)

    def comes_up(self, s):
        until("link of " + s, lambda: ask(self.vm[s])["V"]["link"] == 1)

    def mailbox(self, s):
        dev = ctl(self.a, "vm-" + s, "status")["devices"][0]
        page = [p for p in dev["pages"] if p["bar"] == 0 and p["page"] == 0]
        # After a move its counters are kept from jumping, for good.
        why = [r for r in page[0]["reasons"] if r != "statistics"]
        check(s + ": it has a mailbox", "mailbox" in dev, dev)
        return dev["mailbox"], not why

    def calm(self, s, seconds=180):
        """The page is direct as far as the mailbox goes, and stays so."""
        end, n = time.monotonic() + seconds, 0
        # A guest that has the lock keeps the host's word waiting: it will
        # be tried again, and the page is direct until then.
        wanted = 1 if s == "trapped" else 8
        while n < wanted:
            m, is_direct = self.mailbox(s)
            n = n + 1 if is_direct and m["state"] == "direct" else 0
            if time.monotonic() > end:
                raise Failed("%s: the page stays trapped: %s" % (s, m))
            time.sleep(0.05)

    def vf_status(self, s):
        return ctl(self.a, "pf0", "status")["vfs"][self.vf(s)]

    def quiesce(self, s):
        """Off to a VF of another generation; its guest does not follow."""
        move = subprocess.Popen(
            [self.rig.program, "rebind", "--dir", self.a.dir, "--vf",
             self.b.vf(self.vf(s)), "vm-" + s], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.moves.append(move)
        until("busy", lambda: self.mailbox(s)[0]["state"] == "busy")

    def arrange(self):
        """Each mailbox into its state, those that last longest first."""
        for s in self.states:
            self.calm(s)
            self.say(s, "freeze 1", r"^O freeze 1")
        for s in self.states:
            if s in MOVED:
                self.quiesce(s)
        if "held" in self.states:
            # It resets and knocks, and nobody over there grants anything.
            self.b.pf.kill(signal.SIGSTOP)
            self.say("held", "freeze 0", r"^O freeze 0")
            until("held", lambda: self.mailbox("held")[0]["state"] == "held")
        if "trapped" in self.states:
            self.say("trapped", "lock 1", r"^O lock 1")
        for s in ("posted", "trapped"):
            if s in self.states:
                ctl(self.a, "pf0", "kick", vf=self.vf(s))
        if "answered" in self.states:
            self.vm["answered"].say("ring 301")
            until("an answer", lambda: self.mailbox("answered")[0]["state"] ==
                  "answered", 5)
        if "asked" in self.states:
            self.line.asked.clear()
            self.line.hold = True
            self.vm["asked"].say("ring 300")
            if not self.line.asked.wait(20):
                raise Failed("nothing was asked")

    def states_at(self, t):
        """What each mailbox was then, by its own trace."""
        was = {}
        for s in self.states:
            was[s] = "direct"
            for e in self.a.trace("vm-" + s):
                if e["what"] == "state" and e["ns"] < t:
                    was[s] = e["state"]
        return was

    # ---- what must hold ----

    def here(self):
        return [s for s in self.states if s not in MOVED]

    def ask_once(self, s, wanted):
        """A guest that asks waits for one time-out of its own at most."""
        m = self.say(s, "vlan 400", r"^O vlan 400 (\w+) timeouts=(\d+)$")
        check(s + ": the answer", m.group(1) in wanted, m.group(0))
        check(s + ": one phase at most", int(m.group(2)) <= 1, m.group(0))

    def goes_on(self):
        """Every driver comes up, and the PF has what it is granted."""
        self.b.pf.kill(signal.SIGCONT)
        for m in self.moves:
            m.communicate(timeout=300)
        for s in self.states:
            self.say(s, "freeze 0", r"^O freeze 0")
            self.vm[s].say("reinit")
        for s in self.states:
            self.granted(s)
            self.calm(s)
            w = ask(self.vm[s])["V"]
            check(s + ": waits for answers", w["polls"] < 2000, w)

    def granted(self, s, vid=401):
        """The driver may be about to start over; once it has, it is."""
        def one():
            self.comes_up(s)
            m = self.say(s, "vlan %d" % vid,
                         r"^O vlan %d (\w+) timeouts=\d+$" % vid)
            return m.group(1) == "granted" and self.has(s) == [vid]
        until("%s: VLAN %d, alone" % (s, vid), one)

    def has(self, s):
        """The VLANs of its VF, wherever that is now."""
        dev = ctl(self.a, "vm-" + s, "status")["devices"][0]
        host = self.b if self.b.dir in dev["pdev"] else self.a
        return ctl(host, "pf0", "status")["vfs"][self.vf(s)]["vlans"]


def strike(rig, what, states=STATES):
    """All of them in their states, and then it happens; try again if one
    was past its state by then: this machine may have been busy."""
    for _ in range(TRIES):
        sc = Scene(rig, states)
        try:
            sc.arrange()
        except Failed as e:
            print("  once more: %s" % e)
            sc.end()
            continue
        t = time.monotonic_ns()
        was = what(sc) or sc.states_at(t)
        late = {s: w for s, w in was.items() if w != s}
        if not late:
            print("  struck in: " + ", ".join(was.values()), flush=True)
            return sc
        print("  once more: %s" % late)
        sc.end()
    raise Failed("they never were in their states all at once")


def pf_killed(rig):
    def kill(sc):
        sc.a.pf.kill()
        sc.a.pf.wait()
        sc.line.release()
    sc = strike(rig, kill)
    for s in sc.here():
        sc.calm(s)
    for s in sc.here():
        sc.ask_once(s, ["unanswered"])
        sc.calm(s)
    os.unlink(sc.a.pf_socket)
    sc.a.start_pf()
    sc.goes_on()


def pf_hangs(rig):
    def stop(sc):
        sc.a.pf.kill(signal.SIGSTOP)
        sc.line.release()  # asked of one that does not answer
    sc = strike(rig, stop)
    for s in sc.here():
        sc.calm(s)
    for s in sc.here():
        sc.ask_once(s, ["unanswered"])
        sc.calm(s)
    sc.a.pf.kill(signal.SIGCONT)
    sc.goes_on()


def vf_reset(rig):
    def reset(sc):
        for s in sc.states:
            if s != "held":  # it has, to get there
                sc.vm[s].say("rst")
    sc = strike(rig, reset)
    for s in sc.states:
        if s != "held":
            sc.vm[s].expect(r"^O rst")
    sc.line.release()
    for s in sc.here():
        sc.calm(s)
    for s in sc.here():
        sc.ask_once(s, ["refused"])
    sc.goes_on()


def vm_hangs(rig):
    def stop(sc):
        for s in sc.states:
            if s != "direct":
                sc.vm[s].kill(signal.SIGSTOP)
        sc.line.release()
        # Nobody else is held up, and nothing said to them is lost.
        sc.say("direct", "freeze 0", r"^O freeze 0")
        sc.granted("direct", 402)
        for _ in range(20):
            ctl(sc.a, "pf0", "kick")
        for s in sc.states:
            sc.vm[s].kill(signal.SIGCONT)
    sc = strike(rig, stop)
    sc.say("direct", "freeze 1", r"^O freeze 1")
    for s in sc.here():
        sc.calm(s)
    sc.goes_on()


def vm_killed(rig):
    def kill(sc):
        was = {}  # a trace dies with its process
        for s in ("asked", "answered", "trapped", "posted", *MOVED, "direct"):
            was[s] = sc.mailbox(s)[0]["state"]
            sc.vm[s].kill()
        for s in sc.states:
            sc.vm[s].wait()
        return was
    sc = strike(rig, kill)
    sc.line.release()
    for s in sc.states:
        v = until("VF of " + s, lambda: not sc.vf_status(s)["claimed"] and
                  sc.vf_status(s))
        check(s + ": nothing is left", not v["clear_to_send"] and
              not v["vlans"], v)
    sc.b.pf.kill(signal.SIGCONT)
    for s in sc.states:
        sc.vm[s] = sc.boot(s, sc.vf(s))
    for s in sc.states:
        sc.granted(s)
        sc.calm(s)


POLICY = """{
  "default": {"vlans": [0]},
  "vf": {
    "0": {"mac": "02:00:00:00:00:01", "vlans": [0, 401], "mtu": 1400},
    "1": {"multicast": %s}
  }
}
"""


def policy(rig):
    """What it refuses is refused towards the guest, counted and shown; and
    the order of an exchange, over two processes by one clock."""
    path = os.path.join(rig.dir, "policy")
    with open(path, "w") as f:
        f.write(POLICY % "31")
    p = rig.pagurus("pf", "-n", "--policy", path)
    check("a mistake has its line", p.returncode == 1 and "line 5" in p.stderr,
          p.stderr)
    with open(path, "w") as f:
        f.write(POLICY % "30")
    p = rig.pagurus("pf", "-n", "--policy", path)
    check("a good one", p.returncode == 0, p.stderr)
    a, = rig.hosts("a", policy=path)
    vm = a.run("vm", APPEND % 1 + " frame=1423", vf=0)
    vm.expect(r"^G ready")
    until("link", lambda: ask(vm)["V"]["link"] == 1)
    for vid, answer in ((500, "refused"), (401, "granted")):
        vm.say("vlan %d" % vid)
        vm.expect(r"^O vlan %d %s timeouts=0" % (vid, answer))
    p = rig.pagurus("status", "--dir", a.dir, "pf0")
    m = re.search(r"^VF 0  vm, 02:00:00:00:00:01 VLANs 401,.*frames to 1522\n"
                  r" +(\d+) requests, (\d+) refused; last: the VLAN is not "
                  r"allowed$", p.stdout, re.M)
    # That frame size, and the VLAN.
    check("status", m and int(m.group(2)) == 2, p.stdout)
    p = rig.pagurus("status", "--dir", a.dir, "--trace", "vm", "pf0")
    at = [0]
    for who, what in (("pf0", "pf-request"), ("pf0", "pf-callback"),
                      ("vm", "callback"), ("vm", "trap"), ("vm", "request"),
                      ("pf0", "pf-verdict"), ("vm", "publish"),
                      ("vm", "read"), ("vm", "export"), ("vm", "untrap")):
        m = re.compile(r"^ *[\d.]+ +[\d.]+ %s +0 %s " % (who, what),
                       re.M).search(p.stdout, at[-1])
        check("%s of %s comes next" % (what, who), m, p.stdout[-3000:])
        at.append(m.end())


if __name__ == "__main__":
    sys.exit(main([policy, pf_killed, pf_hangs, vf_reset, vm_hangs, vm_killed],
                  "mailbox-logs"))
