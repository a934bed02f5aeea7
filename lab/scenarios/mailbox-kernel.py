"""Stock igbvf asks a PF that the host's own igb drives: the page stays trapped.

Requests that have a rule reach the host's driver, its answers reach the
guest, and both sides agree on what was granted.  Moved to another VF, the
guest takes its address along: the host's driver is told by rtnetlink.
"""

LIMIT = 900

RUN = """exec pagurus run --name g --kernel /tree/guest/vmlinuz \
    --initrd /tree/guest/initrd --mem 384M --cpus 2 --vf %s --console stdio \
    --append "console=ttyS0 mitigations=off panic=-1 quiet" """


def device(host):
    return host.run("pagurus status g --json").json()["devices"][0]


def scenario(lab):
    a, b = lab.hosts("a", "b")
    b.nic.up()
    vf, other = a.nic.vfs(2)

    lab.step("igbvf comes up")
    g = a.guest(RUN % vf, ready=400)
    dev = g.vf_up("10.78.0.100", 120)
    d = device(a)
    m = d["mailbox"]
    lab.say("from probe to link: %s" % m)
    lab.equal("mode", m["mode"], "kernel")
    lab.check("it was clear to send", m["clear_to_send"], m)
    lab.check("it asked, and was answered", m["granted"] >= 2, m)
    lab.equal("time-outs", m["timeouts"], 0)
    lab.equal("direct pages", [p["direct"] for p in d["pages"]
                               if p["bar"] == 0],
              [False, True, True, True])
    g.run("ping -c 3 -W 2 " + b.data)

    def deed(what, script, least=1):
        lab.step(what)
        before = device(a)["mailbox"]
        g.run(script)
        lab.sleep(3)
        after = device(a)["mailbox"]
        n = {k: after[k] - before[k] for k in
             ("exchanges", "granted", "refused", "timeouts", "reads",
              "writes")}
        lab.say("%s: %s" % (what, n))
        lab.check("it asked the PF", n["exchanges"] >= least, n)
        lab.equal("answered", n["granted"] + n["refused"], n["exchanges"])
        lab.equal("time-outs", n["timeouts"], 0)
        return n

    n = deed("a MAC the host's policy refuses",
             "ip link set %s address 02:11:22:33:44:55; true" % dev)
    lab.check("the host refused", n["refused"] >= 1, n)
    deed("multicast join", "ip -6 addr add fe80::1234:5678/64 dev %s" % dev)
    g.run("modprobe 8021q")
    deed("VLAN add", "ip link add link %s name v100 type vlan id 100" % dev)
    deed("VLAN remove", "ip link del v100")
    deed("MTU change", "ip link set %s mtu 1300" % dev, 3)
    deed("down and up", "ip link set %s down; ip link set %s up" %
         (dev, dev), 3)
    g.wait_for("[ $(cat /sys/class/net/%s/carrier) = 1 ]" % dev, 60)
    g.run("ping -c 3 -W 2 " + b.data)

    lab.step("the idle cost is the watchdog's")
    before = device(a)["counts"]
    lab.sleep(20)
    after = device(a)["counts"]
    n = after["reads"] + after["writes"] - before["reads"] - before["writes"]
    lab.say("%d intercepts in 20 s" % n)
    lab.check("about ten each two seconds", n <= 15 * 11, n)

    lab.step("another VF, the same address")
    mac = g.run("cat /sys/class/net/%s/address" % dev).lines[0]
    p = a.run("pagurus rebind --json --vf %s g" % other, timeout=60)
    lab.say(p.lines[-1])
    g.wait_for("[ $(cat /sys/class/net/%s/carrier) = 1 ]" % dev, 60)
    g.run("ping -c 3 -W 2 " + b.data)
    lab.equal("the guest's address", g.run(
        "cat /sys/class/net/%s/address" % dev).lines[0], mac)
    links = a.run("ip link show %s" % a.nic.dev).lines
    lab.say("\n".join(x.strip() for x in links if "vf " in x))
    lab.check("the host's driver has it for VF 1",
              any(x.strip().startswith("vf 1 ") and mac in x for x in links),
              links)
