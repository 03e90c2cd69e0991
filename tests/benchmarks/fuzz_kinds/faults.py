"""A kind of cases of which each ends in a way of its own, for the tests of the fuzzer."""

import os
import time

from benchmarks.fuzz.case import Case, WrongError


def fail(error):
    raise error


ENDS = {
    "works": lambda: None,
    "refuses": lambda: fail(ValueError("size must be odd")),
    "says where": lambda: fail(FileNotFoundError("nothing there")),
    "does not say what": lambda: fail(ValueError("resize it")),
    "says too much": lambda: fail(ValueError("size " * 1_000)),
    "means another error": lambda: fail(KeyError("size")),
    "is wrong": lambda: fail(WrongError("that is not 2")),
    "exits": lambda: fail(SystemExit(3)),
    "crashes": lambda: os.abort(),
    "hangs": lambda: time.sleep(60),
    "takes memory": lambda: bytearray(3 << 29),
    "takes all memory": lambda: bytearray(1 << 40),
}


def prepare(folder):
    """Return what makes these cases in turn, also when a process takes over from one that died."""
    count = folder.parent / "count"

    def make(rng, place):
        with count.open("a+") as file:
            file.write("|")
        name = list(ENDS)[len(count.read_text()) - 1]
        return Case(name, ENDS[name], ("size",), documented=(FileNotFoundError,))

    return make
