"""A host whose first boot hangs comes up the second time."""

from labkit import host

LIMIT = 120
HIDDEN = True		# named by lab/selftest only


def scenario(lab):
    real = host.Host.qemu
    tries = []

    def hangs_once(self):
        tries.append(self)
        return real(self) + (["-S"] if len(tries) == 1 else [])

    host.Host.qemu, limit = hangs_once, host.BOOT_LIMIT
    host.BOOT_LIMIT = 30
    try:
        a = lab.host("a")
    finally:
        host.Host.qemu, host.BOOT_LIMIT = real, limit
    lab.equal("boots", len(tries), 2)
    a.run("true")
