"""Checks of what only torch has, tensors and generators; for numbers: `plastic_envs.checks`."""

from collections.abc import Sequence

import torch
from torch import Tensor

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
