# Count entries and exits of every corpus function under gdb: a breakpoint an
# entry, a FinishBreakpoint an exit.  Run by peers; see peers_run.c.
import os
import re

import gdb

entries, exits = {}, {}


class Finish(gdb.FinishBreakpoint):
    def __init__(self, name):
        super().__init__(gdb.newest_frame(), internal=True)
        self.silent = True
        self.name = name

    def stop(self):
        exits[self.name] = exits.get(self.name, 0) + 1
        return False


class Entry(gdb.Breakpoint):
    def __init__(self, name):
        # The first byte, not behind what gdb takes for a prologue.
        super().__init__("*" + name, internal=True)
        self.silent = True
        self.name = name

    def stop(self):
        entries[self.name] = entries.get(self.name, 0) + 1
        try:
            Finish(self.name)
        except ValueError:
            pass  # no caller
        return False


def functions():
    text = gdb.execute("info functions -n ^[a-z]_", to_string=True)
    text += gdb.execute("info functions ^[a-z]_", to_string=True)
    return sorted(set(re.findall(r"\b([a-z]_\w+)(?:\(|$)", text, re.M)))


def main():
    out = os.environ["PEER_OUT"]
    for line in ("pagination off", "confirm off", "breakpoint pending off",
                 "disable-randomization off", "startup-with-shell on"):
        gdb.execute("set " + line)
    gdb.execute("file " + os.environ["PEER_EXE"])
    for sig in ("SIGUSR1", "SIGALRM"):
        gdb.execute("handle %s nostop noprint pass" % sig, to_string=True)
    for name in functions():
        try:
            Entry(name)
        except (gdb.error, RuntimeError):
            pass
    status = "status 255"
    try:
        gdb.execute("run %s > %s.out" % (os.environ["PEER_CASE"], out))
        code = gdb.parse_and_eval("$_exitcode")
        if code.type.code != gdb.TYPE_CODE_VOID:
            status = "status %d" % int(code)
        else:
            sig = gdb.parse_and_eval("$_siginfo.si_signo")
            status = "status %d" % (128 + int(sig))
    except gdb.error:
        pass
    with open(out + ".counts", "w") as f:
        f.write(status + "\n")
        for name in sorted(set(entries) | set(exits)):
            f.write("%s %d %d\n" % (name, entries.get(name, 0),
                                    exits.get(name, 0)))


main()
