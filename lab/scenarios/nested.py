"""A stock guest with a VF and igbvf runs under another VMM: what the lab can.

Where Pagurus fails and this passes, the fault is not the lab's.
"""

LIMIT = 180
QUICK = True
EXTRA = ["qemu-system-x86_64", "/usr/share/qemu/qboot.rom",
         "/usr/share/qemu/kvmvapic.bin"]

QEMU = """exec qemu-system-x86_64 -L /tree/share -nodefaults -display none \
    -no-reboot -machine q35,accel=kvm,kernel-irqchip=on -cpu host -m 512 \
    -bios /tree/share/qboot.rom \
    -kernel /tree/guest/vmlinuz -initrd /tree/guest/initrd \
    -append "console=ttyS0 mitigations=off panic=-1 quiet" \
    -device vfio-pci,host=%s -serial stdio"""


def scenario(lab):
    a = lab.host("a")

    lab.step("two VFs: one for the guest, one stays with the host")
    guest_vf, host_vf = a.nic.vfs(2)
    a.nic.bind("igbvf", host_vf)
    peer = a.nic.netdev(host_vf)
    a.run("ip addr add 10.79.0.1/24 dev %s; ip link set %s up" % (peer, peer))

    lab.step("the guest boots")
    g = a.guest(QEMU % guest_vf)

    lab.step("it runs scripts and tells output and exit status")
    r = g.run("uname -r; exit 5", check=False)
    lab.equal("exit status", r.status, 5)
    lab.equal("output", r.out.strip(), a.run("uname -r").out.strip())

    lab.step("igbvf has the MAC the PF gave it, and link")
    dev = g.vf_up("10.79.0.2")
    lab.equal("MAC", str(g.run("cat /sys/class/net/%s/address" % dev)),
              a.nic.vf_mac(0))

    lab.step("the guest pings the host's VF")
    g.run("ping -c 3 -W 2 10.79.0.1")

    lab.step("datagrams and a stream come back whole, memory keeps")
    echo = a.spawn("exec load echo 5000")
    g.run("load mem 16 5 > /tmp/m & load udp 10.79.0.1 5000 100 5 > /tmp/u &"
          "load tcp 10.79.0.1 5000 5 > /tmp/t & wait", timeout=90)
    for name in "mut":
        r = g.run("cat /tmp/" + name).json()
        lab.say(str(r))
        lab.equal("corrupt in " + name, r["corrupt"], 0)
    lab.check("echo runs", echo.running)
    g.stop()
