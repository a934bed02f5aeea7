"""Between VMs and a PF driver's socket: what they ask can be withheld."""

import select
import socket
import threading

ASK, RESTORE = 3, 4     # of docs/pf-socket.md


class Line(threading.Thread):
    """What is of the types 'held' stays here while 'hold' is set."""

    def __init__(self, path, to, held=(ASK,), hold=False):
        super().__init__(daemon=True)
        self.path, self.to, self.held = path, to, held
        self.hold, self.asked = hold, threading.Event()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        self.listener.listen(8)
        self.pairs, self.kept = {}, []
        self.start()

    def accept(self):
        vm = self.listener.accept()[0]
        pf = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pf.connect(self.to)
        except OSError:
            vm.close()
            return
        self.pairs[vm], self.pairs[pf] = pf, vm

    def drop(self, s):
        for x in (s, self.pairs.pop(s)):
            self.pairs.pop(x, None)
            x.close()

    def release(self):
        self.hold = False
        kept, self.kept = self.kept, []
        for s, data in kept:
            try:
                s.send(data)
            except OSError:
                pass

    def pass_on(self, s):
        try:
            data = s.recv(2048)
        except OSError:
            data = b""
        if not data:
            self.drop(s)
        elif self.hold and data[1] in self.held:
            self.kept.append((self.pairs[s], data))
            self.asked.set()
        else:
            try:
                self.pairs[s].send(data)
            except OSError:
                self.drop(s)

    def run(self):
        while True:
            ready = select.select([self.listener, *self.pairs], [], [], 0.1)[0]
            for s in ready:
                if s is self.listener:
                    self.accept()
                elif s in self.pairs:
                    self.pass_on(s)
