"""A ping to nobody: this scenario must fail, and loudly."""

LIMIT = 120
HIDDEN = True		# named by lab/selftest only


def scenario(lab):
    a = lab.host("a")
    a.run("ip link set mgmt up")
    a.run("echo lab-selftest-marker > /dev/console")

    lab.step("a pings an address nobody has")
    a.run("ping -c 1 -W 2 10.77.0.99")
