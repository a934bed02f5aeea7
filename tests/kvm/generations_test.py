#!/usr/bin/env python3
"""Across generations: what the requirements D say, line by line.

| | what must be seen | where |
| --- | --- | --- |
| D1 | decided from what can back it and from type and version, with inputs | decided, plan_test.c |
| D2 | equal: no quiescing, no deletion, structures as they were | equal_* |
| D3 | different: quiesce, delete, migrate, in this order; nothing left | from_*, failure_after_deletion |
| D4 | configured anew there, I/O goes on, no reboot | from_* |
| D5 | in flight: dropped and counted; new ones refused; busy posted | requests_in_flight |
| D6 | type and version both count | equal_*, from_*, plan_test.c (version) |
| D7 | failure after deletion | failure_after_deletion, rebind_that_fails |
| D7 | one of several devices | one_of_two |
| D7 | software or refusal, as the policy says | plan_test.c, lab: generations |
| - | what differs in the data: VLAN tags of looped-back frames | vlans_* |
| - | what no hardware there can do is refused | thresholds, plan_test.c |
| - | the guest's counters never jump | from_*, rebind_that_fails |

usage: generations_test.py BUILD [CASE...]
"""

import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from line import ASK, RESTORE, Line  # noqa: E402
from moves import (During, TRAFFIC, check, clean, direct,  # noqa: E402
                   flows, main, pair)
from rig import Failed, ask  # noqa: E402

# A driver that is quick to start over, and tells its counters all the time.
QUICK = TRAFFIC + " holdoff_ms=500 tick_ms=200 stat_ms=250"
DELETED = ["delete-rings", "delete-vectors", "delete-filters", "deleted"]
LEAVES = ["engage", "quiesce", "knocks"] + DELETED + ["migrate"]
ARRIVES = ["load", "filters", "reconfigure"]
MODELS = ["82576", "i350"]


def in_order(what, events, wanted):
    """Each of 'wanted' happened once, one after the other."""
    names = [e["what"] for e in events]
    got = [n for n in names if n in wanted]
    check(what, got == wanted, "%s of %s" % (got, names))


def events(host, vm, unit=0):
    """Of a device's moves; what is said when it gets a VF is none of them."""
    return [e for e in host.trace(vm) if e["vf"] == unit and
            (e["state"] == "device" or e["what"] == "drop") and
            e["what"] != "keep-tags"]


def wait(what, fn, seconds=120):
    end = time.monotonic() + seconds
    while not fn():
        if time.monotonic() > end:
            raise Failed("waited for: " + what)
        time.sleep(0.02)


def driver_of(vm):
    return ask(vm)["V"]


def counters(*procs):
    """A guest's counters, over all processes it has been in, never step."""
    last, sent = None, 0
    for p in procs:
        for line in p.text().rpartition("\n")[0].splitlines():
            m = re.match(r"V link=.* tails=(\d+) refills=", line)
            if m:
                sent = int(m.group(1))
            m = re.match(r"C gprc=(\d+) gptc=(\d+) gorc=(\d+) gotc=(\d+) "
                         r"strangers=\d+ probes=", line)
            if not m:
                continue
            now = [int(x) for x in m.groups()]
            if last:
                check("counters do not go back",
                      all(n >= o for n, o in zip(now, last)), (last, now))
            check("no more frames are counted than were sent",
                  now[1] <= sent, (now, sent))
            check("no counter has gone round",
                  all(n < 1 << 31 for n in now), (last, now))
            last = now
    check("there were counters", last is not None and last[0] > 0 and
          last[1] > 0, last)


def decided(rig):
    """The decision comes with its inputs, and nothing is touched for it."""
    a, b, vm, peer = pair(rig, models=MODELS)
    inc = b.receive("mover", vf=0)
    same = a.receive("other", vf=2)
    for dest, type_, action in ((inc, "i350", "rebuild"),
                                (same, "82576", "keep")):
        p = rig.pagurus("check", "--dir", a.dir, "--json", "mover", dest.addr)
        check("check", p.returncode == 0, p.stderr)
        plan = json.loads(p.stdout)["plan"][0]
        dev, offer = plan["device"], plan["offer"]
        check("action", plan["action"] == action, plan)
        check("type and version of both", (
            dev["family"], dev["type"], dev["version"], offer["family"],
            offer["type"], offer["version"]) == (
                "igb", "82576", 1, "igb", type_, 1), plan)
        check("what could back it", offer["backing"] == "software", plan)
        check("in words", type_ in plan["reason"], plan["reason"])
    check("nothing was done to the device", not events(a, "mover"),
          events(a, "mover"))
    flows(vm, peer)


def equal(rig, model):
    """Same type and version: rings and vectors move as they are."""
    a, b, vm, peer = pair(rig, models=[model, model])
    before = a.status("mover")["devices"][0]["structures"]
    check("there are structures", before["rx"][0]["on"] and
          before["tx"][0]["on"] and before["vectors"] == 3, before)
    inc = b.receive("mover", vf=0)
    r = a.migrate("mover", inc)[1]
    check("kept", r["plan"][0]["action"] == "keep", r["plan"])
    flows(inc, peer)
    did = [e["what"] for e in r["devices"]["net0"]["events"] +
           events(b, "mover")]
    check("neither quiesced nor deleted", not [
        w for w in did if w in ("quiesce", "knocks", "reconfigure") or
        "delete" in w], did)
    check("structures are the same", b.status("mover")["devices"][0][
        "structures"] == before, (before, b.status("mover")))
    v = driver_of(inc)
    check("no reset, no link change",
          v["reinits"] == 0 and v["downs"] == 0, v)
    clean(inc, peer)


def different(rig, models):
    """The other type, there and back."""
    a, b, vm, peer = pair(rig, models=models, more=QUICK)
    procs = [vm]
    before = a.status("mover")["devices"][0]["structures"]
    for i, (src, dst) in enumerate(((a, b), (b, a))):
        inc = dst.receive("mover", vf=0)
        r = src.migrate("mover", inc)[1]
        check("rebuilt", r["plan"][0]["action"] == "rebuild", r["plan"])
        check("it ends at the source", procs[-1].wait() == 0)
        procs.append(inc)
        flows(inc, peer)
        left = r["devices"]["net0"]["events"]
        came = events(dst, "mover")
        in_order("at the source", left, LEAVES)
        in_order("at the destination", came, ARRIVES)
        check("one after the other",
              left[-1]["ns"] < came[0]["ns"], (left, came))
        for e in left:
            if e["what"] == "deleted":
                check("nothing is left of it", e["val"] == 0, e)
        d = direct(dst, "mover")
        check("the identity stays", d["model"] == "igb/" + models[0], d)
        check("the generation is the other",
              d["generation"] == "igb/" + models[1 - i], d)
        check("its structures exist again", [
            [q["base"] for q in d["structures"][k]] for k in ("rx", "tx")
            ] == [[q["base"] for q in before[k]] for k in ("rx", "tx")] and
            d["structures"]["rx"][0]["on"] and
            d["structures"]["tx"][0]["on"] and
            d["structures"]["vectors"] == 3, (before, d))
        v = driver_of(inc)
        check("its driver rebuilt them", v["reinits"] > i, v)
    check("it booted once", sum(len(re.findall(r"^G ready", p.text(), re.M))
                                for p in procs) == 1)
    clean(procs[-1], peer)
    counters(*procs)
    counters(peer)


def equal_82576(rig):
    equal(rig, "82576")


def equal_i350(rig):
    equal(rig, "i350")


def from_82576(rig):
    different(rig, ["82576", "i350"])


def from_i350(rig):
    different(rig, ["i350", "82576"])


def requests_in_flight(rig):
    """One request is under way when busy is posted, one comes later."""
    a, b, vm, peer = pair(rig, models=MODELS,
                          more=TRAFFIC + " holdoff_ms=4000 tick_ms=200")
    for p in (vm, peer):
        p.say("stop")
        p.expect(r"^O stopped")
    # The driver does not start over again for a while after this.
    vm.say("reinit")
    vm.expect(r"^O reinit")
    wait("link", lambda: driver_of(vm)["link"] == 1)
    wait("no exchange", lambda: a.status("mover")["devices"][0]["mailbox"][
        "state"] == "direct")
    before = a.status("mover")["devices"][0]["mailbox"]
    a.pf.p.send_signal(signal.SIGSTOP)
    asked = a.nic_counts()["mbx_requests"]
    vm.say("request")
    wait("it is asked", lambda: a.nic_counts()["mbx_requests"] > asked)
    p = subprocess.Popen([rig.program, "rebind", "--dir", a.dir, "--vf",
                          b.vf(2), "mover"], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    wait("quiesce", lambda: "quiesce" in [
        e["what"] for e in events(a, "mover")])
    a.pf.p.send_signal(signal.SIGCONT)
    vm.expect(r"^O request refused", count=1)
    vm.say("request")
    vm.expect(r"^O request refused", count=2)
    busy = a.status("mover")["devices"][0]["mailbox"]
    check("still quiesced", busy["quiesced"] and busy["state"] == "busy", busy)
    out = p.communicate(timeout=300)[0]
    check("rebind", p.returncode == 0, out)
    check("one was dropped", busy["dropped"] == before["dropped"] + 1,
          (before, busy))
    check("one was refused", busy["refused"] == before["refused"] + 1,
          (before, busy))
    check("busy was posted", busy["posts"] > before["posts"], (before, busy))
    in_order("order", events(a, "mover"), [
        "engage", "quiesce", "drop", "knocks"] + DELETED +
        ["migrate"] + ARRIVES)
    for q in (vm, peer):
        q.say("start")
    vm.say("request")
    vm.expect(r"^O request granted")
    flows(vm, peer)
    clean(vm, peer)


def nothing_left(host, vm):
    """Of the VM's device, on the VF and at the PF."""
    d = host.status(vm)["devices"][0]
    check("no ring, no vector", d["structures"]["vectors"] == 0 and not [
        q for k in ("rx", "tx") for q in d["structures"][k]
        if q["on"] or q["base"]], d["structures"])
    vf = host.status("pf0")["vfs"][0]
    check("no filter", vf["mac"] == "00:00:00:00:00:00" and not vf["vlans"] and
          not vf["multicast"] and not vf["clear_to_send"], vf)


def failure_after_deletion(rig):
    """The destination dies, or its PF says nothing, when all is deleted."""
    a, b, vm, peer = pair(rig, models=MODELS,
                          more=QUICK.replace("poll", "irq"))
    for how in ("killed", "silent"):
        inc = b.receive("mover", vf=0)
        seen = len(events(a, "mover"))
        # Its PF driver grants nothing, so that it cannot say READY.
        b.pf.p.send_signal(signal.SIGSTOP)
        d = During(a, inc, more=())
        wait("deletion", lambda: "migrate" in [
            e["what"] for e in events(a, "mover")[seen:]])
        nothing_left(a, "mover")
        if how == "killed":
            inc.kill()
        rc, r, err = d.end()
        b.pf.p.send_signal(signal.SIGCONT)
        check("still here", rc == 1, (rc, r, err))
        inc.wait()
        in_order("undone", events(a, "mover")[seen:],
                 LEAVES + ["release", "reconfigure"])
        flows(vm, peer)
        direct(a, "mover")
        print("    %s: %s" % (how, r["reason"]))
    inc = b.receive("mover", vf=0)
    a.migrate("mover", inc)
    flows(inc, peer)
    clean(inc, peer)
    counters(vm, inc)


def rebind_that_fails(rig):
    """The other VF's PF driver does not answer: back where it was."""
    a, b, vm, peer = pair(rig, models=MODELS, more=QUICK)
    # It answers the claim and then nothing more.
    line = Line(os.path.join(b.dir, "line"), b.pf_socket, (ASK, RESTORE), True)
    for spec, silent in (("pf:%s,vf=2" % line.path, True), (a.vf(2), False)):
        before = a.status("mover")["devices"][0]
        p = subprocess.Popen([rig.program, "rebind", "--dir", a.dir, "--vf",
                              spec, "mover"], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
        out = p.communicate(timeout=300)[0]
        if silent:
            check("it was asked", line.asked.is_set(), out)
            check("it failed", p.returncode == 1 and
                  "does not answer" in out, out)
            flows(vm, peer)
            d = direct(a, "mover")
            check("where it was", d["vf"] == before["vf"], (d, before))
            wait("the other VF is free", lambda: not b.status("pf0")["vfs"][
                2]["claimed"])
        else:
            check("and can go", p.returncode == 0, out)
            flows(vm, peer)
            direct(a, "mover")
    clean(vm, peer)
    counters(vm)


def vlans(rig, models):
    """Frames with a tag between two VFs of one card of another generation.

    Each generation writes the tag of such a frame in its own byte order, and
    the guest reads the order of the one it probed.
    """
    a, b, vm, peer = pair(rig, models=models, more=QUICK + " vlan=291")
    inc = b.receive("mover", vf=0)
    a.migrate("mover", inc)
    flows(inc, peer)
    vfs = b.status("pf0")["vfs"]
    check("tags stay in the frames of the guest that moved, and only there",
          [v["keeps_tags"] for v in vfs[:2]] == [True, False], vfs)
    n, m = [ask(p, "N")["N"] for p in (inc, peer)]
    check("it finds them there, none was looped back into a descriptor",
          n["inframe"] > 100 and n["looped"] == 0, n)
    # The 82576 has one switch for all VFs' broadcasts.
    check("the other finds them where they always were", m["looped"] > 100 and
          m["inframe"] <= (models[1] == "82576") * m["looped"] / 4, m)
    clean(inc, peer)
    # Home again, they go by descriptor as before.
    check("it has left", vm.wait() == 0)
    back = a.receive("mover", vf=0)
    b.migrate("mover", back)
    flows(back, peer)
    check("no tag is left in frames here", not a.status("pf0")["vfs"][0][
        "keeps_tags"])
    was = ask(back, "N")["N"]["inframe"]
    flows(back, peer)
    check("not one more", ask(back, "N")["N"]["inframe"] == was)
    clean(back, peer)


def vlans_82576(rig):
    vlans(rig, ["82576", "i350"])


def vlans_i350(rig):
    vlans(rig, ["i350", "82576"])


def thresholds(rig):
    """Write-back thresholds that an 82576 forgets are not taken to one."""
    a, b, vm, peer = pair(rig, models=["i350", "82576"],
                          more=QUICK + " wthresh=4")
    check("it is there", a.status("mover")["devices"][0]["structures"]["rx"][
        0]["wthresh"] == 4)
    inc = b.receive("mover", vf=0)
    rc, r = a.migrate("mover", inc, ok=False)
    check("refused, and why", rc == 1 and "lacks write-back thresholds" in
          r["reason"] and r["rounds"] == 0, r)
    p = rig.pagurus("rebind", "--dir", a.dir, "--vf", b.vf(2), "mover")
    check("neither by rebind", p.returncode == 1 and
          "lacks write-back thresholds" in p.stderr, p.stderr)
    flows(vm, peer)
    p = rig.pagurus("rebind", "--dir", a.dir, "--json", "--vf", a.vf(2),
                    "mover")
    check("to its like it goes", p.returncode == 0 and json.loads(p.stdout)[
        "action"] == "keep", p.stderr)
    flows(vm, peer)
    clean(vm, peer)


def one_of_two(rig):
    """A VM with two VFs, of which only the second finds another generation."""
    a, b = rig.hosts("a", "b", vfs=2)
    c, d = rig.hosts("c", "d", models=MODELS, vfs=2,
                     wire="unix:" + os.path.join(rig.dir, "wire2"))
    more = QUICK.replace("rate=2000", "rate=500") + " devices=2"
    peer = b.run("peer", "id=2 " + more, vf=[b.vf(1), d.vf(1)])
    vm = a.run("mover", "id=1 " + more, vf=[a.vf(0), c.vf(0)])
    for p in (vm, peer):
        p.expect(r"^G ready")

    def both_flow(*procs):
        def got():
            return [x[k]["got"] for x in (ask(p, "Tt") for p in procs)
                    for k in "Tt"]
        was = got()
        wait("traffic on both networks, %s" % was, lambda: all(
            n > o + 100 for n, o in zip(got(), was)))

    both_flow(vm, peer)
    inc = b.receive("mover", vf=[b.vf(0), d.vf(0)])
    r = a.migrate("mover", inc)[1]
    check("one is kept, one rebuilt", [p["action"] for p in r["plan"]] == [
        "keep", "rebuild"], r["plan"])
    both_flow(inc, peer)
    left = [r["devices"][n]["events"] for n in ("net0", "net1")]
    check("only the second was quiesced", [e["what"] for e in left[0]] == [
        "engage", "drain", "migrate"], left[0])
    in_order("and deleted, in order", left[1], LEAVES)
    check("neither was the first rebuilt there", "reconfigure" not in [
        e["what"] for e in events(b, "mover", 0)], events(b, "mover", 0))
    in_order("as the second was", events(b, "mover", 1), ARRIVES)
    now = ask(inc, "Vv")
    check("the first driver noticed nothing", now["V"]["reinits"] == 0 and
          now["V"]["downs"] == 0, now["V"])
    check("the second started over", now["v"]["reinits"] >= 1, now["v"])
    for p in (inc, peer):
        for k in "Tt":
            t = ask(p, k)[k]
            check("nothing is wrong", not (t["doubled"] or t["reordered"] or
                                           t["corrupt"]), t)


CASES = [decided, equal_82576, equal_i350, from_82576, from_i350,
         requests_in_flight, failure_after_deletion, rebind_that_fails,
         vlans_82576, vlans_i350, thresholds, one_of_two]

if __name__ == "__main__":
    sys.exit(main(CASES, "generations-test"))
