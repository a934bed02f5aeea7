#!/usr/bin/env python3
"""What tools/rig.py waits for, and what it says when that does not come.

usage: rig_test.py
"""

import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tools"))
from rig import Failed, Proc, ask  # noqa: E402

# As the guest prints its figures, but a T only from the n-th time on; of the
# first answer the beginning went to the process before.
GUEST = """
i=0
while read line; do
    i=$((i + 1))
    [ $i -lt %d ] || echo "T peer=2 sent=7 got=$i"
    [ $i -lt 2 ] || echo "V link=1"
    echo "D bad=0"
    echo "S t=$i"
done
"""


def guest(where, n):
    return Proc("guest", ["sh", "-c", GUEST % n],
                os.path.join(where, "%d.log" % n))


def fails(what, words, fn):
    try:
        fn()
    except Failed as e:
        lack = [w for w in words if w not in str(e)]
        if lack:
            sys.exit("%s: '%s' lacks %s" % (what, e, lack))
        return
    sys.exit(what + ": it does not fail")


def main():
    with tempfile.TemporaryDirectory() as d:
        p = guest(d, 4)
        if ask(p)["V"] != {"link": 1}:
            sys.exit("V")
        got = ask(p, "TD")
        if got["T"] != {"peer": 2, "sent": 7, "got": 4} or "D" not in got:
            sys.exit("the first T: %s" % got)
        if ask(p, "T")["T"]["got"] != 5:
            sys.exit("not the newest")
        p.end()
        p = guest(d, 1000000)
        fails("no T", ["'T'", "heard nobody", "guest", "S t="],
              lambda: ask(p, "T", 0.5))
        p.kill()
        p.wait()
        fails("it is dead", ["guest has ended", "stat"], lambda: ask(p))
        p.end()


main()
