"""The networks between hosts: a switch each, and the cards that plug in.

`lab.mgmt` is a virtio card for whatever is not the test's subject; `lab.data`
connects the igb physical functions and so all their VFs.
"""

import json
import os
import socket

from . import LabError
from . import proc

PORTS = [(index, nic) for index in range(1, 9) for nic in (0, 1)]


class Net:
    def __init__(self, lab, name):
        self.lab = lab
        self.name = name
        binary = os.path.join(lab.build, "lab", "lab-switch")
        control = self._path("ctl")
        self.process = proc.start(
            [binary, control] + ["%d.%d=%s" % (i, n, self._path(i, n))
                                 for i, n in PORTS],
            os.path.join(lab.dir, "switch-%s.log" % name))
        lab.pump.until(lambda: os.path.exists(control) or
                       self.process.poll() is not None, 10,
                       "the switch of network %s" % name)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(control)
        self.answers = self.sock.makefile("r")

    def _path(self, *what):
        return os.path.join(self.lab.run_dir, "%s.%s" % (
            self.name, ".".join(map(str, what))))

    def netdev(self, host, nic=0):
        """QEMU's end of the cable."""
        return ["-netdev", "stream,id=%s%d,server=off,addr.type=unix,"
                "addr.path=%s" % (self.name, nic,
                                  self._path(host.index, nic))]

    def _ask(self, line):
        self.sock.sendall(line.encode() + b"\n")
        return self.answers.readline().strip()

    def _set(self, host, key, value, nic):
        answer = self._ask("set %d.%d %s %d" % (host.index, nic, key, value))
        if answer != "ok":
            raise LabError("switch %s: %s" % (self.name, answer))
        self.lab.log("%s: %s of %s is %d" % (self.name, key, host, value))

    def cut(self, host, nic=0):
        """No frame passes to or from the host until mend()."""
        self._set(host, "cut", 1, nic)

    def mend(self, host, nic=0):
        """Undo cut, delay, drop and rate."""
        for key in ("cut", "delay", "drop", "rate"):
            self._set(host, key, 0, nic)

    def delay(self, host, ms, nic=0):
        """Each frame to or from the host is that late: twice in a ping."""
        self._set(host, "delay", ms, nic)

    def drop(self, host, permille, nic=0):
        """Lose that many of 1000 frames, in each direction."""
        self._set(host, "drop", permille, nic)

    def rate(self, host, mbits, nic=0):
        """Frames reach the host no faster than that; 0: no limit."""
        self._set(host, "rate", mbits, nic)

    def stat(self, host, nic=0):
        """Counters of the host's port: rx and tx frames (rx: from the host),
        rx_bytes, tx_bytes, dropped, overflow, rarp, connected."""
        return json.loads(self._ask("stat"))["ports"]["%d.%d" % (
            host.index, nic)]

    def macs(self):
        """Where the switch last saw each address: {mac: host}."""
        by_index = {h.index: h for h in self.lab.all}
        found = json.loads(self._ask("stat"))["macs"]
        return {mac: by_index[int(port.split(".")[0])]
                for mac, port in found.items()}

    def close(self):
        self.answers.close()
        self.sock.close()
        proc.stop(self.process, grace=2)
