"""The images the lab boots, made from Debian's packages.

Three things come out, all under the cache folder:

  host-KEY.cpio	   busybox, kernel modules, init and agent of a host
  guest-KEY.cpio   the same for the VM inside a host: a serial console, igbvf
  vmlinux, vmlinuz the kernel, unpacked for QEMU and as Debian ships it

and one under the build folder: tree/, which the hosts mount as /tree.  It
holds what changes from one run to the next: pagurus, the lab's helpers and
tools of this machine, with the shared libraries they need.
"""

import fcntl
import hashlib
import lzma
import os
import re
import shutil
import struct
import subprocess

from . import LabError, LabSkip
from .cpio import Cpio

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KERNEL = "linux-image-amd64"	# its dependency names the version
SUITE = "backports"		# igbvf and vfio as NIC-FACTS.md describes them
RELEASE_MIN = (6, 12)
TOOLS = ["dash", "ethtool", "ip", "tc", "bridge", "openssl", "setpriv", "lspci"]
OWN = ["src/cli/pagurus", "lab/vfio-open", "lab/kvm-try", "lab/load"]
IN_GUEST = ["lab/load"]		# static ones
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def cache_dir(build):
    """Where downloads and images stay between runs."""
    home = os.path.expanduser("~/.cache/pagurus")
    d = os.environ.get("PAGURUS_CACHE")
    if not d:
        d = home if os.path.isdir(home) else os.path.join(build, "lab-cache")
    os.makedirs(d, exist_ok=True)
    return os.path.abspath(d)


def sh(*cmd, **kw):
    """Output of a command; a failure carries what it printed."""
    p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, env={**os.environ, "LC_ALL": "C"}, **kw)
    if p.returncode:
        raise LabError("%s: exit %d\n%s%s" % (
            " ".join(cmd), p.returncode, p.stdout[-2000:], p.stderr[-2000:]))
    return p.stdout


class Image:
    def __init__(self, build, say):
        self.build = os.path.abspath(build)
        self.cache = cache_dir(build)
        self.say = say
        self.apt = []		# options that give apt its own state

    def make(self, extra=()):
        """All of it, doing only what is stale.

        'extra' are what else to have in the tree: a program's name or a
        path in the build folder goes to bin/, an absolute path to share/.
        """
        with open(os.path.join(self.cache, ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.kernel()
            self.key = self._key()
            self.host = self._cpio("host", self._host)
            self.guest = self._cpio("guest", self._guest)
        self.tree(extra)

    # The kernel.

    def kernel(self):
        """Find or fetch Debian's kernel package and unpack it."""
        have = self._unpacked()
        if not have:
            deb = self._download()
            self.say("unpacking %s" % os.path.basename(deb))
            tmp = os.path.join(self.cache, "kernel.tmp")
            shutil.rmtree(tmp, ignore_errors=True)
            sh("dpkg-deb", "-x", deb, tmp)
            os.unlink(deb)
            version = os.listdir(os.path.join(tmp, "lib/modules"))[0]
            self._index_modules(tmp, version)
            boot = os.path.join(tmp, "boot/vmlinuz-" + version)
            with open(boot, "rb") as f:
                elf = unpack_bzimage(f.read())
            with open(os.path.join(tmp, "vmlinux"), "wb") as f:
                f.write(elf)
            shutil.copy(boot, os.path.join(tmp, "vmlinuz"))
            os.rename(tmp, os.path.join(self.cache, "kernel-" + version))
            have = self._unpacked()
        self.version = have
        self.kdir = os.path.join(self.cache, "kernel-" + have)
        self.vmlinux = os.path.join(self.kdir, "vmlinux")
        self.vmlinuz = os.path.join(self.kdir, "vmlinuz")

    def _unpacked(self):
        found = [d[len("kernel-"):] for d in os.listdir(self.cache)
                 if d.startswith("kernel-") and d != "kernel.tmp"]
        return max(found, key=release) if found else None

    def _index_modules(self, root, version):
        # modules.dep is made at installation, and this is none.
        subprocess.run(["depmod", "-b", root, version], check=True,
                       env={**os.environ, "PATH": PATH},
                       stderr=subprocess.DEVNULL)

    def _download(self):
        suite = debian_release() + "-" + SUITE
        for attempt in (self._apt_as_is, self._apt_own):
            name = attempt(suite)
            if name:
                break
        else:
            raise LabSkip(
                "no kernel >= %d.%d from this machine's package sources "
                "(wanted: %s of %s)" % (*RELEASE_MIN, KERNEL, suite))
        self.say("downloading %s" % name)
        old = set(os.listdir(self.cache))
        try:
            sh("apt-get", *self.apt, "download", name, cwd=self.cache)
        except LabError as e:
            raise LabSkip("cannot download %s: %s" % (
                name, str(e).strip().splitlines()[-1]))
        new = [f for f in os.listdir(self.cache)
               if f.endswith(".deb") and f not in old]
        return os.path.join(self.cache, new[0])

    def _apt_as_is(self, suite):
        for target in (KERNEL, KERNEL + "/" + suite):
            name = self._kernel_package(target)
            if name:
                return name
        return None

    def _apt_own(self, suite):
        """A private apt state, so that a plain user can add the suite."""
        base = os.path.join(self.cache, "apt")
        for d in ("lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(base, d), exist_ok=True)
        line = sh(os.path.join(HERE, "../tools/packages"),
                  "--source-line", SUITE).strip()
        if not line:
            return None
        with open(os.path.join(base, "sources.list"), "w") as f:
            f.write(line + "\n")
        self.apt = [
            "-o", "Dir::Etc::sourcelist=" + base + "/sources.list",
            "-o", "Dir::Etc::sourceparts=-",
            "-o", "Dir::State::lists=" + base + "/lists",
            "-o", "Dir::Cache=" + base + "/cache",
            "-o", "Debug::NoLocking=1"]
        try:
            sh("apt-get", *self.apt, "update")
        except LabError:
            return None
        return self._kernel_package(KERNEL)

    def _kernel_package(self, target):
        """The package a metapackage stands for, if it is new enough."""
        try:
            text = sh("apt-cache", *self.apt, "show", target)
        except LabError:
            return None
        m = re.search(r"^Depends:.*?(linux-image-(\S+?)-amd64)\b", text, re.M)
        if m and release(m.group(2)) >= RELEASE_MIN:
            return m.group(1)
        return None

    # The archives.

    def _key(self):
        h = hashlib.sha256(self.version.encode())
        for d in ("image", "labkit"):
            top = os.path.join(HERE, d)
            for f in sorted(os.listdir(top)):
                if d == "image" or f in ("image.py", "cpio.py"):
                    with open(os.path.join(top, f), "rb") as src:
                        h.update(f.encode() + src.read())
        with open(busybox(), "rb") as f:
            h.update(f.read())
        return h.hexdigest()[:12]

    def _cpio(self, kind, fill):
        path = os.path.join(self.cache, "%s-%s.cpio" % (kind, self.key))
        if os.path.exists(path):
            return path
        self.say("building the %s image" % kind)
        with open(path + ".tmp", "wb") as out:
            c = Cpio(out)
            self._base(c)
            self._modules(c, kind)
            fill(c)
            c.close()
        os.rename(path + ".tmp", path)
        self._drop_old(kind)
        return path

    def _drop_old(self, kind, keep=6):
        """Worktrees share a cache: keep the images of a few of them."""
        all_ = [os.path.join(self.cache, f) for f in os.listdir(self.cache)
                if f.startswith(kind + "-") and f.endswith(".cpio")]
        for f in sorted(all_, key=os.path.getmtime)[:-keep]:
            os.unlink(f)

    def _base(self, c):
        for d in ("dev", "proc", "sys", "run", "tmp", "etc", "root", "lab",
                  "tree", "var", "usr/lib", "lib"):
            c.dir(d)
        with open(busybox(), "rb") as f:
            c.file("bin/busybox", f.read(), 0o755)
        for name in sh(busybox(), "--list").split():
            if name != "busybox":
                c.link("bin/" + name, "busybox")
        c.link("sbin", "bin")
        c.link("usr/bin", "/bin")
        c.link("usr/sbin", "/bin")
        c.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"
               b"nobody:x:65534:65534:nobody:/:/bin/sh\n")
        c.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n")

    def _modules(self, c, kind):
        base = os.path.join(self.kdir, "lib/modules", self.version)
        dep = {}
        with open(os.path.join(base, "modules.dep")) as f:
            for line in f:
                path, needs = line.split(":")
                dep[module_name(path)] = (path, needs.split())
        want = []
        with open(os.path.join(HERE, "image/modules")) as f:
            for line in f:
                w = line.split("#")[0].split()
                if w and w[0] == kind:
                    want.append(module_name(w[1]))
        files = set()
        for m in want:
            if m in dep:
                files.add(dep[m][0])
                files.update(dep[m][1])
        # A modules.dep of just these, with the names they have here.
        top = "lib/modules/" + self.version + "/"
        text = ""
        for path in sorted(files):
            with open(os.path.join(base, path), "rb") as f:
                data = f.read()
            if path.endswith(".xz"):
                data = lzma.decompress(data)
            c.file(top + bare(path), data)
            needs = dep[module_name(path)][1]
            text += "%s: %s\n" % (bare(path), " ".join(map(bare, needs)))
        c.file(top + "modules.dep", text.encode())
        for f in ("modules.builtin", "modules.alias", "modules.softdep"):
            with open(os.path.join(base, f), "rb") as src:
                c.file(top + f, src.read())

    def _host(self, c):
        self._own(c, "host-init", "init", 0o755)
        self._own(c, "host-agent", "lab-agent", 0o755)
        libs = "x86_64-linux-gnu"
        c.link("lib64", "/tree/lib64")
        c.link("lib/" + libs, "/tree/lib/" + libs)
        c.link("usr/lib/" + libs, "/tree/lib/" + libs)

    def _guest(self, c):
        self._own(c, "guest-init", "init", 0o755)

    def _own(self, c, src, name, mode):
        with open(os.path.join(HERE, "image", src), "rb") as f:
            c.file(name, f.read(), mode)

    def _guest_initrd(self):
        """The guest's archive with our own programs behind it."""
        path = os.path.join(self.build, "lab", "initrd")
        own = [os.path.join(self.build, p) for p in IN_GUEST]
        own = [p for p in own if os.path.exists(p)]
        if os.path.exists(path) and \
                newest(path) > newest(self.guest, *own):
            return path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".tmp", "wb") as out:
            with open(self.guest, "rb") as f:
                out.write(f.read())
            c = Cpio(out)
            for p in own:
                with open(p, "rb") as f:
                    c.file("bin/" + os.path.basename(p), f.read(), 0o755)
            c.close()
        os.rename(path + ".tmp", path)
        return path

    # The tree.

    def tree(self, extra):
        """Copy what is new of pagurus, helpers and tools."""
        self.tree_dir = os.path.join(self.build, "lab", "tree")
        want = {}
        programs = [os.path.join(self.build, p) for p in OWN]
        programs += [shutil.which(t, path=PATH) for t in TOOLS]
        for e in extra:
            if e.startswith("/"):
                want["share/" + os.path.basename(e)] = e
            elif "/" in e:
                programs.append(os.path.join(self.build, e))
            else:
                programs.append(shutil.which(e, path=PATH))
        programs = [p for p in programs if p and os.path.exists(p)]
        for p in programs:
            want["bin/" + os.path.basename(p)] = p
            for lib in libraries(p):
                name = os.path.basename(lib)
                where = "lib64/" if name.startswith("ld-linux") else \
                    "lib/x86_64-linux-gnu/"
                want[where + name] = lib
        want["guest/vmlinuz"] = self.vmlinuz
        want["guest/vmlinux"] = self.vmlinux
        want["guest/initrd"] = self._guest_initrd()
        for name, src in want.items():
            refresh(os.path.realpath(src), os.path.join(self.tree_dir, name))
        for top, _, files in os.walk(self.tree_dir):
            for f in files:
                path = os.path.join(top, f)
                if os.path.relpath(path, self.tree_dir) not in want:
                    os.unlink(path)


def refresh(src, dst):
    """Copy a file if it is not the same already."""
    a = os.stat(src)
    try:
        b = os.stat(dst)
        if (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns):
            return
    except FileNotFoundError:
        os.makedirs(os.path.dirname(dst), exist_ok=True)
    shutil.copy2(src, dst + ".tmp")
    os.rename(dst + ".tmp", dst)


def newest(*paths):
    return max(os.stat(p).st_mtime_ns for p in paths)


def libraries(path):
    """Files of the shared libraries a program loads; none if static."""
    p = subprocess.run(["ldd", path], stdout=subprocess.PIPE,
                       stderr=subprocess.DEVNULL, text=True)
    if p.returncode:
        return []
    if "not found" in p.stdout:
        raise LabError("%s lacks a library:\n%s" % (path, p.stdout))
    return re.findall(r"(/\S+) \(0x", p.stdout)


def busybox():
    path = shutil.which("busybox", path=PATH)
    if not path:
        raise LabSkip("busybox is not installed (package busybox-static)")
    if libraries(path):
        raise LabSkip("busybox is not static (package busybox-static)")
    return path


def debian_release():
    with open("/etc/os-release") as f:
        m = re.search(r"^VERSION_CODENAME=(\w+)", f.read(), re.M)
    if not m:
        raise LabSkip("not a Debian machine: /etc/os-release names no release")
    return m.group(1)


def release(version):
    """(6, 12, 95) of "6.12.95+deb12"; () if it does not begin that way."""
    m = re.match(r"[\d.]+", version)
    return tuple(int(n) for n in m.group().split(".") if n) if m else ()


def bare(path):
    return path[:-3] if path.endswith(".xz") else path


def module_name(path):
    return re.sub(r"\.ko.*$", "", os.path.basename(path)).replace("-", "_")


def unpack_bzimage(image):
    """The ELF file inside: it boots by PVH, without unpacking itself."""
    setup = image[0x1f1] or 4
    offset, size = struct.unpack_from("<II", image, 0x248)
    start = (setup + 1) * 512 + offset
    payload = image[start:start + size]
    if payload[:4] == b"\x28\xb5\x2f\xfd":
        # The last four bytes are the unpacked size, not part of the frame.
        p = subprocess.run(["zstd", "-dcq"], input=payload[:-4],
                           stdout=subprocess.PIPE)
        elf = p.stdout
    elif payload[:6] == b"\xfd7zXZ\0":
        elf = lzma.LZMADecompressor().decompress(payload)
    else:
        raise LabError("kernel packed in an unknown way: %r" % payload[:6])
    if elf[:4] != b"\x7fELF":
        raise LabError("the kernel's payload is no ELF file")
    return elf
