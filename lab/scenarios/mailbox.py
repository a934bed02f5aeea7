"""Stock igbvf asks the PF, and the page is trapped once for each exchange.

The PF is driven by `pagurus pf`, so that the mailbox page is direct but for
the exchanges themselves.
"""

LIMIT = 900

RUN = """exec pagurus run --name g --kernel /tree/guest/vmlinuz \
    --initrd /tree/guest/initrd --mem 384M --cpus 2 \
    --vf pf:/run/pagurus/pf0.pf,vf=0 --console stdio \
    --append "console=ttyS0 mitigations=off panic=-1 quiet" """

POLICY = """{"vf": {"0": {"vlans": [0, 100], "mtu": 1400}}}"""


def device(host):
    return host.run("pagurus status g --json").json()["devices"][0]


def page0(dev):
    return [p for p in dev["pages"] if p["bar"] == 0 and p["page"] == 0][0]


def calm(lab, host):
    """Wait until no exchange is going on, and has not been for a while."""
    last = None
    for _ in range(60):
        dev = device(host)
        now = (dev["mailbox"]["episodes"], page0(dev)["direct"])
        if now == last and now[1]:
            return dev
        last = now
        lab.sleep(1)
    lab.check("the mailbox comes to rest", False, str(dev["mailbox"]))


class Deed:
    """What the guest does, and what it cost."""

    def __init__(self, lab, host, guest):
        self.lab, self.host, self.guest = lab, host, guest

    def __call__(self, what, script, least=1):
        self.lab.step(what)
        before = calm(self.lab, self.host)["mailbox"]
        r = self.guest.run(script)
        after = calm(self.lab, self.host)["mailbox"]
        n = {k: after[k] - before[k] for k in after
             if isinstance(after[k], int) and not isinstance(after[k], bool)}
        self.lab.say("%s: %d exchanges, %d episodes, %d reads, %d writes, "
                     "%d refused" % (what, n["exchanges"], n["episodes"],
                                     n["reads"], n["writes"], n["refused"]))
        self.lab.check("it asked the PF", n["exchanges"] >= least, n)
        self.lab.equal("episodes", n["episodes"], n["exchanges"] + n["posts"])
        self.lab.equal("time-outs", n["timeouts"], 0)
        return r, n


def scenario(lab):
    a = lab.host("a")
    a.write("/tmp/policy.json", POLICY)
    a.nic.pf_to_vfio(vfs=2)
    lab.step("the PF driver starts")
    a.run("pagurus pf -n --policy /tmp/policy.json")
    pf = a.spawn("exec pagurus pf --name pf0 --policy /tmp/policy.json " +
                 a.nic.bdf)
    pf.expect("link is up", 60)
    st = a.run("pagurus status pf0 --json").json()
    lab.equal("VFs", len(st["vfs"]), 2)
    lab.check("the token is on no command line",
              "vf-token" not in a.run("cat /proc/[0-9]*/cmdline | tr '\\0' "
                                      "' '").out)

    lab.step("igbvf comes up")
    g = a.guest(RUN, ready=400)
    dev = g.vf_up("10.78.0.100", 120)
    d = calm(lab, a)
    m = d["mailbox"]
    lab.say("from probe to link: %s" % m)
    lab.equal("episodes", m["episodes"], m["exchanges"] + m["posts"])
    lab.equal("time-outs", m["timeouts"], 0)
    lab.check("page 0 is direct", page0(d)["direct"], d)

    lab.step("nothing is intercepted between")
    before = page0(device(a))
    lab.sleep(10)
    after = page0(device(a))
    lab.equal("intercepts in 10 s", [after["reads"], after["writes"]],
              [before["reads"], before["writes"]])

    deed = Deed(lab, a, g)
    deed("MAC change", "ip link set %s address 02:11:22:33:44:55" % dev)
    vf = a.run("pagurus status pf0 --json").json()["vfs"][0]
    lab.equal("the PF's MAC", vf["mac"], "02:11:22:33:44:55")
    deed("multicast join",
         "ip -6 addr add fe80::1234:5678/64 dev %s" % dev)
    vf = a.run("pagurus status pf0 --json").json()["vfs"][0]
    lab.check("the PF's hashes", vf["multicast"] >= 1, vf)

    lab.step("VLANs")
    if g.run("modprobe 8021q && vconfig --help >/dev/null 2>&1 || "
             "modprobe 8021q", check=False).ok:
        deed("VLAN add", "ip link add link %s name v100 type vlan id 100" %
             dev)
        vf = a.run("pagurus status pf0 --json").json()["vfs"][0]
        lab.check("the PF's VLANs", 100 in vf["vlans"], vf)
        deed("VLAN remove", "ip link del v100")
        _, n = deed("a VLAN that is not allowed",
                    "ip link add link %s name v200 type vlan id 200; true" %
                    dev)
        lab.equal("refused", n["refused"], 1)
    else:
        lab.say("no 8021q in the guest: VLANs are not exercised here")

    _, n = deed("MTU change", "ip link set %s mtu 1300" % dev, 3)
    vf = a.run("pagurus status pf0 --json").json()["vfs"][0]
    lab.equal("the PF's largest frame", vf["max_frame"], 1322)
    deed("down and up", "ip link set %s down; ip link set %s up" %
         (dev, dev), 3)
    g.wait_for("[ $(cat /sys/class/net/%s/carrier) = 1 ]" % dev, 60)
    vf = a.run("pagurus status pf0 --json").json()["vfs"][0]
    lab.equal("the PF's MAC", vf["mac"], "02:11:22:33:44:55")

    lab.step("a VM that is killed gives its VF back")
    g.stop()
    a.wait_for("pagurus status pf0 --json | grep -q '\"live\": 0'", 20)
    vf = a.run("pagurus status pf0 --json").json()["vfs"][0]
    lab.equal("its filters", [vf["mac"], vf["clear_to_send"]],
              ["00:00:00:00:00:00", False])
    g = a.guest(RUN, ready=400)
    g.vf_up("10.78.0.100", 120)
    d = calm(lab, a)
    lab.check("page 0 is direct", page0(d)["direct"], d)
