#!/usr/bin/env python3
"""Probes on a guest's kernel, held against what the guest counts itself.

Each case is a function; its docstring is what it shows.  The guest calls
functions that end in all the ways compilers know, on two CPUs, and checks
their results (guest/unit_probe.c).

usage: probe_test.py BUILD [CASE...]
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

from moves import check, main, shut

BUILD = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "build")
GUEST = os.path.join(BUILD, "guest/guest-unit")
FUNCTIONS = 11


def until(what, fn, seconds=120):
    end = time.monotonic() + seconds
    while True:
        got = fn()
        if got:
            return got
        check(what, time.monotonic() < end, "not in %d s" % seconds)
        time.sleep(0.05)


def works(host, hits=500):
    """The guest is at it, and its probes see that."""
    def seen():
        return host.status("probed")["probes"]["hits"]
    was = seen()
    until("hits", lambda: seen() > was + hits)


def guest(host, name="probed", cpus=3):
    vm = host.run(name, "test=probe cpus=%d" % cpus, cpus=cpus)
    vm.expect("^ready")
    return vm


def counted(vm):
    """End the work; what the guest has counted."""
    vm.say("")
    vm.expect(r"^wrong (\d+)$")
    text = vm.text()
    check("results", re.search(r"^wrong 0$", text, re.M), text[-300:])
    return {m[1]: int(m[2]) for m in
            re.finditer(r"^calls (\S+) (\d+)$", text, re.M)}


def ends_well(vm):
    """Without probes it goes on as before."""
    vm.say("")
    vm.expect("^done")
    check("exit status", vm.wait() == 0, vm.tail())


class Probe:
    """`pagurus probe --vm`; what it prints is kept, JSON lines as objects."""

    def __init__(self, host, name, *args):
        self.host, self.name = host, name
        self.lines, self.errors, self.cond = [], "", threading.Condition()
        self.p = subprocess.Popen(
            [host.rig.program, "probe", "--dir", host.dir, "--json", "--vm",
             name, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        self.threads = [threading.Thread(target=t) for t in
                        (self.read, self.read_errors)]
        for t in self.threads:
            t.start()

    def read(self):
        for line in self.p.stdout:
            with self.cond:
                self.lines.append(json.loads(line))
                self.cond.notify_all()

    def read_errors(self):
        for line in self.p.stderr:
            with self.cond:
                self.errors += line
                self.cond.notify_all()

    def says(self, pattern, seconds=120):
        with self.cond:
            ok = self.cond.wait_for(lambda: re.search(pattern, self.errors) or
                                    self.p.poll() is not None, seconds)
            ok = ok and re.search(pattern, self.errors)
        check("the client says '%s'" % pattern, ok, self.errors)
        return self

    def started(self):
        return self.says(r"functions of %s's kernel" % self.name)

    def end(self, sig=signal.SIGINT):
        if sig and self.p.poll() is None:
            self.p.send_signal(sig)
        rc = self.p.wait(120)
        for t in self.threads:
            t.join()
        return rc

    def events(self):
        """{function: [entries, exits, abandoned]} of a stream."""
        all_ = {}
        for e in self.lines:
            if "function" in e:
                n = all_.setdefault(e["function"], [0, 0, 0])
                n[["entry", "exit", "abandoned"].index(e["event"])] += 1
        return all_

    def sums(self):
        """The same of a --count."""
        return {f["function"]: [f["entry"], f["exit"], f["abandoned"]]
                for f in self.lines[-1]["functions"]}


def agree(calls, *parts):
    """All parts together saw each call begin and end, once."""
    check("functions", len(calls) == FUNCTIONS, calls)
    for name, n in calls.items():
        got = [sum(p.get(name, [0, 0, 0])[k] for p in parts)
               for k in range(3)]
        check(name, got == [n, n, 0],
              "%s entered, returned, abandoned; called %d times" % (got, n))
    check("there was work", min(calls.values()) > 0, calls)


def probe(host, name, *args):
    return Probe(host, name, "-s", GUEST, *args)


def listing(host, name, functions="p_*"):
    p = host.rig.pagurus("probe", "--dir", host.dir, "--list", "--vm", name,
                         "-s", GUEST, functions)
    check("list", p.returncode == 0, p.stderr)
    return p.stdout


def every_call(rig):
    """Each call is seen to begin and to end, once; then all bytes are back."""
    a, _ = rig.hosts("a", "b")
    vm = guest(a)
    before = listing(a, "probed")
    check("tail calls are known", before.count("tail call") >= 9, before)
    p = probe(a, "probed", "--args", "1", "--ret", "p_*").started()
    vm.say("")
    time.sleep(3)
    calls = counted(vm)
    check("exit status", p.end() == 0, p.errors)
    agree(calls, p.events())
    for e in p.lines:
        if e["function"] == "p_sum8" and e["event"] == "exit":
            check("result", e["value"] == 2 + 2 + 9 + 16 + 25 + 36 + 56 +
                  7 * ((e["value"] - 146) // 7), e)
            break
    slow = [e["latency_ns"] for e in p.lines
            if e["function"] == "p_slow" and e["event"] == "exit"]
    check("latencies", slow and min(slow) > 19e6, slow[:5])
    cpus = {e["cpu"] for e in p.lines if "cpu" in e}
    check("all working CPUs", cpus == {1, 2}, cpus)
    check("bytes are back", listing(a, "probed") == before)
    ends_well(vm)


def sums_of_all(rig):
    """--count counts in the VM; a second session is refused."""
    a, _ = rig.hosts("a", "b")
    vm = guest(a)
    p = probe(a, "probed", "--count", "p_*").started()
    vm.say("")
    q = probe(a, "probed", "p_leaf")
    check("one at a time", q.end(None) == 1 and "already" in q.errors,
          q.errors)
    time.sleep(3)
    calls = counted(vm)
    s = a.status("probed")["probes"]
    check("status", s["functions"] == FUNCTIONS and s["hits"] > 0 and
          s["client"], s)
    check("exit status", p.end() == 0, p.errors)
    agree(calls, p.sums())
    ends_well(vm)


def move_along(rig):
    """A probe in force moves with its guest; nothing is missed or invented."""
    a, b = rig.hosts("a", "b")
    vm = guest(a)
    p = probe(a, "probed", "p_*").started()
    vm.say("")
    works(a)
    parts = [p]
    for src, dst in ((a, b), (b, a)):
        inc = dst.receive("probed")
        src.migrate("probed", inc)
        check("told so", parts[-1].end(None) == 0, parts[-1].errors)
        check("and where to", {"event": "moved", "to": inc.addr} ==
              parts[-1].lines[-1], parts[-1].lines[-1])
        check("the source ends", vm.wait() == 0, vm.tail())
        vm = inc
        works(dst, 100)
        parts.append(Probe(dst, "probed", "--resume").started())
        works(dst)
    calls = counted(vm)
    check("exit status", parts[-1].end() == 0, parts[-1].errors)
    agree(calls, *[x.events() for x in parts])
    times = [[e["time_ns"] for e in x.lines if "time_ns" in e] for x in parts]
    for x, y in zip(times, times[1:]):
        check("time goes on", max(x) < min(y), (max(x), min(y)))
    across = [e["latency_ns"] for e in parts[1].lines
              if e.get("event") == "exit" and
              e["time_ns"] - e["latency_ns"] < max(times[0])]
    check("calls were under way across the move", across)
    print("    %d calls, %d of them across the first move, silent for "
          "%.0f and %.0f ms" % (sum(calls.values()), len(across),
                                (min(times[1]) - max(times[0])) / 1e6,
                                (min(times[2]) - max(times[1])) / 1e6))
    ends_well(vm)


def sums_move_along(rig):
    """Sums go on where they were; whoever may ask ends it."""
    a, b = rig.hosts("a", "b")
    vm = guest(a)
    p = probe(a, "probed", "--count", "p_*").started()
    vm.say("")
    works(a)
    inc = b.receive("probed")
    a.migrate("probed", inc)
    check("told so", p.end(None) == 0 and "--resume" in p.errors, p.errors)
    check("nobody listens", not b.status("probed")["probes"]["client"])
    q = Probe(b, "probed", "--resume", "--count").started()
    calls = counted(inc)
    ask(b, "probed", "probe_stop")
    check("ended by another", q.end(None) == 0, q.errors)
    agree(calls, q.sums())
    check("nothing is left", "probes" not in b.status("probed"))
    ends_well(inc)


class Spoiler(threading.Thread):
    """Between source and destination; breaks the state of the probes."""

    def __init__(self, rig, to):
        super().__init__(daemon=True)
        self.addr = os.path.join(rig.dir, "spoiler")
        self.to, self.spoiled = to, False
        self.s = socket.socket(socket.AF_UNIX)
        self.s.bind(self.addr)
        self.s.listen(8)
        self.start()

    def run(self):
        while True:
            try:
                x, _ = self.s.accept()
            except OSError:
                return
            y = socket.socket(socket.AF_UNIX)
            y.connect(self.to)
            for c in ((x, y, True), (y, x, False)):
                threading.Thread(target=self.copy, args=c,
                                 daemon=True).start()

    def copy(self, x, y, spoil):
        try:
            while True:
                data = bytearray(x.recv(1 << 20))
                if not data:
                    break
                at = data.find(b"\x05\x00probe") if spoil else -1
                if at >= 0 and at + 40 < len(data):
                    data[at + 30] ^= 1
                    self.spoiled = True
                y.sendall(data)
        except OSError:
            pass
        shut(x, y)


def failed_move(rig):
    """A migration that fails at the very last leaves the probes in force."""
    a, b = rig.hosts("a", "b")
    vm = guest(a)
    p = probe(a, "probed", "--count", "p_*").started()
    vm.say("")
    works(a)
    inc = b.receive("probed")
    spoiler = Spoiler(rig, inc.addr[len("unix:"):])
    rc, r = a.migrate("probed", "unix:" + spoiler.addr, ok=False)
    check("the state was reached and refused", rc == 1 and spoiler.spoiled,
          (rc, r))
    spoiler.s.close()
    check("the destination gives up", inc.wait() != 0)
    hits = a.status("probed")["probes"]["hits"]
    until("hits go on", lambda: a.status("probed")["probes"]["hits"] > hits)
    calls = counted(vm)
    check("exit status", p.end() == 0, p.errors)
    agree(calls, p.sums())
    ends_well(vm)


def leave_midway(rig):
    """A client that is killed: the bytes are back, the guest unharmed."""
    a, b = rig.hosts("a", "b")
    vm = guest(a)
    before = listing(a, "probed")
    vm.say("")
    for sig in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        p = probe(a, "probed", "p_*").started()
        works(a, 100)
        p.end(sig)
        until("probes are gone", lambda: "probes" not in a.status("probed"))
        check("bytes are back", listing(a, "probed") == before)
    counted(vm)
    # One session comes and goes with the VM.
    p = probe(a, "probed", "p_leaf").started()
    vm.say("")
    vm.expect("^done")
    check("told of the end", p.end(None) == 1 and "ended" in p.errors,
          p.errors)
    check("exit status", vm.wait() == 0, vm.tail())


def ask(host, name, method, **params):
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.path.join(host.dir, name + ".sock"))
    s.sendall(json.dumps({"id": 1, "method": method,
                          "params": params}).encode() + b"\n")
    r = json.loads(s.makefile().readline())
    s.close()
    return r


def deaf_client(rig):
    """A client that never reads costs events, not the guest."""
    a, _ = rig.hosts("a", "b")
    vm = guest(a)
    s = socket.socket(socket.AF_UNIX)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(os.path.join(a.dir, "probed.sock"))
    s.sendall(json.dumps({"id": 1, "method": "probe", "params": {
        "symbols": GUEST, "functions": "p_*", "stack": True,
        "jumps": True}}).encode() + b"\n")
    until("it begins", lambda: "probes" in a.status("probed"))
    vm.say("")
    # Past the socket's, the connection's and the queue's room.
    until("events are dropped",
          lambda: a.status("probed")["probes"]["dropped"] > 0, 240)
    st = a.status("probed")["probes"]
    check("the client is still there", st["client"], st)
    s.close()
    until("probes are gone", lambda: "probes" not in a.status("probed"))
    counted(vm)
    ends_well(vm)


def wrong_symbols(rig):
    """What are no symbols of this kernel is refused, with the reason."""
    a, _ = rig.hosts("a", "b")
    vm = guest(a)
    d = rig.dir
    syms = subprocess.run(["nm", GUEST], stdout=subprocess.PIPE, text=True,
                          check=True).stdout

    def write(name, text):
        with open(os.path.join(d, name), "w") as f:
            f.write(text)
        return os.path.join(d, name)

    text = [x for x in syms.splitlines() if x.split()[1] in "tT"]
    lo = min(int(x.split()[0], 16) for x in text)
    ends = "%016x T _stext\n%016x T _etext\n" % (lo, lo + 0x8000)
    shifted = "".join("%016x %s\n" % (int(x.split()[0], 16) + 8,
                                      x.split(None, 1)[1]) for x in text)
    bad = (
        (os.path.join(d, "none"), "No such file"),
        (d, "no file"), ("/dev/zero", "no file"),
        ("/dev/null", "no file"),
        (write("empty", ""), "no kernel text"),
        (write("noise", "ffff T\n\0\0\0" + "x" * 70000), "no kernel text"),
        (write("zeros", "0 T _stext\n0 T _etext\n"), "no kernel text"),
        (write("huge", "1000 T _stext\nffffffffffffffff T _etext\n"),
         "no kernel text"),
        (write("away", "ffffffff81000000 T _stext\n"
                       "ffffffff81100000 T _etext\n"
                       "ffffffff81000000 T p_leaf\n"), "no code"),
        (write("moved", ends + shifted), "another kernel"),
        (os.path.join(BUILD, "guest/guest-net"), "another kernel"),
        (os.path.join(BUILD, "src/cli/pagurus"), "no code"),
    )
    for path, why in bad:
        p = rig.pagurus("probe", "--dir", a.dir, "--vm", "probed", "-s", path,
                        "p_*,*")
        check("refused: " + path, p.returncode == 1 and why in p.stderr,
              (p.returncode, p.stderr))
    # Right symbols as text, and names that are not there.
    good = write("map", "".join("%s\n" % x for x in text) + ends)
    p = rig.pagurus("probe", "--dir", a.dir, "--list", "--vm", "probed", "-s",
                    good, "p_leaf")
    check("as text", p.returncode == 0 and "p_leaf" in p.stdout, p.stderr)
    for name in ("nonsense", "kernel:nonsense*", "igbvf:p_leaf", ",", ":"):
        p = rig.pagurus("probe", "--dir", a.dir, "--vm", "probed", "-s", good,
                        name)
        check("no such function: " + name, p.returncode == 1 and p.stderr,
              (p.returncode, p.stderr))
    for params in ({}, {"symbols": "x", "functions": "y"},
                   {"symbols": good}, {"symbols": 1, "functions": []},
                   {"symbols": good, "functions": ""}):
        r = ask(a, "probed", "probe", **params)
        check("refused: %s" % params, r["error"]["code"] < 0, r)
    for method in ("probe_stop", "probe_resume"):
        check(method, "error" in ask(a, "probed", method))
    vm.say("")
    time.sleep(0.5)
    counted(vm)
    ends_well(vm)


CASES = [every_call, sums_of_all, move_along, sums_move_along, failed_move,
         leave_midway, deaf_client, wrong_symbols]


sys.exit(main(CASES, "probe-test", GUEST))
