"""Processes the lab starts, and the one loop that waits for all of them."""

import ctypes
import os
import select
import signal
import subprocess
import time

from . import LabError

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


def _child():
    # Dies with the lab even if that is killed outright.  Only the main
    # thread starts processes: the signal follows the starting thread.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(argv, log):
    """A process in a session of its own, output into the file 'log'."""
    with open(log, "ab") as out:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                                stderr=subprocess.STDOUT,
                                start_new_session=True, preexec_fn=_child)


def stop(p, grace=0.0):
    """End a process of ours and all of its group."""
    if p.poll() is None and grace:
        try:
            os.killpg(p.pid, signal.SIGTERM)
            p.wait(grace)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
    try:
        os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    p.wait()


def slowness():
    """How much longer all takes because of others on this machine, 1 to 3.

    Limits are chosen for a machine of our own; they are multiplied by this.
    """
    return min(3.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


class Pump:
    """Readable descriptors, each with its handler, and waiting for a state.

    There are no threads: whoever waits for anything runs the handlers of
    everything meanwhile, so consoles and results never pile up unread.
    """

    def __init__(self):
        self.slow = slowness()
        self.poller = select.poll()
        self.handlers = {}

    def add(self, fd, handler):
        self.handlers[fd] = handler
        self.poller.register(fd, select.POLLIN)

    def remove(self, fd):
        if self.handlers.pop(fd, None):
            self.poller.unregister(fd)

    def once(self, seconds):
        for fd, _ in self.poller.poll(max(0, seconds) * 1000):
            if fd in self.handlers:
                self.handlers[fd]()

    def until(self, ready, seconds, what):
        """Wait until ready() is true and return its value."""
        seconds *= self.slow
        end = time.monotonic() + seconds
        while True:
            value = ready()
            if value:
                return value
            left = end - time.monotonic()
            if left <= 0:
                raise LabError("waited %gs for %s" % (seconds, what))
            self.once(min(left, 0.2))
