"""The igb card of a host: physical function, VFs, and who drives them."""

from . import LabError

SYS = "/sys/bus/pci/devices/"
PF_ID = "0x8086:0x10c9"
VF_DRIVER = "igbvf"


class Nic:
    """Card 'number' of a host; Host.nic is the first."""

    def __init__(self, host, number):
        self.host = host
        self.number = number
        self.dev = "pf%d" % number if number else "pf"
        self._bdf = None

    @property
    def mac(self):
        return "52:54:00:78:%02x:%02x" % (self.number, self.host.index)

    def vf_mac(self, n):
        return "02:00:78:%02x:%02x:%02x" % (self.number, self.host.index, n)

    @property
    def address(self):
        """Of its PF's netdev; each card is in a network of its own."""
        return self.host.data.replace("10.78.0.", "10.78.%d." % self.number)

    @property
    def bdf(self):
        """Address of the physical function, as 0000:01:00.0."""
        if not self._bdf:
            found = self.host.run(
                "cd %s && for d in *; do [ $(cat $d/vendor):$(cat $d/device) "
                "= %s ] && echo $d; done; true" % (SYS, PF_ID)).lines
            if len(found) <= self.number:
                raise LabError("host %s has %d igb cards" % (
                    self.host, len(found)))
            self._bdf = found[self.number]
        return self._bdf

    # The kernel's PF driver.

    def up(self):
        """Let the kernel's igb drive the PF: netdev 'pf', with an address."""
        self.host.run("""
            modprobe igb
            for i in $(seq 50); do
                n=$(ls %(sys)s%(bdf)s/net 2>/dev/null) && break; sleep 0.1
            done
            [ "$n" = %(dev)s ] || ip link set $n name %(dev)s
            ip addr replace %(ip)s/24 dev %(dev)s
            ip link set %(dev)s up
            """ % {"sys": SYS, "bdf": self.bdf, "dev": self.dev,
                   "ip": self.address})
        self.host.wait_for("[ $(cat /sys/class/net/%s/carrier) = 1 ]" %
                           self.dev, timeout=30)

    def vfs(self, count, driver="vfio-pci"):
        """Make VFs under the kernel's PF driver; their addresses.

        The PF is up first, or a VF would find it in reset for ever.  With
        'driver' None nothing is bound.
        """
        self.up()
        self.host.run("echo 0 > %(d)s/sriov_drivers_autoprobe; "
                      "echo %(n)d > %(d)s/sriov_numvfs" %
                      {"d": SYS + self.bdf, "n": count}, timeout=60)
        for n in range(count):
            self.host.run("ip link set %s vf %d mac %s" % (
                self.dev, n, self.vf_mac(n)))
        found = self.list_vfs()
        if driver:
            self.bind(driver, *found)
        return found

    def list_vfs(self):
        return self.host.run(
            "cd %s && for i in $(seq 0 63); do [ -e virtfn$i ] || break; "
            "basename $(readlink virtfn$i); done" % (SYS + self.bdf)).lines

    # A user's PF driver.

    def pf_to_vfio(self, vfs=0):
        """Give the PF itself to vfio-pci, and then make VFs; theirs.

        The VFs' token is set by whoever opens the PF (NIC-FACTS 6.3).
        """
        self.host.run("modprobe vfio-pci && echo Y > "
                      "/sys/module/vfio_pci/parameters/enable_sriov")
        self.bind("vfio-pci", self.bdf)
        if vfs:
            self.host.run("echo %d > %s/sriov_numvfs" % (
                vfs, SYS + self.bdf))
        return self.list_vfs()

    # Any function.

    def bind(self, driver, *bdfs):
        """Take functions from the driver they have and give them another."""
        self.host.run("modprobe " + driver)
        for bdf in bdfs:
            self.host.run("""
                cd %s
                [ ! -e driver ] || echo %s > driver/unbind
                echo %s > driver_override
                echo %s > /sys/bus/pci/drivers_probe
                [ "$(basename $(readlink driver))" = %s ]
                """ % (SYS + bdf, bdf, driver, bdf, driver))

    def driver(self, bdf):
        return str(self.host.run(
            "basename $(readlink %s%s/driver)" % (SYS, bdf)))

    def group(self, bdf):
        """The number of its IOMMU group."""
        return int(str(self.host.run(
            "basename $(readlink %s%s/iommu_group)" % (SYS, bdf))))

    def netdev(self, bdf):
        return str(self.host.run("ls %s%s/net" % (SYS, bdf)))
