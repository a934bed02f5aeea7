"""The PF itself is on vfio-pci with a VF token; no VF opens without it."""

import errno

LIMIT = 180
TOKEN = "2ab74924-c335-45f4-9b16-8569e5b08258"
OTHER = "00000000-c335-45f4-9b16-8569e5b08258"


def scenario(lab):
    a = lab.host("a")

    lab.step("the PF goes to vfio-pci and makes VFs")
    vfs = a.nic.pf_to_vfio(vfs=2)
    lab.equal("number of VFs", len(vfs), 2)
    for f in [a.nic.bdf] + vfs:
        lab.equal("driver of " + f, a.nic.driver(f), "vfio-pci")

    lab.step("whoever opens the PF sets the token")
    pf = a.spawn("exec vfio-open --hold %s %s" % (a.nic.bdf, TOKEN))
    pf.expect("opened %s: 8086:10c9" % a.nic.bdf)

    lab.step("a VF is refused without the token, and with another")
    for vf in vfs:
        for token in ("", OTHER):
            r = a.fails("vfio-open %s %s" % (vf, token))
            lab.equal("errno for token '%s'" % token, r.status, errno.EACCES)

    lab.step("a VF opens with the token")
    for vf in vfs:
        a.run("vfio-open %s %s" % (vf, TOKEN))

    lab.step("while a VF is open, the PF needs the token too")
    pf.kill()
    pf.wait(check=False)
    vf = a.spawn("exec vfio-open --hold %s %s" % (vfs[0], TOKEN))
    vf.expect("opened " + vfs[0])
    r = a.fails("vfio-open " + a.nic.bdf)
    lab.equal("errno", r.status, errno.EACCES)
    a.run("vfio-open %s %s" % (a.nic.bdf, TOKEN))
    vf.kill()
    vf.wait(check=False)
