"""Checks of what only torch has, as tensors and generators; of numbers: `plastic_envs.checks`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from plastic_envs.checks import check_instance, shown


def check_generator(generator: torch.Generator | None) -> None:
    """Refuse, under its name, what is neither a generator nor None."""
    if generator is not None:
        check_instance("generator", generator, torch.Generator, "a torch.Generator or None")


def check_leaves(
    where: str, leaves: Sequence[Tensor], shapes: Sequence[Sequence[int]], like: Tensor
) -> None:
    """Raise a ValueError unless tensors have these shapes, and type and device of another one."""
    dtype, device = like.dtype, like.device
    for leaf, shape in zip(leaves, shapes, strict=True):
        if (
            not isinstance(leaf, Tensor)
            or leaf.shape != shape
            or leaf.dtype != dtype
            or leaf.device != device
        ):
            needed = f"{dtype} {list(shape)} on {device}"
            raise ValueError(f"{where} {described(leaf)} where {needed} is needed")


def described(value: object) -> str:
    """Return what a value is, for an error message; of a tensor, all but its numbers."""
    if not isinstance(value, Tensor):
        return f"{type(value).__name__} {shown(value)}"
    if value.is_nested:
        return f"a nested {value.dtype} tensor"
    layout = "" if value.layout is torch.strided else f"{value.layout} "
    return f"{layout}{value.dtype} {list(value.shape)} on {value.device}"


def check_input(x: Tensor, dims: int, size: int, like: Tensor) -> None:
    """Raise a ValueError unless an input is [batch, size], or with 3 dims [batch, time, size].

    Args:
        x: The input.
        dims: Its number of dimensions, 2 or 3.
        size: Its entries.
        like: A parameter, of whose type and on whose device it must be.
    """
    wanted = f"[batch, {size}]" if dims == 2 else f"[batch, time, {size}]"
    if not isinstance(x, Tensor) or x.layout is not torch.strided or x.is_nested:
        raise ValueError(f"x must be a dense torch.Tensor {wanted}, got {described(x)}")
    if x.dim() != dims or x.shape[-1] != size or (dims == 3 and x.shape[1] < 1):
        raise ValueError(f"x must have shape {wanted}, got {list(x.shape)}")
    if x.dtype != like.dtype or x.device != like.device:
        raise ValueError(
            f"the core is {like.dtype} on {like.device}, but its input is {described(x)}"
        )


def check_starts(starts: Tensor, shape: tuple[int, int], device: torch.device) -> None:
    """Refuse, under its name, an `episode_starts` of another form."""
    if (
        not isinstance(starts, Tensor)
        or starts.dtype != torch.bool
        or starts.shape != shape
        or starts.device != device
    ):
        raise ValueError(
            f"episode_starts must be bool {list(shape)} on {device}, got {described(starts)}"
        )


def autocasts(x: Tensor) -> bool:
    """Say whether autocast is at work where a tensor is."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def add_time_axis(inputs: Any, name: str = "inputs") -> Any:
    """Make a sequence of one step: [B, …] to [B, 1, …], in every tensor of a mapping.

    Raises:
        ValueError: If there is something else than tensors, called by the name.
    """
    if isinstance(inputs, Mapping):
        return {key: add_time_axis(part, f"{name}[{shown(key)}]") for key, part in inputs.items()}
    if not isinstance(inputs, Tensor) or inputs.dim() < 1:
        raise ValueError(f"{name} must be a torch.Tensor [B, …], got {described(inputs)}")
    return inputs.unsqueeze(1)


def complete_gradients(module: nn.Module) -> None:
    """Give a gradient of zero to each parameter that learns and got none, as of an unused layer.

    So an optimiser has a state of every one of them, and what is missing from one that was saved is
    a damage.
    """
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
