#!/usr/bin/env python3
"""How long a VM with a VF stands still when it moves: real processes, two
hosts on one machine, frames on the way at a set rate, there and back N times.

The outage is what the source reports, from the vCPUs' stop to their start at
the destination.  The devices' share of it is the drain, the saving and the
loading of each.

usage: downtime_bench.py BUILD [N]
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "kvm"))
import goal  # noqa: E402
from moves import (Rig, TRAFFIC, ask, direct, flows, main_dirs,  # noqa: E402
                   no_kvm, pair)


def at(values, share):
    """The value that so large a share does not exceed."""
    v = sorted(values)
    return v[min(int(len(v) * share), len(v) - 1)]


def line(what, ms):
    print("%-34s median %7.2f ms  p99 %7.2f ms  max %7.2f ms" % (
        what, at(ms, 0.5), at(ms, 0.99), max(ms)), flush=True)


def device_ns(r):
    """(drain, save, load) of all devices, of a migration's result."""
    parts = [p for p in r["parts"] if p["name"] in r["devices"]]
    return (sum(d["drain_ns"] for d in r["devices"].values()),
            sum(p["save_ns"] for p in parts), sum(p["load_ns"] for p in parts))


def moves(rig, n):
    """The results of n moves, and what became of the frames."""
    a, b, vm, peer = pair(rig)
    results = []
    for i in range(n):
        src, dst = ((a, b), (b, a))[i % 2]
        inc = dst.receive("mover", vf=0)
        results.append(src.migrate("mover", inc)[1])
        vm.wait()
        vm = inc
        flows(vm, peer, 20)
        direct(dst, "mover")
    return results, [ask(p, "T")["T"] for p in (vm, peer)]


def main():
    program, guest, _ = main_dirs()
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    why = no_kvm()
    if why:
        print(why)
        return 77
    with Rig(program, guest) as rig:
        results, traffic = moves(rig, n)
    shares = [device_ns(r) for r in results]
    device = [sum(s) / 1e6 for s in shares]
    print("%d moves of a VM of 64 MiB; %s" % (n, TRAFFIC))
    line("outage", [r["downtime_ns"] / 1e6 for r in results])
    for p in [p["phase"] for p in results[0]["phases"] if p["outage"]]:
        line("  of it " + p, [sum(x["ns"] for x in r["phases"]
                                  if x["phase"] == p) / 1e6 for r in results])
    line("devices' share", device)
    for i, what in enumerate(("drain", "save", "load")):
        line("  of it " + what, [s[i] / 1e6 for s in shares])
    state = max(r["state_bytes"] for r in results)
    print("state: %d bytes at most" % state)
    for name, t in zip(("mover", "peer"), traffic):
        print("%-6s heard %d frames: %d lost (%.1f a move), %d doubled, "
              "%d reordered, %d corrupt" % (
                  name, t["got"], t["lost"], t["lost"] / n, t["doubled"],
                  t["reordered"], t["corrupt"]))
    if not goal.most("devices' share of a move's outage, p99",
                     at(device, 0.99), 5, "ms"):
        part = max(range(3), key=lambda i: at([s[i] for s in shares], 0.99))
        goal.limit("most of it is the %s, %.2f ms in the median" % (
            ("drain", "save", "load")[part],
            at([s[part] for s in shares], 0.5) / 1e6))
    goal.most("state of a VM with a VF, without its RAM", state, 65536, "B")
    return 0


if __name__ == "__main__":
    sys.exit(main())
