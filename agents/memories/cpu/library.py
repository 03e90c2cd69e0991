"""The compiled kernel (`csrc/memory.c`): finding its build, and calling it on tensors."""

import ctypes
import struct
import threading
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from agents.builds import find

SYMBOL = "memory_problem"
KINDS = ("hebbian", "delta", "mesa")
"""What is computed, in the order of csrc/memory.h."""

VECTOR_BYTES = 32
"""Of the vectors in csrc/memory.c: a memory in each lane."""

SUFFIXES = {torch.float32: "f32", torch.float64: "f64"}
"""Of the kernel's functions, by what they compute in."""

_VERSION = 1  # MEMORY_VERSION of csrc/memory.h
_PARALLEL_WORK = 1_000_000  # numbers written below which starting threads does not pay

# `Memory` of csrc/memory.h, field for field.
_INTEGERS = ("batch", "time", "heads", "key", "value", "kind", "unit_keys", "gated")
_REALS = ("largest_write",)
_POINTERS = (
    *("x", "starts", "keep", "ridge", "matrix0", "values0"),
    *("reads", "matrix1", "values1", "made"),
    *("grad_reads", "grad_matrix1", "grad_values1"),
    *("grad_x", "grad_keep", "grad_ridge", "grad_matrix0", "grad_values0"),
)
_STRUCT = struct.Struct(f"{len(_INTEGERS)}q{len(_REALS)}d{len(_POINTERS)}P")


def load() -> ctypes.CDLL | None:
    """Load the build for the best instruction set of this processor; None without a build."""
    return _search()[0]


def absence() -> str:
    """Say what there is instead, if `load` gives nothing."""
    return _search()[1]


@cache
def _search() -> tuple[ctypes.CDLL | None, str]:
    """Return the first build that can be used, and what was found before it."""
    kinds = [f"memory_{kind}_" for kind in ("forward", "backward")]
    functions = [kind + suffix for kind in kinds for suffix in SUFFIXES.values()]
    return find(f"{__package__}._kernel", SYMBOL, (_VERSION, _STRUCT.size), functions)


def groups(memories: int, dtype: torch.dtype) -> tuple[int, int]:
    """Return how many groups some memories are computed in, and how many are in one."""
    lanes = VECTOR_BYTES // dtype.itemsize
    return -(-memories // lanes), lanes


def run(
    kind: Literal["forward", "backward"],
    numbers: tuple[int | float, ...],
    tensors: dict[str, Tensor | None],
) -> None:
    """Compute all memories, on as many threads as torch uses.

    Args:
        kind: Which pass.
        numbers: Of the struct in csrc/memory.h, in its order.
        tensors: Contiguous arrays by its names. A pointer that is missing or None is null.

    Raises:
        MemoryError: If the kernel found no memory.
    """
    x = tensors["x"]
    assert x is not None
    function = getattr(load(), f"memory_{kind}_{SUFFIXES[x.dtype]}")
    batch, steps, heads, key, value = (int(number) for number in numbers[:5])
    count, _ = groups(batch * heads, x.dtype)
    slices = _slices(count, batch * heads * steps * key * (key + value))
    failed: list[int] = []

    def work(first: int, last: int) -> None:  # holds all tensors, even if this call is interrupted
        leaves = map(tensors.get, _POINTERS)
        pointers = (0 if leaf is None else leaf.data_ptr() for leaf in leaves)
        if function(_STRUCT.pack(*numbers, *pointers), first, last) != 0:
            failed.append(first)

    threads = [threading.Thread(target=work, args=each) for each in slices[1:]]
    for thread in threads:
        thread.start()
    work(*slices[0])
    for thread in threads:
        thread.join()
    if failed:
        raise MemoryError(f"no memory for the {kind} pass of an associative memory")


def _slices(count: int, size: int) -> list[tuple[int, int]]:
    """Split groups evenly over torch's threads; small problems stay on one."""
    parts = min(torch.get_num_threads(), count) if size > _PARALLEL_WORK else 1
    if parts < 2:
        return [(0, count)]
    return [(count * i // parts, count * (i + 1) // parts) for i in range(parts)]
