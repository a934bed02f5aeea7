"""A scenario that takes too long is ended and says where it was."""

LIMIT = 30
HIDDEN = True		# named by lab/selftest only


def scenario(lab):
    a = lab.host("a")

    lab.step("a sleeps for an hour")
    a.run("sleep 3600", timeout=3600)
