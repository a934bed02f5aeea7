#!/usr/bin/env python3
"""Migration against QEMU's: a VM of the same size and content, dirtying as
fast, on this machine, over a unix socket, turn by turn in one run.

QEMU's guest is a boot sector that writes a word a page at the rate wanted
(or is paused), its RAM a file filled beforehand; ours is the test guest.
Neither has a device.  What is compared is the whole migration as each
program reports it.

usage: qemu_bench.py BUILD [MEGABYTES [RUNS]]
"""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tools"))
import goal  # noqa: E402
from rig import Failed, Host, Rig, main_dirs, no_kvm  # noqa: E402

MB = 1 << 20
DOWNTIME_MS = 300
GOAL = 2  # times as fast
BOOT = """
    .code16
    .globl _start
_start: cli
    xorw %%ax, %%ax
    movw %%ax, %%ds
    lgdtl gdtr
    inb $0x92, %%al
    orb $2, %%al
    outb %%al, $0x92
    movl %%cr0, %%eax
    orb $1, %%al
    movl %%eax, %%cr0
    ljmpl $8, $pm
    .code32
pm: movw $16, %%ax
    movw %%ax, %%ds
    rdtsc
    movl %%eax, %%esi
outer: movl $%(start)d, %%edi
page: incl (%%edi)
    addl $%(gap)d, %%esi
wait: rdtsc
    subl %%esi, %%eax
    js wait
    addl $4096, %%edi
    cmpl $%(end)d, %%edi
    jb page
    jmp outer
    .align 8
gdt: .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdtr: .word gdtr - gdt - 1
    .long gdt
    .org 510
    .word 0xaa55
"""


def tsc_hz():
    with open("/proc/cpuinfo") as f:
        return float(re.search(r"cpu MHz\s*: ([\d.]+)", f.read()).group(1)) \
            * 1e6


def boot_sector(path, start, size, rate):
    """Writes 'size' bytes from 'start' over and over, 'rate' bytes/s."""
    text = BOOT % {"start": start, "end": start + size,
                   "gap": int(tsc_hz() / (rate / 4096))}
    obj = path + ".o"
    subprocess.run(["as", "--32", "-o", obj, "-"], input=text, text=True,
                   check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat",
                    "binary", "-o", path, obj], check=True)


class Qemu:
    def __init__(self, d, name, mem, accel, sector=None,
                 incoming=False):
        self.ram = os.path.join("/dev/shm", "pagurus-bench-%d-%s" % (
            os.getpid(), name))
        self.qmp = os.path.join(d, name + ".qmp")
        args = ["qemu-system-x86_64", "-nodefaults", "-display", "none",
                "-machine", "pc,memory-backend=ram", "-accel", accel,
                "-m", "%dM" % (mem // MB), "-object",
                "memory-backend-file,id=ram,share=on,size=%d,mem-path=%s" % (
                    mem, self.ram),
                "-qmp", "unix:%s,server=on,wait=off" % self.qmp]
        if sector:
            args += ["-drive", "file=%s,format=raw,if=floppy,readonly=on" %
                     sector]
        else:
            args += ["-S"]
        if incoming:
            args += ["-incoming", "defer"]
        self.p = subprocess.Popen(args, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True)
        self.connect()

    def connect(self):
        self.s = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + 20
        while True:
            try:
                self.s.connect(self.qmp)
                break
            except OSError:
                if self.p.poll() is not None or time.monotonic() > end:
                    raise Failed("qemu: " + self.p.stderr.read().strip())
                time.sleep(0.02)
        self.f = self.s.makefile("rw")
        self.f.readline()
        self.ask("qmp_capabilities")

    def ask(self, what, **args):
        self.f.write(json.dumps({"execute": what, "arguments": args}) + "\n")
        self.f.flush()
        while True:
            r = json.loads(self.f.readline())
            if "error" in r:
                raise Failed("qemu: %s: %s" % (what, r["error"]["desc"]))
            if "return" in r:
                return r["return"]

    def end(self):
        self.p.kill()
        self.p.wait()
        self.p.stderr.close()
        self.f.close()
        self.s.close()
        try:
            os.unlink(self.ram)
        except OSError:
            pass


def fill(path, start, size):
    block = bytes((i * 37 + 11) % 255 + 1 for i in range(4096)) * 256
    with open(path, "r+b") as f:
        f.seek(start)
        for _ in range(size // len(block)):
            f.write(block)


def writes(path, at):
    """Wait until the guest has passed the BIOS and writes."""
    def word():
        with open(path, "rb") as f:
            f.seek(at)
            return f.read(4)
    first, end = word(), time.monotonic() + 20
    while word() == first:
        if time.monotonic() > end:
            raise Failed("qemu: its guest does not write")
        time.sleep(0.05)
    time.sleep(1)


def qemu(d, mem, used, rate, accel, channels):
    """Seconds, bytes sent, downtime in ms of one migration."""
    sector = os.path.join(d, "sector") if rate else None
    start = 16 * MB
    if rate:
        boot_sector(sector, start, used, rate)
    uri = os.path.join(d, "qemu-in")
    src = Qemu(d, "src", mem, accel, sector)
    dst = None
    try:
        fill(src.ram, start, used)
        dst = Qemu(d, "dst", mem, accel, sector, True)
        if rate:
            writes(src.ram, start)
        for q in (src, dst):
            if channels > 1:
                q.ask("migrate-set-capabilities", capabilities=[
                    {"capability": "multifd", "state": True}])
                q.ask("migrate-set-parameters", **{
                    "multifd-channels": channels})
        dst.ask("migrate-incoming", uri="unix:" + uri)
        src.ask("migrate-set-parameters", **{
            "max-bandwidth": 100 << 30, "downtime-limit": DOWNTIME_MS})
        src.ask("migrate", uri="unix:" + uri)
        end = time.monotonic() + 60
        while True:
            r = src.ask("query-migrate")
            if r.get("status") == "completed":
                break
            if r.get("status") == "failed" or time.monotonic() > end:
                raise Failed("qemu: migration %s" % r)
            time.sleep(0.01)
        return (r["total-time"] / 1e3, r["ram"]["transferred"],
                r["downtime"])
    finally:
        src.end()
        if dst:
            dst.end()
        if os.path.exists(uri):
            os.unlink(uri)


class NoNic(Host):
    """A host of VMs without devices."""

    def __init__(self, rig, name):
        self.rig, self.name = rig, name
        self.dir = os.path.join(rig.dir, name)
        os.makedirs(self.dir, mode=0o700)


def pagurus(program, guest, mem, used, rate, channels):
    with Rig(program, guest) as rig:
        a, b = NoNic(rig, "a"), NoNic(rig, "b")
        vm = a.run("vm", "mb=%d rate=%d" % (
            used // MB, rate // MB), mem="%dM" % (mem // MB))
        vm.expect(r"^G filled", 60)
        if rate:
            time.sleep(1)
        inc = b.receive("vm")
        r = a.migrate("vm", inc, more=["--connections", str(channels),
                                       "--max-downtime", str(DOWNTIME_MS)])[1]
        return r["total_ns"] / 1e9, r["bytes"], r["downtime_ns"] / 1e6


def usable(d, accel):
    """Whether QEMU starts with this accelerator, if only paused."""
    try:
        Qemu(d, "try", 16 * MB, accel).end()
        return True
    except Failed:
        return False


def main():
    program, _, build = main_dirs()
    guest = os.path.join(build, "guest/guest-fill")
    mem = (int(sys.argv[2]) if len(sys.argv) > 2 else 256) * MB
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    why = no_kvm()
    if not shutil.which("qemu-system-x86_64"):
        why = "QEMU is not installed (qemu-system-x86_64)"
    if why:
        print(why)
        return 77
    used = mem * 3 // 4
    with tempfile.TemporaryDirectory(prefix="pagurus-") as d:
        paused = "kvm" if usable(d, "kvm") else "tcg"
        version = subprocess.run(["qemu-system-x86_64", "--version"],
                                 stdout=subprocess.PIPE,
                                 text=True).stdout.splitlines()[0]
        print("%s; VM of %d MiB, %d MiB of it filled; median of %d" % (
            version, mem // MB, used // MB, runs))
        goals = []
        for name, rate, accel, channels in (
                ("idle", 0, paused, 1), ("idle, 2 channels", 0, paused, 2),
                ("dirtying 64 MiB/s", 64 * MB, "tcg", 1)):
            q, p, ratio = [], [], []
            for _ in range(runs):
                q.append(qemu(d, mem, used, rate, accel, channels))
                p.append(pagurus(program, guest, mem, used, rate, channels))
                ratio.append(q[-1][0] / p[-1][0])
            mid = [statistics.median(x[i] for x in v)
                   for v in (q, p) for i in range(3)]
            print("  %-18s QEMU (%s%s) %5.0f ms, %4.0f MB, outage %3.0f ms  "
                  "Pagurus (kvm) %5.0f ms, %4.0f MB, outage %3.0f ms  "
                  "ratio %.2f" % (
                      name, accel, "" if rate else ", paused", mid[0] * 1e3,
                      mid[1] / 1e6, mid[2], mid[3] * 1e3, mid[4] / 1e6,
                      mid[5], statistics.median(ratio)), flush=True)
            goals.append((name, statistics.median(ratio)))
        for name, ratio in goals:
            goal.least("times as fast as QEMU, " + name, ratio, GOAL)
    return 0


sys.exit(main())
