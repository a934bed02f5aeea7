#!/usr/bin/env python3
"""The lab's switch without any host: frames in, frames out, faults on request."""

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

A, B, C = b"\x02\0\0\0\0\x0a", b"\x02\0\0\0\0\x0b", b"\x02\0\0\0\0\x0c"
ALL = b"\xff" * 6


class Port:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        self.buf = b""

    def send(self, dst, src, body=b"x" * 46, kind=0x0800):
        frame = dst + src + struct.pack(">H", kind) + body
        self.s.sendall(struct.pack(">I", len(frame)) + frame)

    def recv(self, timeout=2.0):
        """The next frame's body, or None if none comes."""
        self.s.settimeout(timeout)
        try:
            while True:
                if len(self.buf) >= 4:
                    n, = struct.unpack(">I", self.buf[:4])
                    if len(self.buf) >= 4 + n:
                        frame = self.buf[4:4 + n]
                        self.buf = self.buf[4 + n:]
                        return frame[14:]
                data = self.s.recv(1 << 16)
                if not data:
                    return None
                self.buf += data
        except socket.timeout:
            return None


def main():
    with tempfile.TemporaryDirectory() as d:
        names = ["a", "b", "c"]
        p = subprocess.Popen([sys.argv[1], d + "/ctl"] +
                             ["%s=%s/%s" % (n, d, n) for n in names])
        try:
            while not os.path.exists(d + "/ctl"):
                assert p.poll() is None, "the switch ended"
                time.sleep(0.01)
            checks(d)
        finally:
            p.terminate()
            assert p.wait(5) == 0, "exit status %d" % p.returncode


def checks(d):
    ctl = socket.socket(socket.AF_UNIX)
    ctl.connect(d + "/ctl")
    answers = ctl.makefile("r")

    def say(text):
        ctl.sendall(text.encode() + b"\n")
        return answers.readline().strip()

    def settled():
        return all(x["connected"] for x in
                   json.loads(say("stat"))["ports"].values())

    a, b, c = (Port("%s/%s" % (d, n)) for n in "abc")
    while not settled():
        time.sleep(0.01)

    # An unknown address goes everywhere, a known one to its port only.
    a.send(B, A, b"1" * 50)
    assert b.recv() == c.recv() == b"1" * 50
    b.send(A, B, b"2" * 50)
    assert a.recv() == b"2" * 50 and c.recv(0.1) is None
    a.send(ALL, A, b"3" * 50)
    assert b.recv() == c.recv() == b"3" * 50

    # It follows an address that moves, and counts announcements.
    c.send(ALL, A, kind=0x8035)
    assert a.recv() and b.recv()
    b.send(A, B, b"4" * 50)
    assert c.recv() == b"4" * 50 and a.recv(0.1) is None
    stat = json.loads(say("stat"))
    assert stat["macs"]["02:00:00:00:00:0a"] == "c", stat
    assert stat["ports"]["c"]["rarp"] == 1, stat
    assert stat["ports"]["b"]["rx"] == 2, stat
    assert stat["ports"]["b"]["rx_bytes"] == 2 * 64, stat

    # Cut works both ways and is counted, and ends.
    assert say("set c cut 1") == "ok"
    b.send(A, B)
    c.send(B, A)
    assert c.recv(0.1) is None and b.recv(0.1) is None
    assert json.loads(say("stat"))["ports"]["c"]["dropped"] == 2
    assert say("set c cut 0") == "ok"
    b.send(A, B)
    assert c.recv()

    # Delay holds frames back, and keeps their order.
    assert say("set c delay 200") == "ok"
    begun = time.monotonic()
    b.send(A, B, b"5" * 50)
    b.send(A, B, b"6" * 50)
    assert c.recv() == b"5" * 50 and c.recv() == b"6" * 50
    assert 0.2 <= time.monotonic() - begun < 1.5
    say("set c delay 0")

    # A rate stretches a burst: 100 kB at 8 Mbit/s take 100 ms.
    say("set c rate 8")
    begun = time.monotonic()
    for _ in range(100):
        b.send(A, B, b"7" * 986)
    for _ in range(100):
        assert c.recv()
    assert 0.09 <= time.monotonic() - begun < 1.5
    say("set c rate 0")

    # Drop loses about its share.
    say("set c drop 500")
    for _ in range(400):
        b.send(A, B)
    say("set c drop 0")
    b.send(A, B, b"end" * 20)
    n = 0
    while c.recv() != b"end" * 20:
        n += 1
    assert 120 < n < 280, n

    # Nonsense is refused and does no harm; a host that reconnects is served.
    for bad in ("set z cut 1", "set a cut 2", "set a", "what"):
        assert say(bad).startswith("error"), bad
    c.s.sendall(b"\xff" * 64)
    assert c.recv() is None
    c = Port(d + "/c")
    while not settled():
        time.sleep(0.01)
    b.send(A, B)
    assert c.recv()

    # Half a frame now, half later.
    frame = A + B + b"\x08\0" + b"8" * 50
    raw = struct.pack(">I", len(frame)) + frame
    b.s.sendall(raw[:30])
    time.sleep(0.05)
    b.s.sendall(raw[30:])
    assert c.recv() == b"8" * 50


main()
print("the switch learns, counts, cuts, delays, drops and limits")
