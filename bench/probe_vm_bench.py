#!/usr/bin/env python3
"""What a probe on a guest's kernel costs, per call of the probed function.

The test guest calls a fixed mix of functions over and over, on one CPU, for
the same time without a probe and with one; it says itself how many rounds it
made.  The difference of a round's time, divided by the probed function's
calls in a round, is the cost.

usage: probe_vm_bench.py BUILD [SECONDS]
"""

import os
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tools"))
from rig import Failed, Rig, main_dirs, no_kvm  # noqa: E402

WAYS = [("no probe", None, None),
        ("entry", "p_leaf", "--entry"),
        ("entry and return", "p_leaf", "--both"),
        ("entry and tail call", "p_tail", "--both"),
        ("two tail calls deep", "p_chain,p_tail,p_leaf", "--both")]
RUNS = 3


def work(rig, host, symbols, seconds, functions, how):
    """Nanoseconds a round, and calls of the probed functions in one."""
    rig.serial += 1
    name = "probed%d" % rig.serial
    vm = host.run(name, "test=probe cpus=1", cpus=1)
    vm.expect("^ready")
    p = None
    if functions:
        p = subprocess.Popen(
            [rig.program, "probe", "--dir", host.dir, "--json", "--count",
             how, "--vm", name, "-s", symbols, functions],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        said = p.stderr.readline()
        if "kernel" not in said:
            raise Failed("probe: " + said)
    vm.say("")
    vm.expect("^working")
    t = time.monotonic()
    time.sleep(seconds)
    vm.say("")
    vm.expect(r"^wrong 0$", 60)
    t = time.monotonic() - t
    if p:
        p.terminate()
        p.communicate()
    vm.say("")
    vm.wait()
    calls = {m[1]: int(m[2]) for m in
             re.finditer(r"^calls (\S+) (\d+)$", vm.text(), re.M)}
    rounds = calls["p_switch"]
    hits = sum(calls[f] for f in functions.split(",")) if functions else 0
    return t * 1e9 / rounds, hits / rounds


def main():
    why = no_kvm()
    if why:
        print(why)
        return 77
    program, _, build = main_dirs()
    symbols = os.path.join(build, "guest/guest-unit")
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2
    with Rig(program, symbols) as rig:
        host = rig.hosts("a")[0]
        got = {}
        for _ in range(RUNS):
            for name, functions, how in WAYS:
                got.setdefault(name, []).append(
                    work(rig, host, symbols, seconds, functions, how))
    bare = statistics.median(ns for ns, _ in got["no probe"])
    print("a guest's kernel, median of %d runs of %g s; a round without "
          "probes %.0f us" % (RUNS, seconds, bare / 1e3))
    for name, _, _ in WAYS[1:]:
        each = sorted((ns - bare) / hits for ns, hits in got[name])
        print("%-22s %7.1f us a call (%.1f to %.1f)" % (
            name, each[len(each) // 2] / 1e3, each[0] / 1e3, each[-1] / 1e3))
    return 0


if __name__ == "__main__":
    sys.exit(main())
