"""Two hosts come up with VFs, an IOMMU and KVM, and reach one another."""

QUICK = True
LIMIT = 180


def scenario(lab):
    a, b = lab.hosts("a", "b")

    lab.step("the kernel's PF driver makes VFs, vfio-pci takes them")
    for h in (a, b):
        vfs = h.nic.vfs(2)
        lab.equal("VFs of %s" % h, len(vfs), 2)
        for vf in vfs:
            lab.equal("driver of " + vf, h.nic.driver(vf), "vfio-pci")
            h.run("vfio-open " + vf)

    lab.step("each VF is alone in its IOMMU group")
    for h in (a, b):
        groups = [h.nic.group(f) for f in [h.nic.bdf] + h.nic.list_vfs()]
        lab.equal("groups of %s" % h, len(set(groups)), len(groups))
        for g in groups[1:]:
            lab.equal("members of group %d" % g, str(h.run(
                "ls /sys/kernel/iommu_groups/%d/devices | wc -l" % g)), "1")

    lab.step("/dev/kvm is usable")
    for h in (a, b):
        lab.equal("nested paging", h.read(
            "/sys/module/kvm_amd/parameters/npt").strip(), "Y")
        h.run("kvm-try")

    lab.step("a pings b over the management network")
    a.run("ping -c 3 -W 2 " + b.mgmt)

    lab.step("a pings b over the data network")
    a.run("ping -c 3 -W 2 " + b.data)
    lab.check("the frames passed the data switch",
              lab.data.stat(a)["rx"] >= 3, lab.data.stat(a))
