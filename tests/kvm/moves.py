"""What the tests of moves share: two hosts made of processes, a VM with a VF
that exchanges numbered frames with a peer, and what must hold of them.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools"))
from rig import Failed, Rig, ask, main_dirs, no_kvm  # noqa: E402

TRAFFIC = "stay=1 mode=poll size=512 rate=2000"
LOAD = "stay=1 mode=poll size_min=64 size=1514"  # all that goes


def check(what, ok, detail=""):
    if not ok:
        # A migration's result has hundreds of samples: its start is enough.
        raise Failed("%s: %.2000s" % (what, detail))


def pair(rig, models=None, more=TRAFFIC, dirty="dirty_mb=8 dirty_rate=2"):
    """Two hosts, the VM 'mover' on a and its peer on b, talking."""
    a, b = rig.hosts("a", "b", models=models)
    peer = b.run("peer", "id=2 " + more, vf=1)
    vm = a.run("mover", "id=1 %s %s" % (dirty, more), vf=0)
    for p in (vm, peer):
        p.expect(r"^G ready")
    flows(vm, peer)
    return a, b, vm, peer


def flows(vm, peer, frames=200, seconds=120):
    """Both hear each other now."""
    t0 = [ask(p, "T")["T"]["got"] for p in (vm, peer)]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = [ask(p, "T")["T"]["got"] for p in (vm, peer)]
        if all(n - t > frames for n, t in zip(now, t0)):
            return
        time.sleep(0.1)
    raise Failed("no traffic: %s then %s\n%s\n%s" % (t0, now, vm.tail(),
                                                    peer.tail()))


def clean(*procs):
    """Nothing doubled, reordered or corrupt, and memory as it should be."""
    lost = []
    for p in procs:
        a = ask(p, "TD")
        t = a["T"]
        for k in ("doubled", "reordered", "corrupt"):
            check(p.name + ": " + k, t[k] == 0, t)
        check(p.name + ": memory", a["D"]["bad"] == 0, a["D"])
        lost.append(t["lost"])
    return lost


def direct(host, vm):
    """Doorbells are direct again and nothing is shadowed."""
    d = host.status(vm)["devices"][0]
    check("shadow is released", d["shadow"]["engaged"] == 0, d["shadow"])
    for p in d["pages"]:
        if p["bar"] == 0 and p["page"] in (2, 3):
            check("page %d is direct" % p["page"], p["direct"], p)
    return d


def credentials(rig, name, ca="ca"):
    """A directory with ca.pem, cert.pem, key.pem for 'name'."""
    d = os.path.join(rig.dir, "tls-%s-%s" % (ca, name))
    os.makedirs(d)
    auth = os.path.join(rig.dir, ca)

    def openssl(*args):
        subprocess.run(["openssl", *args], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if not os.path.exists(auth + ".key"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", "/CN=" + ca, "-keyout", auth + ".key",
                "-out", auth + ".pem")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", "/CN=" + name, "-keyout", d + "/key.pem",
            "-out", d + "/req.pem")
    with open(d + "/ext", "w") as f:
        f.write("subjectAltName=DNS:%s,IP:127.0.0.1\n" % name)
    openssl("x509", "-req", "-in", d + "/req.pem", "-CA", auth + ".pem",
            "-CAkey", auth + ".key", "-CAcreateserial", "-days", "2",
            "-extfile", d + "/ext", "-out", d + "/cert.pem")
    with open(auth + ".pem") as f, open(d + "/ca.pem", "w") as o:
        o.write(f.read())
    return d


class During(threading.Thread):
    """A migration in a thread; .at(phase) waits for it to get there."""

    def __init__(self, src, dest, more=("--bandwidth", "4M")):
        super().__init__()
        self.src, self.dest = src, dest
        self.p = subprocess.Popen(
            [src.rig.program, "migrate", "--dir", src.dir, "--json", "mover",
             dest.addr, *more], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.events, self.cond = [], threading.Condition()
        self.start()

    def run(self):
        for line in self.p.stdout:
            with self.cond:
                self.events.append(json.loads(line))
                self.cond.notify()
        with self.cond:
            self.events.append({"phase": "over"})
            self.cond.notify()

    def at(self, phase, seconds=120):
        with self.cond:
            ok = self.cond.wait_for(
                lambda: any(e.get("phase") in (phase, "over")
                            for e in self.events), seconds)
        check("phase " + phase, ok, self.events[-2:])

    def end(self, seconds=300):
        rc = self.p.wait(seconds)
        self.join()
        last = [e for e in self.events if "outcome" in e]
        return rc, last[-1] if last else None, self.p.stderr.read()


def shut(*conns):
    """Both ways at once, whoever is at it."""
    for s in conns:
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def main(cases, name, guest=None):
    """Run the cases, all or those named, with 'guest'; 77 without KVM."""
    program, net, build = main_dirs()
    why = no_kvm()
    if why:
        print(why)
        return 77
    wanted = sys.argv[2:]
    failed = 0
    for case in cases:
        if wanted and case.__name__ not in wanted:
            continue
        t = time.monotonic()
        keep = os.path.join(build, name, case.__name__)
        os.makedirs(os.path.dirname(keep), exist_ok=True)
        try:
            with Rig(program, guest or net, keep) as rig:
                try:
                    case(rig)
                except Exception:
                    for p in rig.procs:
                        print("  == %s\n%s" % (p.name, p.tail(6)))
                    rig.keep_traces()
                    raise
            print("ok %s (%.1f s)" % (case.__name__, time.monotonic() - t),
                  flush=True)
        except Exception as e:
            failed += 1
            if not isinstance(e, Failed):
                traceback.print_exc()
            print("FAILED %s: %s\n  logs: %s" % (case.__name__, e, keep),
                  flush=True)
    return 1 if failed else 0
