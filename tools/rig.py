"""Hosts made of processes: software NICs, PF drivers and VMs on one machine.

For the demo and for tests.  A Host has its own directory of control sockets
and one software NIC; NICs of two hosts are joined by a wire.  Everything a
Rig starts is ended with it, by pid, and its output kept in files.

    with Rig(pagurus, guest) as rig:
        a, b = rig.hosts("a", "b")
        vm = a.run("mover", "id=1 stay=1", vf=0)
        a.migrate("mover", b.receive("mover", vf=0))
"""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time


class Failed(Exception):
    pass


class Proc:
    """A child with its output in a file and its input open."""

    def __init__(self, name, argv, log):
        self.name, self.argv, self.log = name, argv, log
        self.out = open(log, "ab")
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=self.out,
                                  stderr=subprocess.STDOUT)

    def alive(self):
        return self.p.poll() is None

    def text(self):
        with open(self.log, "rb") as f:
            return f.read().decode(errors="replace").replace("\r", "")

    def say(self, line):
        try:
            self.p.stdin.write((line + "\n").encode())
            self.p.stdin.flush()
        except BrokenPipeError:
            raise Failed("%s has ended (%s), nobody hears '%s':\n%s" % (
                self.name, self.p.poll(), line, self.tail()))

    def expect(self, pattern, seconds=120, count=1):
        """Wait until the pattern has matched so many times; the last match."""
        end = time.monotonic() + seconds
        while True:
            found = list(re.finditer(pattern, self.text(), re.M))
            if len(found) >= count:
                return found[-1]
            if not self.alive():
                raise Failed("%s ended (%s) before '%s':\n%s" % (
                    self.name, self.p.returncode, pattern, self.tail()))
            if time.monotonic() > end:
                raise Failed("%s: no '%s' in %d s:\n%s" % (
                    self.name, pattern, seconds, self.tail()))
            time.sleep(0.02)

    def tail(self, lines=15):
        return "\n".join("    " + x for x in self.text().splitlines()[-lines:])

    def wait(self, seconds=120):
        try:
            return self.p.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed("%s does not end:\n%s" % (self.name, self.tail()))

    def kill(self, sig=signal.SIGKILL):
        if self.alive():
            self.p.send_signal(sig)

    def end(self):
        if self.alive():
            self.p.terminate()
            try:
                self.p.wait(30)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
        try:
            self.p.stdin.close()
        except BrokenPipeError:
            pass                # what was said last was not heard
        self.out.close()


class Host:
    """A directory, a software NIC and its PF driver."""

    def __init__(self, rig, name, model, vfs, wire, policy=None):
        self.rig, self.name, self.vfs = rig, name, vfs
        self.dir = os.path.join(rig.dir, name)
        self.nicdir = os.path.join(self.dir, "nic")
        os.makedirs(self.nicdir, mode=0o700)
        self.pf_socket = os.path.join(self.dir, "pf.sock")
        args = ["nic", "--dir", self.nicdir, "--model", model,
                "--vfs", str(vfs), "--mac", "02:70:67:%02x:00:01" %
                len(rig.all_hosts), "--uplink", wire]
        self.nic = rig.spawn(name + ".nic", args)
        rig.wait_for(os.path.join(self.nicdir, "pf.sock"), self.nic)
        self.policy = policy
        self.start_pf()

    def start_pf(self):
        args = ["pf", "vfio-user:" + os.path.join(self.nicdir, "pf.sock"),
                "--vfs", str(self.vfs), "--socket", self.pf_socket,
                "--dir", self.dir]
        if self.policy:
            args += ["--policy", self.policy]
        self.pf = self.rig.spawn(self.name + ".pf", args)
        self.rig.wait_for(self.pf_socket, self.pf)

    def vf(self, n):
        return "pf:%s,vf=%d" % (self.pf_socket, n)

    def vf_args(self, vf):
        """--vf for None, a number, a spec, or several of them."""
        return [x for one in (vf if isinstance(vf, (list, tuple)) else [vf])
                if one is not None
                for x in ("--vf", one if isinstance(one, str)
                          else self.vf(one))]

    def run(self, vm, append, vf=None, mem="64M", cpus=1, more=()):
        args = ["run", "--name", vm, "--dir", self.dir, "--kernel",
                self.rig.guest, "--append", append, "--mem", mem,
                "--cpus", str(cpus), "--console", "stdio", *more]
        args += self.vf_args(vf)
        return self.rig.spawn("%s.%s" % (self.name, vm), args)

    def receive(self, vm, vf=None, more=(), listen=None):
        """A waiting `receive`; its .addr is where."""
        self.rig.serial += 1
        listen = listen or "unix:%s/in%d" % (self.dir, self.rig.serial)
        args = ["receive", "--name", vm, "--dir", self.dir, "--listen", listen,
                "--console", "stdio", *more]
        args += self.vf_args(vf)
        p = self.rig.spawn("%s.%s.in%d" % (self.name, vm, self.rig.serial),
                           args)
        p.addr = p.expect(r"^listening on (\S+)").group(1)
        return p

    def migrate(self, vm, dest, more=(), ok=True):
        """(exit status, result) of a migration; dest: a Proc or an address."""
        addr = dest if isinstance(dest, str) else dest.addr
        p = self.rig.pagurus("migrate", "--dir", self.dir, "--json", vm, addr,
                             *more)
        last = [x for x in p.stdout.splitlines() if '"outcome"' in x]
        if ok and p.returncode != 0:
            why = json.loads(last[-1])["reason"] if last else ""
            raise Failed("migrate %s: exit %d: %s" % (
                vm, p.returncode, why or p.stderr.strip()))
        return p.returncode, json.loads(last[-1]) if last else None

    def nic_counts(self):
        """What the host's software NIC has counted."""
        p = self.rig.pagurus("status", "--dir", self.nicdir, "--json", "nic")
        return json.loads(p.stdout)["counts"]

    def trace(self, vm):
        """The last events of a VM or a PF driver, oldest first."""
        p = self.rig.pagurus("status", "--dir", self.dir, "--json",
                             "--trace", vm)
        if p.returncode:
            raise Failed("status --trace %s: %s" % (vm, p.stderr.strip()))
        return json.loads(p.stdout)["events"]

    def status(self, vm):
        p = self.rig.pagurus("status", "--dir", self.dir, "--json", vm)
        if p.returncode:
            raise Failed("status %s: %s" % (vm, p.stderr.strip()))
        return json.loads(p.stdout)


class Rig:
    def __init__(self, program, guest, keep=None):
        self.program, self.guest, self.keep = program, guest, keep
        self.procs, self.all_hosts, self.serial = [], [], 0
        # Socket names are short of room: not below a deep build folder.
        self.dir = tempfile.mkdtemp(prefix="pagurus-")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for p in reversed(self.procs):
            p.end()
        if self.keep:
            shutil.rmtree(self.keep, ignore_errors=True)
            os.makedirs(self.keep)
            for f in os.listdir(self.dir):
                if f.endswith(".log"):
                    shutil.copy(os.path.join(self.dir, f), self.keep)
        shutil.rmtree(self.dir, ignore_errors=True)
        return False

    def spawn(self, name, args):
        p = Proc(name, [self.program, *args],
                 os.path.join(self.dir, name + ".log"))
        self.procs.append(p)
        return p

    def pagurus(self, *args, timeout=300):
        return subprocess.run([self.program, *args], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=timeout)

    def pagurus_limited(self, size, *args, timeout=300):
        """The same where no file may grow beyond 'size' bytes."""
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        # SIGXFSZ stays ignored, as it is here: writing fails with EFBIG.
        return subprocess.run([self.program, *args], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=timeout, preexec_fn=limit,
                              restore_signals=False)

    def wait_for(self, path, proc, seconds=60):
        end = time.monotonic() + seconds
        while not os.path.exists(path):
            if not proc.alive() or time.monotonic() > end:
                raise Failed("%s does not come up:\n%s" % (proc.name,
                                                           proc.tail()))
            time.sleep(0.01)

    def keep_traces(self):
        """What the VMs' mailboxes did last, for whoever asks why."""
        for h in self.all_hosts:
            for vm in os.listdir(h.dir):
                if not vm.endswith(".sock") or vm == "pf.sock":
                    continue
                name = vm[:-len(".sock")]
                try:
                    p = self.pagurus("status", "--dir", h.dir, "--trace",
                                     name, timeout=5)
                except subprocess.TimeoutExpired:
                    continue  # a case has stopped it
                log = "%s.%s.trace.log" % (h.name, name)
                with open(os.path.join(self.dir, log), "w") as f:
                    f.write(p.stdout + p.stderr)

    def hosts(self, *names, models=None, vfs=4, policy=None, wire=None):
        """Hosts on one wire; two at most, it has two ends."""
        wire = wire or "unix:" + os.path.join(self.dir, "wire")
        for i, name in enumerate(names):
            model = models[i] if models else "82576"
            self.all_hosts.append(Host(self, name, model, vfs, wire, policy))
        return self.all_hosts[-len(names):]


def figures(text):
    """A guest's figures as of the last lines of each kind."""
    block = {}
    # What has no end yet is no line.
    for x in text.rpartition("\n")[0].splitlines():
        if x[:1] in "TVCDNtvcn" and x[1:2] == " ":
            block[x[0]] = {k: int(v) for k, v in
                           re.findall(r"(\w+)=(-?\d+)", x)}
    return block


def ask(proc, need="V", seconds=120):
    """Have a guest print its figures now: {"T": {...}, "V": ..., ...}.

    Those in 'need' are there; until then it is asked again.  A guest that
    has heard nobody yet has no T, and a migration may leave the first half
    of an answer with the process before.
    """
    end = time.monotonic() + seconds
    while True:
        n = len(re.findall(r"^S t=", proc.text(), re.M))
        proc.say("stat")
        proc.expect(r"^S t=\d+$", seconds, n + 1)
        block = figures(proc.text())
        lack = [k for k in need if k not in block]
        if not lack:
            return block
        if time.monotonic() > end:
            raise Failed("%s: no line '%s' among its figures in %d s%s:\n%s" % (
                proc.name, "', '".join(lack), seconds,
                " (it has heard nobody)" if lack[0] in "Tt" else "",
                proc.tail()))
        time.sleep(0.1)


def no_kvm():
    """Why VMs cannot run here, or None."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        return "/dev/kvm: " + os.strerror(e.errno)
    return None


def help_wanted():
    """Does what --help asks for: the text at the head of the program."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(sys.modules["__main__"].__doc__.strip())
        sys.exit(0)


def main_dirs():
    """(program, guest, build folder) of the build named on the command line."""
    help_wanted()
    build = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "build")
    return (os.path.join(build, "src/cli/pagurus"),
            os.path.join(build, "guest/guest-net"), build)
