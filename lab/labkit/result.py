"""What commands and files said."""

import json


class Result:
    """What a command did: .status, .out (both streams), .ok."""

    def __init__(self, cmd, status, out):
        self.cmd = cmd
        self.status = status
        self.out = out

    @property
    def ok(self):
        return self.status == 0

    @property
    def lines(self):
        return self.out.splitlines()

    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return self.out.strip()


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def tail(text, lines=25):
    return "\n".join(text.rstrip().splitlines()[-lines:])
