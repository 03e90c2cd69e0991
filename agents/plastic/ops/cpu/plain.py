"""What compiled code must know of the tensors that it is handed, and of who follows torch's calls.

Code that is given addresses sees memory and nothing else. It is right only for dense numbers in
memory, and while nothing but first-order autograd wants to know how results came about.
"""

from collections.abc import Sequence
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

_TYPES = frozenset([Tensor, nn.Parameter])
_DENSE = frozenset([torch.strided])
_ON_CPU, _LAYOUT = attrgetter("is_cpu"), attrgetter("layout")  # in loops that cost little


def follower() -> str | None:
    """Name what follows the calls of torch at this moment; None if nothing does."""
    if torch.compiler.is_compiling():
        return "torch.compile or torch.export"
    if torch._C._get_tracing_state() is not None:
        return "torch.jit.trace"
    if torch._C._are_functorch_transforms_active():
        return "a transform such as vmap, or one of torch.func"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation"
    if torch._C._len_torch_dispatch_stack():
        return "a dispatch mode such as FakeTensorMode"
    if torch._C._len_torch_function_stack():
        modes: list[object] = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
        if any(type(mode) is not DeviceContext for mode in modes):
            return "a function mode"
    return None


def are_plain(tensors: Sequence[Tensor]) -> bool:
    """Say whether tensors are of torch's own class, on the CPU, dense, and stored as they read."""
    return (
        _TYPES.issuperset(map(type, tensors))
        and all(map(_ON_CPU, tensors))
        and _DENSE.issuperset(map(_LAYOUT, tensors))
        and not any(map(Tensor.is_neg, tensors))
    )


def are_stored(gradients: Sequence[Tensor]) -> bool:
    """Say whether plain gradients have memory: not so under vmap, or where known to be zero."""
    return all(torch._C._has_storage(grad) and not grad._is_zerotensor() for grad in gradients)
