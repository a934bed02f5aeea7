"""Stock igb drives the software NIC's PF from a VM: link, ping, a stream."""

LIMIT = 900
MIB = 4

RUN = """exec pagurus run --name g --kernel /tree/guest/vmlinuz \
    --initrd /tree/guest/initrd --mem 256M --console stdio \
    --vf vfio-user:/run/%s/pf.sock \
    --append "console=ttyS0 mitigations=off panic=-1 quiet" """


def scenario(lab):
    a = lab.host("a", memory=1536)

    for i, model in enumerate(("82576", "i350")):
        lab.step("igb binds an %s" % model)
        a.spawn("exec pagurus nic --dir /run/%s --model %s --uplink tap:t%d" %
                (model, model, i))
        a.wait_for("test -S /run/%s/pf.sock" % model, 20)
        a.run("ip addr add 10.80.%d.1/24 dev t%d; ip link set t%d up" %
              (i, i, i))
        g = a.guest(RUN % model)
        g.run("modprobe igb", timeout=120)
        dev = str(g.run("for d in /sys/class/net/*; do "
                        "case $(readlink $d/device/driver) in "
                        "*/igb) echo ${d##*/};; esac; done"))
        lab.say(str(g.run("dmesg | grep -i igb | tail -20")))
        lab.equal("MAC from the NVM",
                  str(g.run("cat /sys/class/net/%s/address" % dev)),
                  "02:70:67:00:00:01")

        lab.step("%s: link and ping" % model)
        g.run("ip addr add 10.80.%d.2/24 dev %s; ip link set %s up" %
              (i, dev, dev))
        g.wait_for("[ $(cat /sys/class/net/%s/carrier) = 1 ]" % dev, 60)
        g.run("ping -c 5 -W 5 10.80.%d.1" % i)

        lab.step("%s: %d MiB each way" % (model, MIB))
        a.run("dd if=/dev/urandom of=/tmp/data bs=1M count=%d 2>/dev/null" %
              MIB)
        want = a.run("md5sum < /tmp/data").out.split()[0]
        t = a.spawn("nc -l -p 5001 < /tmp/data")
        lab.equal("to the guest", g.run(
            "nc 10.80.%d.1 5001 > /tmp/data; md5sum < /tmp/data" % i,
            timeout=200).out.split()[0], want)
        t.wait(30)
        t = a.spawn("mkfifo /tmp/p%d; exec 3<>/tmp/p%d; "
                    "nc -l -p 5002 <&3 > /tmp/back; md5sum < /tmp/back" %
                    (i, i))
        g.run("sleep 1; nc 10.80.%d.1 5002 < /tmp/data" % i, timeout=200)
        t.wait(60)
        lab.equal("from the guest", t.out.split()[0], want)
        lab.say(str(g.run("cat /proc/interrupts | grep %s" % dev)))
        lab.say(str(a.run("pagurus status --dir /run/%s --json nic" %
                          model)))
        g.stop()
        a.run("pagurus stop --dir /run/%s nic; sleep 1" % model)
