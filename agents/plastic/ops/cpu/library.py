"""The compiled kernel (`csrc/kernel.c`): finding its build, and calling it on tensors."""

import ctypes
import importlib.util
import logging
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Arrays = Tensor | Sequence[Tensor | None] | None
"""An array, or one of each layer that there is."""

_LAYERS = 4
_PARALLEL_WORK = 2_000_000  # weights · steps below which starting threads does not pay
_POINTER = ctypes.c_void_p
_PER_LAYER = _POINTER * _LAYERS

_INTEGERS = (
    "batch", "time", "input", "hidden", "gates", "readout",
    "has_encoder", "gradient_rule", "modulation", "segment",
)  # fmt: skip
_REALS = ("base_eta", "base_decay", "max_norm")


class _Struct(ctypes.Structure):
    """`Problem` of csrc/kernel.h, field for field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _INTEGERS),
        *((name, ctypes.c_double) for name in _REALS),
        *((name, _PER_LAYER) for name in ("weight", "bias", "alpha", "bias_alpha")),
        *((name, _POINTER) for name in ("omega", "x", "starts", "h0", "c0")),
        *((name, _PER_LAYER) for name in ("fast0", "fast_bias0")),
        *((name, _POINTER) for name in ("output", "encoded", "activity", "h", "c")),
        *((name, _POINTER) for name in ("post_q", "post_e", "eta", "decay", "norm2")),
        *((name, _PER_LAYER) for name in ("fast1", "fast_bias1")),
        *((name, _POINTER) for name in ("grad_h1", "grad_c1")),
        *((name, _PER_LAYER) for name in ("grad_fast1", "grad_fast_bias1")),
        *((name, _POINTER) for name in ("grad_o", "grad_q", "grad_a", "grad_u", "grad_gh")),
        *((name, _POINTER) for name in ("grad_x", "grad_h0", "grad_c0")),
        *((name, _PER_LAYER) for name in ("grad_fast0", "grad_fast_bias0")),
        *((name, _PER_LAYER) for name in ("grad_alpha", "grad_bias_alpha")),
        ("grad_omega", _POINTER),
    ]


@cache
def load() -> ctypes.CDLL | None:
    """Load the build for the best instruction set of this processor; None without a build."""
    for name in _instruction_sets():
        spec = importlib.util.find_spec(f"agents.plastic.ops._kernel_{name}")
        if spec is None or spec.origin is None:
            continue
        try:
            library = ctypes.CDLL(spec.origin)
        except OSError as error:
            logger.warning("the compiled kernel %s cannot be loaded: %s", spec.origin, error)
            continue
        for kind in ("forward", "backward"):
            for suffix in ("f32", "f64"):
                function = getattr(library, f"plastic_{kind}_{suffix}")
                function.argtypes = [ctypes.POINTER(_Struct), ctypes.c_int64, ctypes.c_int64]
                function.restype = ctypes.c_int
        return library
    return None


def _instruction_sets() -> list[str]:
    best = torch.backends.cpu.get_cpu_capability().lower()
    order = ["avx512", "avx2", "default"]
    return order[order.index(best) :] if best in order else ["default"]


class Problem:
    """A call of the kernel in the making; keeps the tensors alive to which it points.

    Args:
        dtype: float32 or float64, that of all arrays.
        first_layer: 0 with an encoder, 1 without: where lists of arrays begin.
        sizes: The numbers of csrc/kernel.h.
    """

    def __init__(self, dtype: torch.dtype, first_layer: int, sizes: dict[str, float]) -> None:
        self._suffix = {torch.float32: "f32", torch.float64: "f64"}[dtype]
        self._first_layer, self._struct = first_layer, _Struct(**sizes)
        self._alive: list[dict[str, Any]] = []
        self._weights = 0

    def point(self, **arrays: Arrays) -> None:
        """Set fields to the addresses of contiguous tensors, or to null for None."""
        self._alive.append(arrays)
        self._set(self._struct, arrays)
        for leaf in arrays.get("weight") or ():
            assert leaf is not None
            self._weights += leaf.numel()

    def run(self, kind: Literal["forward", "backward"], **sums: Any) -> dict[str, Any]:
        """Compute all samples, on as many threads as torch uses.

        Args:
            kind: Which pass.
            **sums: Fields that the kernel adds up over samples, each with a tensor (or list of
                tensors) of its shape.

        Returns:
            The sums.

        Raises:
            MemoryError: If the kernel found no memory.
        """
        kernel = load()
        assert kernel is not None  # `agents.plastic.ops.cpu.form.obstacle` said so
        function = getattr(kernel, f"plastic_{kind}_{self._suffix}")
        slices, failed = self._slices(), list[int]()
        partial = [{name: _zeros_like(value) for name, value in sums.items()} for _ in slices]

        def work(part: int) -> None:  # holds all arrays, even if this call is interrupted
            struct = _Struct.from_buffer_copy(self._struct)
            self._set(struct, partial[part])
            if function(ctypes.byref(struct), *slices[part]) != 0:
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
        batch = self._struct.batch
        work = batch * self._struct.time * self._weights
        count = min(torch.get_num_threads(), batch) if work > _PARALLEL_WORK else 1
        return [(batch * i // count, batch * (i + 1) // count) for i in range(count)]

    def _set(self, struct: _Struct, arrays: dict[str, Any]) -> None:
        for name, value in arrays.items():
            if isinstance(value, Tensor):
                setattr(struct, name, value.data_ptr())
            elif value is not None:
                field = getattr(struct, name)
                for layer, tensor in enumerate(value, start=self._first_layer):
                    field[layer] = None if tensor is None else tensor.data_ptr()


def _zeros_like(value: Tensor | list[Tensor]) -> Any:
    if isinstance(value, Tensor):
        return torch.zeros_like(value)
    return [torch.zeros_like(leaf) for leaf in value]


def _sum(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Tensor):
        return torch.stack(parts).sum(0)
    return [torch.stack(leaves).sum(0) for leaves in zip(*parts, strict=True)]
