"""Goals, in the form of goal.h, for tools/bench to collect."""


def _say(what, is_, way, wanted, unit, reached):
    print("goal: %-51s %8.*f %-3s %s %g: %sreached" % (
        what, 3 if is_ < 10 else 2 if is_ < 100 else 1, is_, unit, way, wanted,
        "" if reached else "not "), flush=True)
    return reached


def least(what, is_, wanted, unit=""):
    return _say(what, is_, "at least", wanted, unit, is_ >= wanted)


def most(what, is_, wanted, unit=""):
    return _say(what, is_, "at most", wanted, unit, is_ <= wanted)


def limit(text):
    """After a goal that is not reached: one sentence."""
    print("limit: " + text, flush=True)
