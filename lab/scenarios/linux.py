"""A stock kernel boots under the bare VMM: SMP, PCI, shell, power off, reboot."""

EXTRA = ["tests/kvm/kvm-boot"]
LIMIT = 400

BOOT = """exec kvm-boot -t 300 -m 256 -c %d -i /tree/guest/initrd \
    -a "console=ttyS0 mitigations=off panic=-1 %s" %s"""


def scenario(lab):
    a = lab.host("a")

    lab.step("bzImage, one CPU")
    g = a.guest(BOOT % (1, "quiet", "/tree/guest/vmlinuz"))
    lab.equal("CPUs", g.run("nproc").out.strip(), "1")
    lab.equal("PCI", g.run("ls /sys/bus/pci/devices").out.strip(),
              "0000:00:00.0")
    lab.step("power off by ACPI")
    g.send("poweroff -f\n")
    g.expect("boot: poweroff", 60)

    lab.step("ELF, two CPUs")
    g = a.guest(BOOT % (2, "quiet", "/tree/guest/vmlinux"))
    lab.equal("CPUs", g.run("nproc").out.strip(), "2")
    lab.equal("clock", g.run(
        "cat /sys/devices/system/clocksource/clocksource0/current_clocksource"
    ).out.strip(), "kvm-clock")
    lab.step("reboot")
    g.send("reboot -f\n")
    g.expect("boot: reboot", 60)
