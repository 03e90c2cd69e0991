"""What compiled code must know of the tensors that it is handed, and of who follows torch's calls.

Code that is given addresses sees memory and nothing else. It is right only for dense numbers in
memory, and while nothing but first-order autograd wants to know how results came about.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

_TYPES = (Tensor, nn.Parameter)


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


def are_plain(tensors: Iterable[Tensor]) -> bool:
    """Say whether tensors are of torch's own class, on the CPU, dense, and stored as they read."""
    for tensor in tensors:
        if (
            type(tensor) not in _TYPES
            or not tensor.is_cpu
            or tensor.layout is not torch.strided
            or tensor.is_nested
            or tensor.is_neg()
            or tensor._is_zerotensor()
        ):
            return False
    return True
