"""A VM inside a host, seen through its serial console.

The VM is whatever command puts a guest's console on its standard input and
output: `pagurus run` or `pagurus console`, or another VMM for comparison.
The lab's guest initrd says "guest: ready" and then runs what it is sent.
"""

import base64
import re

from . import LabError
from .result import Result, tail

READY = r"guest: ready"
CODE_MAX = 3000		# a terminal keeps 4095 bytes nobody has read yet


class Guest:
    """Made by Host.guest()."""

    def __init__(self, command):
        self.command = command		# the console; see adopt()
        self.host = command.host
        self.next = 1

    def wait_ready(self, timeout=180):
        self.command.expect(READY, timeout)
        return self

    def adopt(self, command):
        """The console is somewhere else now: the VM has migrated."""
        self.command = command
        self.host = command.host

    @property
    def console(self):
        """All its console has shown."""
        return self.command.out

    def expect(self, pattern, timeout=60):
        return self.command.expect(pattern, timeout)

    def send(self, text):
        """Type text at the console."""
        self.command.send(text)

    def start(self, cmd):
        """Type a script at the guest's shell; a handle for wait().

        The console's input line is short and the kernel may print into the
        output, so the script travels as base64 and its end is a marked line.
        """
        n = self.next
        self.next += 1
        code = base64.b64encode(cmd.encode()).decode()
        if len(code) > CODE_MAX:
            raise LabError("a script of %d bytes is too long for a console" %
                           len(cmd))
        lines = [": > /tmp/s"]
        for i in range(0, len(code), 512):
            lines.append("echo %s >> /tmp/s" % code[i:i + 512])
        lines.append("base64 -d /tmp/s > /tmp/s.%d; echo @@begin:%d; "
                     "sh /tmp/s.%d 2>&1; rc=$?; echo; echo @@end:%d:$rc" %
                     (n, n, n, n))
        self.send("\n".join(lines))
        return n, cmd

    def wait(self, handle, timeout=60, check=True):
        """The Result of what start() typed."""
        n, cmd = handle
        m = self.expect(r"@@end:%d:(\d+)" % n, timeout)
        out = self.console
        begin = re.search(r"@@begin:%d\r?\n" % n, out)
        if not begin:
            raise LabError("guest of %s: the console lost the beginning of: "
                           "%s\n%s" % (self.host, cmd, tail(out)))
        # One newline is ours: output need not end with one.
        text = out[begin.end():m.start()].replace("\r\n", "\n")
        r = Result(cmd, int(m.group(1)), text[:-1])
        self.host.lab.log("[guest of %s] $ %s: exit %d\n%s" % (
            self.host, cmd, r.status, r.out))
        if check and not r.ok:
            raise LabError("[guest of %s] %s: exit %d\n%s" % (
                self.host, cmd, r.status, tail(r.out)))
        return r

    def run(self, cmd, timeout=60, check=True):
        """Run a shell script in the guest; its Result."""
        return self.wait(self.start(cmd), timeout, check)

    def wait_for(self, cmd, timeout=60, every=1):
        """Run it again and again until it succeeds."""
        return self.run("i=0; until ( %s ); do i=$((i + 1)); "
                        "[ $i -lt %d ] || exit 1; sleep %g; done" % (
                            cmd, timeout / every, every), timeout + 60)

    def vf_up(self, address, timeout=60):
        """Give igbvf's interface an address, wait for its link; its name."""
        name = str(self.run("""
            for d in /sys/class/net/*; do
                case $(readlink $d/device/driver) in
                */igbvf) n=${d##*/} ;;
                esac
            done
            [ -n "$n" ] || { echo "no interface of igbvf"; exit 1; }
            ip addr replace %s/24 dev $n && ip link set $n up
            echo $n""" % address))
        self.wait_for("[ $(cat /sys/class/net/%s/carrier) = 1 ]" % name,
                      timeout)
        return name

    def stop(self):
        self.command.kill("KILL")
        self.command.wait(check=False)
