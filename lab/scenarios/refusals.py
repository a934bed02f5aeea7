"""What cannot work is refused in one message, and leaves nothing behind."""

LIMIT = 180
QUICK = True
EXTRA = ["setpriv"]

RUN = """pagurus run --name g --kernel %s --mem %s --vf %s </dev/null"""
KERNEL = "/tree/guest/vmlinuz"
SMBUS, SATA = "0000:00:1f.3", "0000:00:1f.2"


class Refusals:
    def __init__(self, lab, host):
        self.lab, self.host = lab, host

    def __call__(self, step, words, vf="none,model=igb/82576", kernel=KERNEL,
                 mem="256M", before="", run=RUN):
        """One message with all the words; returns it."""
        self.lab.step(step)
        r = self.host.fails(before + run % (kernel, mem, vf), 120)
        said = [x for x in r.out.splitlines() if x.startswith("pagurus run: ")]
        self.lab.check("one message", len(said) == 1 and "usage" not in r.out,
                       r.out)
        for w in words:
            self.lab.check("it says " + w, w in said[0], said[0])
        left = self.host.run("ls /run/pagurus 2>/dev/null; pidof pagurus; true")
        self.lab.check("nothing is left", not left.out.strip(), left.out)
        self.lab.say(said[0])
        return said[0]


def close_port(host, bdf):
    """The root port before a card lets no memory access through any more."""
    host.run("""
        f=$(dirname $(readlink -f /sys/bus/pci/devices/%s))/config
        v=$(dd if=$f bs=1 skip=4 count=1 2>/dev/null | od -An -tu1)
        printf "\\\\$(printf %%03o $((v & ~2)))" |
            dd of=$f bs=1 seek=4 count=1 conv=notrunc 2>/dev/null
        """ % bdf)


def scenario(lab):
    a = lab.host("a")
    refused = Refusals(lab, a)
    vf = a.nic.vfs(1, driver="igbvf")[0]

    a.run("mv /dev/kvm /dev/kvm.away")
    refused("no /dev/kvm", ["/dev/kvm is not there", "kvm_amd"])
    a.run("mv /dev/kvm.away /dev/kvm; chmod 660 /dev/kvm; "
          "mkdir -m 700 /tmp/user; chown 1000 /tmp/user")
    refused("a user who may not have it", ["/dev/kvm may not be opened",
                                           "group"],
            before="PAGURUS_DIR=/tmp/user setpriv --reuid 1000 --regid 1000 "
                   "--clear-groups ")
    refused("a kernel that is none", ["/tree/guest/initrd", "not bootable",
                                      "vmlinuz"], kernel="/tree/guest/initrd")
    refused("more memory than there are addresses", ["give it less"],
            mem="512T")

    text = refused("a VF another driver has", [vf, "bound to igbvf"], vf)
    a.run(text.split("not to vfio-pci: ")[1])
    lab.equal("its remedy, done", a.nic.driver(vf), "vfio-pci")
    refused("a token nobody asked for", ["leave vf-token= out"],
            vf + ",vf-token=2ab74924-c335-45f4-9b16-8569e5b08258")
    refused("the same VF twice", [vf, "another device of this VM"],
            vf + " --vf " + vf)
    refused("too little memory may be locked",
            ["4096 MiB of guest RAM cannot be pinned", "ulimit -l"], vf,
            mem="4G", before="ulimit -l 65536; setpriv --bounding-set "
            "-ipc_lock --inh-caps -ipc_lock ")

    a.nic.bind("ahci", SATA)
    a.nic.bind("vfio-pci", SMBUS)
    lab.equal("one group", a.nic.group(SATA), a.nic.group(SMBUS))
    refused("a group the host still uses", [
        SMBUS, "group %s is not viable" % a.nic.group(SMBUS),
        SATA + " (ahci)"], SMBUS)

    lab.step("a name in use, until its owner is killed")
    vm = a.spawn("exec " + RUN % (KERNEL, "256M", vf))
    a.wait_for("pagurus status g")
    r = a.fails(RUN % (KERNEL, "256M", "none,model=igb/82576"))
    lab.check("it is named", "'g' runs already" in r.out, r.out)
    vm.kill("KILL")
    vm.wait(30, check=False)
    vm = a.spawn("exec " + RUN % (KERNEL, "256M", vf))
    a.wait_for("pagurus status g")
    a.run("pagurus stop --force g")
    vm.wait(30)

    close_port(a, a.nic.bdf)
    refused("a VF whose BAR decodes nowhere", [
        vf, "BAR 0 does not answer", "memory space"], vf)
