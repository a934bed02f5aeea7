"""What a scenario is given: hosts, networks, steps, and an orderly end."""

import json
import os
import shutil
import socket
import tempfile
import time

from . import LabError, LabSkip
from . import tls
from .host import Host
from .net import Net
from .proc import Pump

CPU = "max,phys-bits=36"	# VF BARs below 4 GiB: see NIC-FACTS 6.1


RUN_PREFIX = "pagurus-lab-"	# of the folders with a lab's sockets


class Lab:
    def __init__(self, name, build, image, qemu, say):
        self.name = name
        self.build = build
        self.dir = os.path.join(build, "lab", name)
        self.image = image
        self.qemu_binary = qemu
        self.echo = say
        self.pump = Pump()
        self.all = []
        self.mgmt = self.data = None
        self.step_text = None
        self.begun = time.monotonic()
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        # Socket names must fit in 107 bytes, which a build folder may not.
        self.run_dir = tempfile.mkdtemp(prefix=RUN_PREFIX)
        os.symlink(self.run_dir, os.path.join(self.dir, "run"))
        self.record = open(os.path.join(self.dir, "log"), "w")

    # Telling.

    def log(self, text):
        """Into the scenario's log only."""
        self.record.write("%8.2f  %s\n" % (
            time.monotonic() - self.begun, text.rstrip()))
        self.record.flush()

    def say(self, text):
        """To the reader, and into the log."""
        self.log(text)
        self.echo("  %s" % text)

    def step(self, text):
        """Name what comes next: a failure is reported under this name."""
        self.step_text = text
        self.say("%5.1f s  %s" % (time.monotonic() - self.begun, text))

    # Making.

    def hosts(self, *names, memory=2048, cpus=2, cpu=CPU, nics=1, append=""):
        """Boot hosts side by side: hosts("a", "b"), or hosts(2).

        'append' goes to the kernel's command line, e.g. "hugepages=256".
        """
        if len(names) == 1 and isinstance(names[0], int):
            names = "abcdefgh"[:names[0]]
        self.step("boot " + ", ".join(names))
        if self.mgmt is None:
            self.mgmt = Net(self, "mgmt")
            self.data = Net(self, "data")
        new = []
        for n in names:
            h = Host(self, n, len(self.all) + 1, memory, cpus, cpu,
                     nics, append)
            self.all.append(h)
            new.append(h)
        for h in new:
            h.start()
        for h in new:
            h.boot()
        return new

    def host(self, name="a", **kw):
        return self.hosts(name, **kw)[0]

    def tls(self, *hosts):
        """Certificates for hosts; the folder they are in there."""
        tls.issue(self, hosts)
        return tls.DIR

    # Judging.

    def check(self, what, true, detail=""):
        """A statement that must hold."""
        if not true:
            raise LabError("not so: %s%s" % (what, detail and
                                             "\n" + str(detail)))
        self.log("ok: %s" % what)

    def equal(self, what, got, want):
        self.check(what, got == want, "got %r, want %r" % (got, want))

    def skip(self, reason):
        raise LabSkip(reason)

    def keep(self):
        """Serve lab/sh until a signal comes."""
        server = socket.socket(socket.AF_UNIX)
        server.bind(os.path.join(self.run_dir, "keep"))
        server.listen()
        os.chmod(os.path.join(self.run_dir, "keep"), 0o600)
        self.pump.add(server.fileno(), lambda: self._serve(server))
        while True:
            self.sleep(3600)

    def _serve(self, server):
        """One request of lab/sh: host and script in, output and status out."""
        conn, _ = server.accept()
        with conn, conn.makefile("rw") as f:
            request = json.loads(f.readline())
            found = [h for h in self.all if h.name == request["host"]]
            if not found:
                f.write(json.dumps({"out": "no host of that name\n",
                                    "status": 2}) + "\n")
                return
            c = found[0].spawn(request["script"])
            shown = 0
            while c.status is None or len(c.out) > shown:
                self.pump.once(0.1)
                new = c.out[shown:]
                shown += len(new)
                f.write(json.dumps({"out": new}) + "\n")
                f.flush()
            f.write(json.dumps({"out": "", "status": c.status}) + "\n")

    def sleep(self, seconds):
        """Let time pass; consoles and results are read meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.pump.once(end - time.monotonic())

    # Ending.

    def close(self):
        for h in self.all:
            h.stop()
        for n in (self.mgmt, self.data):
            if n:
                n.close()
        shutil.rmtree(self.run_dir, ignore_errors=True)
        run = os.path.join(self.dir, "run")
        if os.path.islink(run):
            os.unlink(run)
        self.record.close()
