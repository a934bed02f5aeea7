"""One virtual host: QEMU, its console, and commands run inside it."""

import os
import re
import shlex
import shutil
import socket
import time

from . import LabError
from . import proc
from .guest import Guest
from .nic import Nic
from .result import Result, read, tail

BOOT_LIMIT = 75		# a good boot takes 10 to 25 s with two side by side


class Command:
    """A command under way on a host; made by Host.spawn()."""

    def __init__(self, host, number, cmd):
        self.host = host
        self.number = number
        self.cmd = cmd
        self.status = None
        self.base = os.path.join(host.share, "cmd", str(number))

    @property
    def fifo(self):
        return "/run/lab-in.%d" % self.number

    def send(self, text):
        """Write to its standard input; it was spawned with stdin=True."""
        self.host.run("cat > %s <<'LAB-END'\n%s\nLAB-END" % (
            self.fifo, text.rstrip("\n")))

    @property
    def out(self):
        """What it has printed so far."""
        try:
            with open(self.base + ".out", "rb") as f:
                return f.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    @property
    def running(self):
        self.host.lab.pump.once(0)
        return self.status is None

    @property
    def pid(self):
        """Its process on the host; also the id of its process group."""
        path = self.base + ".pid"
        self.host.lab.pump.until(lambda: os.path.exists(path) and
                                 os.path.getsize(path), 20,
                                 "%s to start" % self)
        with open(path) as f:
            return int(f.read())

    def wait(self, timeout=60, check=True):
        """Its Result; with 'check', a status other than 0 is a failure."""
        self.host.wait_ready(lambda: self.status is not None, timeout,
                             "%s to end" % self, self)
        r = Result(self.cmd, self.status, self.out)
        if check and not r.ok:
            raise LabError("%s: exit %d\n%s" % (self, r.status, tail(r.out)))
        return r

    def expect(self, pattern, timeout=60):
        """Wait for a regular expression in the output; its match object."""
        def look():
            return re.search(pattern, self.out, re.M) or self.status is not None

        self.host.wait_ready(look, timeout, "%r from %s" % (pattern, self),
                             self)
        m = re.search(pattern, self.out, re.M)
        if not m:
            raise LabError("%s ended with %d before it said %r\n%s" % (
                self, self.status, pattern, tail(self.out)))
        return m

    def kill(self, sig="TERM"):
        """Signal the command and all it started that is still its group."""
        if self.running:
            self.host.run("kill -%s -%d" % (sig, self.pid), check=False)

    def __str__(self):
        first = self.cmd.strip().splitlines()[0][:70]
        return "[%s] %s" % (self.host.name, first)


class Host:
    """Made by Lab.hosts(); see lab/README.md for what a scenario does."""

    def __init__(self, lab, name, index, memory, cpus, cpu, nics,
                 append):
        self.lab = lab
        self.name = name
        self.index = index
        self.memory = memory
        self.cpus = cpus
        self.cpu = cpu
        self.append = append
        self.dir = os.path.join(lab.dir, name)
        self.share = os.path.join(self.dir, "share")
        self.console = os.path.join(self.dir, "console.log")
        self.mgmt = "10.77.0.%d" % index
        self.data = "10.78.0.%d" % index
        self.nics = [Nic(self, n) for n in range(nics)]
        self.process = None
        self.sock = None
        self.commands = {}
        self.next = 1
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(os.path.join(self.share, "cmd"))

    # Life.

    def qemu(self):
        """The command line."""
        image = self.lab.image
        run = self.lab.run_dir
        append = [
            "console=ttyS0", "loglevel=5", "panic=-1", "intel_iommu=on",
            "iommu=nopt", "mitigations=off", "random.trust_cpu=on",
            "nokaslr", "nmi_watchdog=0", "iomem=relaxed",
            # The kernel counts ticks in a busy loop, and panics if others
            # kept this machine from delivering them in time.
            "no_timer_check",
            "lab.name=" + self.name, "lab.mgmt=%s/24" % self.mgmt,
            self.append]
        argv = [
            self.lab.qemu_binary, "-name", "lab-" + self.name,
            "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot",
            "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512",
            "-cpu", self.cpu, "-smp", str(self.cpus),
            "-m", str(self.memory),
            "-kernel", image.vmlinux, "-initrd", image.host,
            "-append", " ".join(append),
            "-chardev", "file,id=con,path=" + self.console,
            "-serial", "chardev:con",
            "-qmp", "unix:%s/%s.qmp,server=on,wait=off" % (run, self.name),
            "-device", "intel-iommu,intremap=on",
            "-device", "virtio-serial-pci",
            "-chardev", "socket,id=agent,path=%s/%s.agent,server=on,wait=off"
            % (run, self.name),
            "-device", "virtserialport,chardev=agent,name=lab.agent"]
        for tag, path, ro in (("tree", image.tree_dir, ",readonly=on"),
                              ("share", self.share, "")):
            argv += [
                "-fsdev", "local,id=%s,path=%s,security_model=none%s" %
                (tag, path, ro),
                "-device", "virtio-9p-pci,fsdev=%s,mount_tag=%s" % (tag, tag)]
        argv += self.lab.mgmt.netdev(self) + [
            "-device", "virtio-net-pci,netdev=mgmt0,mac=52:54:00:77:00:%02x"
            % self.index]
        for nic in self.nics:
            n = nic.number
            argv += self.lab.data.netdev(self, n) + [
                "-device", "pcie-root-port,id=rp%d,chassis=%d,slot=%d" %
                (n, n + 1, n + 1),
                "-device", "igb,bus=rp%d,netdev=data%d,mac=%s" %
                (n, n, nic.mac)]
        return argv

    @property
    def nic(self):
        """Its first igb card."""
        return self.nics[0]

    def start(self):
        argv = self.qemu()
        with open(os.path.join(self.dir, "qemu.cmd"), "w") as f:
            f.write(" ".join(map(shlex.quote, argv)) + "\n")
        self.hello = False
        self.pending = b""
        self.started = time.monotonic()
        self.process = proc.start(argv, os.path.join(self.dir, "qemu.log"))

    def boot(self, timeout=None):
        """Wait for the agent; one boot that hangs or dies is tried again."""
        timeout = timeout or BOOT_LIMIT
        for attempt in (1, 2):
            if self.process is None:
                self.start()
            try:
                left = timeout - (time.monotonic() - self.started)
                self.lab.pump.until(self._greeted, max(left, 1),
                                    "host %s to boot" % self.name)
                self.lab.say("host %s is up after %.1f s" % (
                    self.name, time.monotonic() - self.started))
                return
            except LabError:
                # A kernel that panics in boot ends QEMU; if that ended
                # before any kernel spoke, the next one would as well.
                died = not self._alive()
                if attempt == 2 or (died and not read(self.console)):
                    raise
                self.lab.say("host %s %s in boot; once more" % (
                    self.name, "dies" if died else "hangs"))
                self.stop()
                os.rename(self.console, self.console + ".hung")

    def stop(self):
        """As pulling the plug."""
        if self.sock:
            self.lab.pump.remove(self.sock.fileno())
            self.sock.close()
            self.sock = None
        if self.process:
            proc.stop(self.process)
            self.process = None
        for c in self.commands.values():
            c.status = 255 if c.status is None else c.status

    def reboot(self):
        """Plug out, plug in, wait until it is up."""
        self.stop()
        self.boot()

    def _alive(self):
        return self.process is not None and self.process.poll() is None

    def _greeted(self):
        if not self._alive():
            raise LabError("QEMU of host %s ended: %s" % (
                self.name, tail(read(os.path.join(self.dir, "qemu.log")))))
        if self.sock is None:
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                s.connect("%s/%s.agent" % (self.lab.run_dir, self.name))
            except (FileNotFoundError, ConnectionRefusedError):
                s.close()
                return False
            s.setblocking(False)
            self.sock = s
            self.lab.pump.add(s.fileno(), self._agent_said)
        return self.hello

    def _agent_said(self):
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        if not data:
            self.lab.pump.remove(self.sock.fileno())
            return
        self.pending += data
        *lines, self.pending = self.pending.split(b"\n")
        for line in lines:
            w = line.decode(errors="replace").split()
            if w == ["hello"]:
                self.hello = True
            elif len(w) == 3 and w[0] == "done":
                c = self.commands.get(int(w[1]))
                if c:
                    c.status = int(w[2])

    # Commands.

    def guest(self, cmd, ready=180):
        """Start a VM whose console is the command's input and output.

        With 'ready', wait that long for the lab's guest initrd to say that
        it takes commands; see guest.py.
        """
        g = Guest(self.spawn(cmd, stdin=True))
        return g.wait_ready(ready) if ready else g

    def spawn(self, cmd, stdin=False):
        """Start a shell script on the host and go on; see Command.

        With 'stdin' its input is what Command.send() sends; else nothing.
        """
        if not self._alive():
            raise LabError("host %s is not running" % self.name)
        n = self.next
        self.next += 1
        c = Command(self, n, cmd)
        with open(c.base + ".sh", "w") as f:
            if stdin:
                # Open at both ends, so that it never comes to an end.
                f.write("mkfifo %s && exec 0<>%s\n" % (c.fifo, c.fifo))
            f.write(cmd + "\n")
        self.commands[n] = c
        self.sock.setblocking(True)
        self.sock.sendall(b"run %d\n" % n)
        self.sock.setblocking(False)
        self.lab.log("[%s] $ %s" % (self.name, cmd.strip()))
        return c

    def run(self, cmd, timeout=60, check=True):
        """Run a shell script on the host; its Result."""
        c = self.spawn(cmd)
        try:
            r = c.wait(timeout, check)
        finally:
            self.lab.log("[%s] exit %s\n%s" % (self.name, c.status, c.out))
        return r

    def fails(self, cmd, timeout=60):
        """Run what must fail; its Result."""
        r = self.run(cmd, timeout, check=False)
        if r.ok:
            raise LabError("[%s] should have failed: %s\n%s" % (
                self.name, cmd, tail(r.out)))
        return r

    def wait_for(self, cmd, timeout=60, every=0.5):
        """Run it again and again until it succeeds; its Result."""
        end = time.monotonic() + timeout * self.lab.pump.slow
        while True:
            r = self.run(cmd, max(1, end - time.monotonic()), check=False)
            if r.ok:
                return r
            if time.monotonic() + every > end:
                raise LabError("[%s] not true within %gs: %s\n%s" % (
                    self.name, timeout, cmd, tail(r.out)))
            self.lab.sleep(every)

    def wait_ready(self, ready, timeout, what, command=None):
        """Pump.until, and a dead host is noticed at once."""
        def look():
            if not self._alive():
                raise LabError("host %s died while waiting for %s" % (
                    self.name, what))
            return ready()

        try:
            return self.lab.pump.until(look, timeout, what)
        except LabError as e:
            if command is not None and command.out:
                raise LabError("%s\n%s" % (e, tail(command.out))) from None
            raise

    # Files.

    def put(self, local, path):
        """Copy a file of this machine to the host."""
        shutil.copy(local, os.path.join(self.share, "transfer"))
        self.run("mkdir -p $(dirname %s) && cp /lab/transfer %s" % (
            shlex.quote(path), shlex.quote(path)))

    def get(self, path, local=None):
        """Copy a file of the host here, by default into its results."""
        local = local or os.path.join(self.dir, os.path.basename(path))
        self.run("cp %s /lab/transfer" % shlex.quote(path))
        shutil.copy(os.path.join(self.share, "transfer"), local)
        return local

    def write(self, path, text, mode="644"):
        with open(os.path.join(self.share, "transfer"), "w") as f:
            f.write(text)
        self.run("mkdir -p $(dirname %s) && cp /lab/transfer %s && chmod %s %s"
                 % (shlex.quote(path), shlex.quote(path), mode,
                    shlex.quote(path)))

    def read(self, path):
        return self.run("cat " + shlex.quote(path)).out

    def console_tail(self, lines=25):
        return tail(read(self.console), lines)

    def __str__(self):
        return self.name
