"""Stock igbvf on the software NIC: two VMs of a host, then of two hosts."""

LIMIT = 900
MIB = 16

RUN = """exec pagurus run --name %s --kernel /tree/guest/vmlinuz \
    --initrd /tree/guest/initrd --mem 256M --vf %s --console stdio \
    --append "console=ttyS0 mitigations=off panic=-1 quiet" """


def nic_status(host):
    return host.run("pagurus status --dir /run/nic0 --json nic").json()


def card(host, model):
    """A software NIC with its PF driver; both end with the host."""
    host.spawn("exec pagurus nic --dir /run/nic0 --model %s --vfs 2 "
               "--uplink packet:pf" % model)
    host.wait_for("test -S /run/nic0/pf.sock", 20)
    host.spawn("exec pagurus pf --name pf0 --vfs 2 "
               "vfio-user:/run/nic0/pf.sock")
    host.wait_for("test -S /run/nic0/vf1.sock && "
                  "test -S /run/pagurus/pf0.pf", 20)


def stream(lab, a, b, address, what):
    """MIB of noise from b to a through nc, compared by checksum."""
    lab.step("%d MiB, %s" % (MIB, what))
    b.run("dd if=/dev/urandom of=/tmp/data bs=1M count=%d 2>/dev/null" % MIB)
    want = b.run("md5sum < /tmp/data").out.split()[0]
    h = a.start("nc -l -p 5001 > /tmp/got; md5sum < /tmp/got")
    b.run("sleep 1; nc %s 5001 < /tmp/data" % address, timeout=200)
    lab.equal("content", a.wait(h, 60).out.split()[0], want)


def scenario(lab):
    a, b = lab.hosts("a", "b", memory=1536)
    a.nic.up()
    b.nic.up()
    card(a, "82576")
    card(b, "i350")

    lab.step("igbvf binds both models and has link")
    g0 = a.guest(RUN % ("g0", "pf:/run/pagurus/pf0.pf,vf=0"))
    g1 = a.guest(RUN % ("g1", "pf:/run/pagurus/pf0.pf,vf=1"))
    d0 = g0.vf_up("10.79.0.1")
    g1.vf_up("10.79.0.2")

    lab.step("ping within the NIC")
    g0.run("ping -c 5 -W 5 10.79.0.2")

    stream(lab, g0, g1, "10.79.0.1", "VF to VF of one NIC")

    lab.step("frames took no message")
    before = nic_status(a)["counts"]
    g0.run("ping -c 100 -i 0.02 -q 10.79.0.2 || "
           "ping -c 20 -q 10.79.0.2", timeout=90)
    after = nic_status(a)["counts"]
    n = {k: after[k] - before[k] for k in after}
    lab.say("meanwhile: %s" % {k: n[k] for k in (
        "rx_frames", "messages", "direct_writes", "irqs", "no_buffer")})
    lab.check("nothing is lost", n["no_buffer"] == 0, n)
    # igbvf re-arms by EIMS, one message an interrupt; none per frame.
    lab.check("messages only for interrupts",
              n["messages"] <= n["irqs"] * 2 + 100, n)
    lab.say(str(g0.run("grep %s /proc/interrupts" % d0)))

    lab.step("over the wire to the other host, an I350")
    g1.stop()
    g2 = b.guest(RUN % ("g2", "pf:/run/pagurus/pf0.pf,vf=1"))
    g2.vf_up("10.79.0.3")
    g0.run("ping -c 5 -W 5 10.79.0.3")
    stream(lab, g0, g2, "10.79.0.1", "across the wire")

    lab.step("an idle NIC sleeps")
    lab.sleep(3)
    ticks = "cut -d' ' -f14,15 /proc/%d/stat" % nic_status(a)["pid"]
    t0 = sum(map(int, a.run(ticks).out.split()))
    lab.sleep(10)
    t1 = sum(map(int, a.run(ticks).out.split()))
    lab.say("CPU of an idle NIC (emulated host): %.1f %%" % ((t1 - t0) / 10))
