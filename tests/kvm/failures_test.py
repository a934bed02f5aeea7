#!/usr/bin/env python3
"""Migrations that go wrong at every message, by every cause.

A relay between source and destination knows where messages begin and end
(docs/stream.md).  After a chosen one it cuts the link, spoils a bit, kills a
process, or falls silent.  Then there must never be two VMs that run, one
unless the process that held it was killed, its VF direct again, and traffic
with a peer that was there all the time, none of it doubled.

usage: failures_test.py BUILD [CAUSE[@MESSAGE]...]
Without a cause named: those of QUICK; `all`: the whole matrix.
"""

import ctypes
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
import traceback

from moves import (During, Failed, Rig, ask, check, clean, direct, flows,
                   main_dirs, no_kvm, pair, shut)

NAMES = {1: "hello", 2: "manifest", 3: "plan", 4: "prepare", 5: "prepared",
         6: "RAM", 7: "RAM-end", 8: "state", 9: "commit", 10: "ready",
         11: "hand-over", 12: "running", 13: "bye", 14: "abort", 15: "query",
         16: "outcome", 18: "digest", 19: "times", 20: "CPU", 21: "watch",
         22: "traffic"}
HEADER = struct.Struct("<IHHIIQ")
RAM_HIT = (1, 2, 20, 100)   # which RAM messages count as boundaries


def message(kind, version, flags, payload):
    """A section with its sum, as src/migrate/stream.c makes it."""
    xxh = ctypes.CDLL("libxxhash.so.0").XXH3_64bits_withSeed
    xxh.restype = ctypes.c_uint64
    xxh.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    head = HEADER.pack(0x31536750, kind, version, flags, len(payload), 0)
    total = xxh(payload, len(payload), xxh(head[:16], 16, 0))
    return head[:16] + struct.pack("<Q", total) + payload


class Relay:
    """Forwards sections; 'hook' sees each: (label, bytes) -> bytes or None.

    A label is ">hand-over#1": the direction, '>' from the source; the name;
    which one of that name.  None: the hook has cut the link.

    It takes the receiver's own place, so that the source need not know of it;
    a 'tunnel' has a place of its own, and the source sees that.
    """

    def __init__(self, inc, hook, tunnel=None):
        self.path, self.to = inc.addr[len("unix:"):], inc.addr[len("unix:"):]
        if tunnel:
            self.path = tunnel
        else:
            self.to += ".real"
            os.rename(self.path, self.to)
        self.addr = "unix:" + self.path
        self.hook, self.conns, self.seen = hook, [], []
        self.lock, self.silent = threading.Lock(), threading.Event()
        self.s = socket.socket(socket.AF_UNIX)
        self.s.bind(self.path)
        self.s.listen(32)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                a, _ = self.s.accept()
            except OSError:
                return
            b = socket.socket(socket.AF_UNIX)
            try:
                b.connect(self.to)
            except OSError:
                # Nobody there: so is nobody here.
                self.close()
                a.close()
                return
            self.conns += [a, b]
            for x, y, way in ((a, b, ">"), (b, a, "<")):
                threading.Thread(target=self.copy, args=(x, y, way),
                                 daemon=True).start()

    @staticmethod
    def read(x, n):
        data = b""
        while len(data) < n:
            more = x.recv(n - len(data))
            if not more:
                return None
            data += more
        return data

    def copy(self, x, y, way):
        try:
            while True:
                head = self.read(x, HEADER.size)
                if head is None:
                    break
                _, kind, _, _, size, _ = HEADER.unpack(head)
                body = self.read(x, size) if size else b""
                if body is None:
                    break
                with self.lock:
                    label = way + NAMES.get(kind, str(kind))
                    n = sum(s.startswith(label + "#") for s in self.seen)
                    label += "#%d" % (n + 1)
                    self.seen.append(label)
                while self.silent.is_set():
                    time.sleep(0.01)
                if not self.hook(self, label, head + body, y):
                    break
        except OSError:
            pass
        shut(x, y)

    def cut(self):
        shut(*self.conns)

    def close(self):
        try:
            self.s.close()
            os.unlink(self.path)
        except OSError:
            pass


class World:
    """A VM that runs, a peer, two hosts; made anew when one of them died."""

    def __init__(self, program, guest, keep):
        self.args, self.rig = (program, guest, keep), None

    def get(self):
        if not self.rig:
            self.rig = Rig(*self.args).__enter__()
            self.src, self.dst, self.vm, self.peer = pair(self.rig)
        return self

    def drop(self):
        if self.rig:
            self.rig.__exit__()
        self.rig = None

    def moved(self, inc):
        self.src, self.dst, self.vm = self.dst, self.src, inc


def state(host, proc):
    """None when the process is no more."""
    if not proc.alive():
        return None
    try:
        return host.status("mover")["state"]
    except Failed:
        return None if not proc.alive() else "mute"


# ---- causes: what to do at a boundary, and who may run the VM then ----
#
# Each is called with (world, relay, receiver, migration, bytes, towards) and
# says whether the relay goes on.  'at' is when the message has been
# forwarded; the causes with 'instead' decide about it themselves.

def cut(w, relay, inc, d, data, y):
    y.sendall(data)
    relay.cut()


def half(w, relay, inc, d, data, y):
    y.sendall(data[:max(1, len(data) // 2)])
    relay.cut()


def corrupt(w, relay, inc, d, data, y):
    bad = bytearray(data)
    bad[len(bad) - 1] ^= 0x04   # the sum, or the payload's end
    y.sendall(bytes(bad))
    return True


def kill(what):
    def cause(w, relay, inc, d, data, y):
        y.sendall(data)
        proc = what(w, inc)
        proc.kill()
        proc.wait()
        return True
    return cause


def restart(which):
    """A PF driver dies and another one takes over."""
    def cause(w, relay, inc, d, data, y):
        host = w.src if which == "source" else w.dst
        y.sendall(data)
        host.pf.kill()
        host.pf.wait()
        host.start_pf()
        return True
    return cause


def cancel(w, relay, inc, d, data, y):
    y.sendall(data)
    d.p.send_signal(signal.SIGINT)
    return True


def silence(w, relay, inc, d, data, y):
    y.sendall(data)
    relay.silent.set()
    return True


CAUSES = {
    "cut": cut, "half": half, "corrupt": corrupt, "cancel": cancel,
    "kill-source": kill(lambda w, inc: w.vm),
    "kill-destination": kill(lambda w, inc: inc),
    "kill-source-nic": kill(lambda w, inc: w.src.nic),
    "kill-destination-nic": kill(lambda w, inc: w.dst.nic),
    "kill-source-pf": restart("source"),
    "kill-destination-pf": restart("destination"),
    "silence": silence,
}
QUICK = ("cut",)
# Where a report is asked for: it has messages of its own, and the end waits
# for the last of them.
REPORT = (">watch#1", ">hand-over#1", "<running#1", ">bye#1", "<traffic#1")
# Waits out time limits of half a minute: not at every message.
FEW = {"silence": (">manifest#1", ">RAM#20", "<ready#1", ">hand-over#1",
                   "<running#1")}


def deadly(cause, decided):
    """Whether there may be no VM afterwards: its process was killed."""
    return cause == "kill-source" or (cause == "kill-destination" and decided)


def settle(w, inc, cause, relay, rc):
    """Where the VM is in the end; never two of them on the way there."""
    end = time.monotonic() + 180
    quiet = 0
    while True:
        s, t = state(w.src, w.vm), state(w.dst, inc)
        check("two VMs run", (s, t) != ("running", "running"), cause)
        if "paused" not in (s, t) and "mute" not in (s, t) and t != "built":
            quiet += 1
            if quiet == 3:
                return s == "running", t == "running"
        else:
            quiet = 0
        if time.monotonic() > end:
            raise Failed("undecided for ever: %s, %s" % (s, t))
        time.sleep(0.1)


def mend(w, relay, rc):
    """Silence ends; a hand-over that is undecided is asked about."""
    relay.silent.clear()
    if rc == 2:
        check("paused while undecided",
              state(w.src, w.vm) == "paused", state(w.src, w.vm))
        p = w.rig.pagurus("migrate", "--resolve", "--dir", w.src.dir, "mover")
        check("resolved", p.returncode in (0, 1), p.stderr)


def one(w, cause, boundary):
    """Do it once; returns how it ended."""
    act = CAUSES[cause]
    done = threading.Event()
    go = threading.Event()
    box = {}

    def hook(relay, label, data, y):
        if label != boundary or done.is_set():
            y.sendall(data)
            return True
        done.set()
        go.wait(120)
        return act(w, relay, box["inc"], box["d"], data, y)

    w.get()
    inc = box["inc"] = w.dst.receive("mover", vf=0)
    relay = Relay(inc, hook)
    d = box["d"] = During(w.src, relay,
                          more=report(w) if boundary in REPORT else ())
    go.set()
    rc, r, err = d.end(400)
    check("the message was seen", done.is_set(), relay.seen[-8:])
    decided = ">hand-over#1" in relay.seen
    if cause == "silence":
        mend(w, relay, rc)
    here, there = settle(w, inc, cause, relay, rc)
    check("a VM", here or there or deadly(cause, decided), (rc, r, err))
    if rc in (0, 1) and not cause.startswith("kill"):
        check("as the command said", (rc == 0) == there, (rc, r and
                                                          r["reason"]))
    relay.close()
    aftermath(w, cause, inc, here, there)
    return "there" if there else "here" if here else "nowhere"


def aftermath(w, cause, inc, here, there):
    """Traffic, a VF that is direct, and a world for the next one."""
    if not here and not there:
        inc.end()
        w.drop()
        return
    host, vm = (w.dst, inc) if there else (w.src, w.vm)
    if cause.endswith("-nic"):
        # Who has no NIC any more runs, at least.
        t = ask(vm)["S"] if "S" in ask(vm) else True
        check("the guest lives", t)
        w.drop()
        return
    flows(vm, w.peer)
    for _ in range(600):
        try:
            direct(host, "mover")
            break
        except Failed:
            time.sleep(0.1)
    direct(host, "mover")
    clean(vm, w.peer)
    if there:
        w.vm.end()
        w.moved(inc)
    else:
        inc.end()


def report(w):
    return "--report", os.path.join(w.rig.dir, "moved.html")


def boundaries(w):
    """Every message of a migration that goes well, in order."""
    w.get()
    inc = w.dst.receive("mover", vf=0)
    relay = Relay(inc, lambda relay, label, data, y: not y.sendall(data))
    rc, r, err = During(w.src, relay, more=report(w)).end()
    check("a migration through the relay", rc == 0 and "after" in r["traffic"],
          (rc, r, err))
    w.vm.wait()
    w.moved(inc)
    relay.close()
    seen = [x for x in relay.seen
            if not re.match(r">RAM#", x) or int(x.split("#")[1]) in RAM_HIT]
    kinds = {x.split("#")[0][1:] for x in seen}
    check("all kinds of messages", kinds >= set(NAMES.values()) -
          {"abort", "query", "outcome", "digest"}, kinds)
    return seen


def matrix(w, causes):
    seen = boundaries(w)
    print("messages: " + " ".join(seen), flush=True)
    bad = n = 0
    for cause in causes:
        t, tally = time.monotonic(), {}
        cause, _, at = cause.partition("@")
        for b in [at] if at else FEW.get(cause, seen):
            n += 1
            t1 = time.monotonic()
            try:
                how = one(w, cause, b)
                tally[how] = tally.get(how, 0) + 1
                if time.monotonic() - t1 > 5:
                    print("  %s at %s took %.0f s" % (
                        cause, b, time.monotonic() - t1), flush=True)
            except Exception as e:
                bad += 1
                if not isinstance(e, Failed):
                    traceback.print_exc()
                print("FAILED %s at %s: %s" % (cause, b, e), flush=True)
                for p in (w.rig.procs if w.rig else [])[-6:]:
                    print("  == %s\n%s" % (p.name, p.tail(6)), flush=True)
                w.drop()
        print("%-20s %3d times: %s (%.0f s)" % (
            cause, sum(tally.values()), ", ".join(
                "%s %d" % x for x in sorted(tally.items())),
            time.monotonic() - t), flush=True)
    return n, bad


# ---- words the other side does not know ----

def first_hello(change):
    """A relay's hook that changes the source's first HELLO."""
    def hook(relay, label, data, y):
        y.sendall(change(data) if label == ">hello#1" else data)
        return True
    return hook


def other_version(data):
    body = struct.pack("<HH", 2, 7) + data[HEADER.size + 4:]
    return message(1, 1, 1, body)


def strange(flags):
    """A section nobody knows, after the manifest."""
    return lambda data: data + message(777, 1, flags, b"news")


def lost(label):
    """A side that does not know a section might as well not get it."""
    def hook(relay, at, data, y):
        if at != label:
            y.sendall(data)
        return True
    return hook


def after(label, change):
    def hook(relay, at, data, y):
        y.sendall(change(data) if at == label else data)
        return True
    return hook


def words(w):
    """Versions that do not meet, sections one side does not know."""
    cases = (
        ("another version", first_hello(other_version), 1, "version"),
        ("an unknown mandatory section",
         after(">prepare#1", strange(1)), 1, "unknown"),
        ("an unknown optional section", after(">state#1", strange(0)), 0, ""),
        ("a destination that watches nothing", lost(">watch#1"), 0, ""),
        ("a destination that tells nothing", lost("<traffic#1"), 0, ""),
    )
    for what, hook, want, why in cases:
        w.get()
        inc = w.dst.receive("mover", vf=0)
        relay = Relay(inc, hook)
        rc, r, err = During(w.src, relay, more=report(w)).end()
        check(what, rc == want and why in r["reason"], (rc, r, err))
        check(what + ": after", ("after" in r["traffic"]) ==
              ("optional" in what), r["traffic"])
        here, there = settle(w, inc, what, relay, rc)
        check(what + ": one VM", here == (want == 1) and there == (want == 0))
        relay.close()
        print("%-34s exit %d %s" % (what, rc, r["reason"]), flush=True)
        aftermath(w, "words", inc, here, there)


def tunnel(w):
    """A tunnel between the hosts dies in the hand-over.  Whoever refuses the
    source's questions then is not the destination, which runs the VM."""
    def hook(relay, label, data, y):
        if label == "<running#1":
            # In this order, or it is asked through the tunnel at once.
            relay.close()
            relay.cut()
            return False
        y.sendall(data)
        return True

    w.get()
    path = os.path.join(w.rig.dir, "tunnel")
    inc = w.dst.receive("mover", vf=0)
    rc, r, err = During(w.src, Relay(inc, hook, tunnel=path)).end()
    check("undecided", rc == 2 and "--resolve" in r["reason"], (rc, r, err))
    check("it waits here and runs there", (state(w.src, w.vm), state(
        w.dst, inc)) == ("paused", "running"), r["reason"])
    relay = Relay(inc, lambda relay, label, data, y: not y.sendall(data),
                  tunnel=path)
    p = w.rig.pagurus("migrate", "--resolve", "--dir", w.src.dir, "mover")
    check("the tunnel is back: it has moved", p.returncode == 0, p.stderr)
    w.vm.wait()
    relay.close()
    print("a tunnel that died: %s" % r["reason"], flush=True)
    aftermath(w, "tunnel", inc, False, True)


def full_disk(w):
    """A report that cannot be written changes nothing else, and the report
    of last time stays."""
    w.get()
    path = os.path.join(w.rig.dir, "report.html")
    with open(path, "w") as f:
        f.write("the old one")
    inc = w.dst.receive("mover", vf=0)
    # A limit on the size of files fails as a full disk does.
    p = w.rig.pagurus_limited(0, "migrate", "--dir", w.src.dir, "--json",
                              "--report", path, "mover", inc.addr)
    check("it moved all the same", p.returncode == 0, p.stderr)
    check("and says what failed", "report" in p.stderr, p.stderr)
    with open(path) as f:
        check("the old report is there", f.read() == "the old one")
    left = [x for x in os.listdir(w.rig.dir) if x.startswith("report")]
    check("nothing half written is left", left == ["report.html"], left)
    print("report on a full disk: %s" % p.stderr.strip(), flush=True)
    aftermath(w, "disk", inc, False, True)


def main():
    program, guest, build = main_dirs()
    why = no_kvm()
    if why:
        print(why)
        return 77
    causes = sys.argv[2:] or QUICK
    causes = CAUSES if causes == ["all"] else causes
    keep = os.path.join(build, "failures-test")
    w = World(program, guest, keep)
    t = time.monotonic()
    try:
        words(w)
        tunnel(w)
        full_disk(w)
        n, bad = matrix(w, causes)
    finally:
        w.drop()
    print("%d failures in %.0f s, %d wrong" % (n, time.monotonic() - t, bad))
    return 1 if bad else 0


sys.exit(main())
