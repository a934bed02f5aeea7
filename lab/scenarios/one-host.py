"""One host boots, has KVM and an IOMMU, and runs scripts."""

LIMIT = 180


def scenario(lab):
    a = lab.host("a")

    lab.step("it runs a script and tells output and exit status")
    r = a.run("uname -r; echo out; echo err >&2; exit 3", check=False)
    lab.equal("exit status", r.status, 3)
    lab.check("both streams arrive", "out\nerr\n" in r.out, r.out)

    lab.step("/dev/kvm is there, with nested paging")
    a.run("test -c /dev/kvm")
    lab.equal("npt", a.read("/sys/module/kvm_amd/parameters/npt").strip(),
              "Y")

    lab.step("the IOMMU has groups")
    a.run("ls /sys/kernel/iommu_groups | grep -q .")

    lab.step("pagurus runs there")
    a.run("pagurus --help")
