"""The compiled kernel (`csrc/kernel.c`): finding its build, and calling it on tensors."""

import ctypes
import struct
import threading
from functools import cache
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor

from agents.builds import find

LAYERS = {"encoder": 0, "cell_input": 1, "cell_hidden": 2, "readout": 3}
"""Layers, with their places in the arrays of csrc/kernel.h."""

_VERSION = 1  # PROBLEM_VERSION of csrc/kernel.h
_SUFFIXES = ("f32", "f64")
SYMBOL = "plastic_problem"
_PARALLEL_WORK = 2_000_000  # weights · steps below which starting threads does not pay

# `Problem` of csrc/kernel.h, field for field: how many places of eight bytes each takes.
_INTEGERS = dict.fromkeys(
    ("batch", "time", "input", "hidden", "gates", "readout",
    "has_encoder", "gradient_rule", "modulation", "segment"), 1
)  # fmt: skip
_REALS = dict.fromkeys(("base_eta", "base_decay", "max_norm"), 1)
_POINTERS = {
    **dict.fromkeys(("weight", "bias", "alpha", "bias_alpha"), len(LAYERS)),
    **dict.fromkeys(("omega", "x", "starts", "h0", "c0"), 1),
    **dict.fromkeys(("fast0", "fast_bias0"), len(LAYERS)),
    **dict.fromkeys(("output", "encoded", "activity", "h", "c"), 1),
    **dict.fromkeys(("post_q", "post_e", "eta", "decay", "norm2"), 1),
    **dict.fromkeys(("fast1", "fast_bias1"), len(LAYERS)),
    **dict.fromkeys(("grad_h1", "grad_c1"), 1),
    **dict.fromkeys(("grad_fast1", "grad_fast_bias1"), len(LAYERS)),
    **dict.fromkeys(("grad_o", "grad_q", "grad_a", "grad_u", "grad_gh"), 1),
    **dict.fromkeys(("grad_x", "grad_h0", "grad_c0"), 1),
    **dict.fromkeys(("grad_fast0", "grad_fast_bias0"), len(LAYERS)),
    **dict.fromkeys(("grad_alpha", "grad_bias_alpha"), len(LAYERS)),
    "grad_omega": 1,
}
_NUMBERS = _INTEGERS | _REALS
_FIELDS = _NUMBERS | _POINTERS
_FIRST = dict(zip(_FIELDS, accumulate(_FIELDS.values(), initial=0), strict=False))
_COUNT = sum(_FIELDS.values())
_STRUCT = struct.Struct(f"{len(_INTEGERS)}q{len(_REALS)}d{sum(_POINTERS.values())}P")


def load() -> ctypes.CDLL | None:
    """Load the build for the best instruction set of this processor; None without a build."""
    return _search()[0]


def absence() -> str:
    """Say what there is instead, if `load` gives nothing."""
    return _search()[1]


@cache
def _search() -> tuple[ctypes.CDLL | None, str]:
    """Return the first build that can be used, and what was found before it."""
    kinds = [f"plastic_{kind}_{each}" for kind in ("forward", "backward") for each in _SUFFIXES]
    return find(f"{__package__}._kernel", SYMBOL, (_VERSION, _STRUCT.size), kinds)


class Problem:
    """A call of the kernel in the making; keeps the tensors alive to which it points.

    Args:
        dtype: float32 or float64, that of all arrays.
        fields: Of the struct in csrc/kernel.h: numbers, contiguous tensors, and dictionaries of
            them by layer. A pointer that is missing or None is null.
    """

    def __init__(self, dtype: torch.dtype, fields: dict[str, Any]) -> None:
        self._suffix = {torch.float32: "f32", torch.float64: "f64"}[dtype]
        self._fields = fields

    def run(self, kind: Literal["forward", "backward"], **sums: Any) -> dict[str, Any]:
        """Compute all samples, on as many threads as torch uses.

        Args:
            kind: Which pass.
            **sums: Fields that the kernel adds up over samples, each with a tensor of its shape
                and order in memory, or such tensors by layer.

        Returns:
            The sums.

        Raises:
            MemoryError: If the kernel found no memory.
        """
        kernel = load()
        assert kernel is not None  # `agents.plastic.ops.cpu.form.obstacle` said so
        function = getattr(kernel, f"plastic_{kind}_{self._suffix}")
        slices, failed = self._slices(), list[int]()
        partial = [{name: _zeros(value) for name, value in sums.items()} for _ in slices]

        def work(part: int) -> None:  # holds all arrays, even if this call is interrupted
            fields = self._fields | partial[part]
            if function(_packed(fields), *slices[part]) != 0:
                failed.append(part)

        threads = [threading.Thread(target=work, args=(part,)) for part in range(1, len(slices))]
        for thread in threads:
            thread.start()
        work(0)
        for thread in threads:
            thread.join()
        if failed:
            raise MemoryError(f"no memory for the {kind} pass of a plastic network")
        return {name: _sum([part[name] for part in partial]) for name in sums}

    def _slices(self) -> list[tuple[int, int]]:
        """Split the batch evenly over torch's threads; small problems stay on one."""
        batch, steps = self._fields["batch"], self._fields["time"]
        count = min(torch.get_num_threads(), batch)
        if count > 1:
            weights = sum(leaf.numel() for leaf in self._fields["weight"].values())
            count = count if batch * steps * weights > _PARALLEL_WORK else 1
        if count < 2:
            return [(0, batch)]
        return [(batch * i // count, batch * (i + 1) // count) for i in range(count)]


def _packed(fields: dict[str, Any]) -> bytes:
    """Return the struct as it lies in memory."""
    values: list[int | float] = [0] * _COUNT
    for name, value in fields.items():
        first = _FIRST[name]
        if name in _NUMBERS:
            values[first] = value
        elif isinstance(value, dict):
            for layer, leaf in value.items():
                if leaf is not None:
                    values[first + LAYERS[layer]] = leaf.data_ptr()
        elif value is not None:
            values[first] = value.data_ptr()
    return _STRUCT.pack(*values)


def _zeros(value: Tensor | dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        return {layer: torch.zeros_like(leaf) for layer, leaf in value.items()}
    return torch.zeros_like(value)


def _sum(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], dict):
        return {layer: _sum([part[layer] for part in parts]) for layer in parts[0]}
    return torch.stack(parts).sum(0)
