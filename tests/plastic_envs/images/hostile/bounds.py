"""Bounds on time and memory within which files of strangers are read or refused."""

import time
import tracemalloc
from contextlib import contextmanager

import pytest

MIB = 2**20


@contextmanager
def bounded(seconds=20, memory=64 * MIB):
    """Fail if more time or memory is taken; generous, since machines are slow and shared."""
    start = time.process_time()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < seconds


def refused(read, path, message=None, **bounds):
    """See that a reader refuses a file, with a short error that names it."""
    with bounded(**bounds), pytest.raises((ValueError, OSError), match=message) as caught:
        read()
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 2_000
