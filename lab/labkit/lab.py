"""What a scenario is given: hosts, networks, steps, and an orderly end."""

import os
import shutil
import tempfile
import time

from . import LabError, LabSkip
from .host import Host
from .net import Net
from .proc import Pump

CPU = "max,phys-bits=36"	# VF BARs below 4 GiB: see NIC-FACTS 6.1


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
        self.run_dir = tempfile.mkdtemp(prefix="pagurus-lab-")
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

    def hosts(self, *names, memory=2048, cpus=2, cpu=CPU, nics=1):
        """Boot hosts side by side: hosts("a", "b"), or hosts(2)."""
        if len(names) == 1 and isinstance(names[0], int):
            names = "abcdefgh"[:names[0]]
        self.step("boot " + ", ".join(names))
        if self.mgmt is None:
            self.mgmt = Net(self, "mgmt")
            self.data = Net(self, "data")
        new = []
        for n in names:
            h = Host(self, n, len(self.all) + 1, memory, cpus, cpu,
                     nics)
            self.all.append(h)
            new.append(h)
        for h in new:
            h.start()
        for h in new:
            h.boot()
        return new

    def host(self, name="a", **kw):
        return self.hosts(name, **kw)[0]

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
