#!/usr/bin/env python3
"""The load generator over the loopback, honest and through a liar."""

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time

LOAD = sys.argv[1]


def start(*args):
    return subprocess.Popen([LOAD, *map(str, args)], stdout=subprocess.PIPE,
                            text=True)


def ends(p, status):
    out, _ = p.communicate(timeout=20)
    assert p.returncode == status, (p.args, p.returncode, out)
    return json.loads(out)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError("the echo does not listen")


def liar(sock):
    """Echoes each datagram, but one in turn is lost, doubled, altered, late."""
    n, held = 0, None
    while True:
        try:
            data, peer = sock.recvfrom(65536)
        except OSError:
            return
        n += 1
        if n == 10:
            continue
        if n == 20:
            sock.sendto(data, peer)
        if n == 30:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if n == 40:
            held = data
            continue
        sock.sendto(data, peer)
        if n == 41:
            sock.sendto(held, peer)
        if n == 60:
            time.sleep(0.4)


def main():
    port = free_port()
    echo = start("echo", port)
    wait_for(port)
    try:
        udp = start("udp", "127.0.0.1", port, 500, 1)
        tcp = start("tcp", "127.0.0.1", port, 1)
        mem = start("mem", 4, 1)
        r = ends(udp, 0)
        assert 250 < r["sent"] < 600 and r["received"] == r["sent"], r
        assert r["lost"] == r["doubled"] == r["corrupt"] == 0, r
        r = ends(tcp, 0)
        assert r["bytes"] > 100000 and r["corrupt"] == 0, r
        r = ends(mem, 0)
        assert r["pages"] == 1024 and r["writes"] > 100, r

        # Until it is told to stop.
        p = start("udp", "127.0.0.1", port, 100, 0)
        time.sleep(0.5)
        p.send_signal(signal.SIGTERM)
        assert ends(p, 0)["received"] > 10
    finally:
        echo.terminate()
        assert echo.wait(5) == 0

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        threading.Thread(target=liar, args=(s,), daemon=True).start()
        r = ends(start("udp", "127.0.0.1", s.getsockname()[1], 100, 1), 1)
    # One was never sent back, one came back altered.
    assert r["lost"] == 2 and r["corrupt"] == 1, r
    assert r["doubled"] == 1 and r["reordered"] == 1, r
    assert 390 < r["gap_ms"] < 1500, r

    # A stream in which one byte is wrong.
    with socket.create_server(("127.0.0.1", 0)) as s:
        tcp = start("tcp", "127.0.0.1", s.getsockname()[1], 1)
        c, _ = s.accept()
        at = random.randrange(1000, 50000)
        seen = 0
        with c:
            while True:
                data = bytearray(c.recv(65536))
                if not data:
                    break
                if seen <= at < seen + len(data):
                    data[at - seen] ^= 4
                seen += len(data)
                c.sendall(data)
                if tcp.poll() is not None:
                    break
        r = ends(tcp, 1)
        assert r["corrupt"] == 1 and not r["broken"], r


main()
print("load sees loss, doubles, reordering, damage and gaps, and only those")
