"""Checks of what only torch has, tensors and generators; for numbers: `plastic_envs.checks`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from plastic_envs.checks import check_instance, shown


def check_generator(generator: torch.Generator | None) -> None:
    """Refuse, under its name, what is neither a generator nor None."""
    if generator is not None:
        check_instance("generator", generator, torch.Generator, "a torch.Generator or None")


def check_leaf(where: str, leaf: object, shape: Sequence[int], like: Tensor) -> None:
    """Raise a ValueError unless a tensor has a shape, and type and device of another tensor."""
    if (
        not isinstance(leaf, Tensor)
        or leaf.shape != shape
        or leaf.dtype != like.dtype
        or leaf.device != like.device
    ):
        needed = f"{like.dtype} {list(shape)} on {like.device}"
        raise ValueError(f"{where} {described(leaf)} where {needed} is needed")


def described(value: object) -> str:
    """Return what a value is, for an error message; of a tensor, all but its numbers."""
    if not isinstance(value, Tensor):
        return f"{type(value).__name__} {shown(value)}"
    if value.is_nested:
        return f"a nested {value.dtype} tensor"
    layout = "" if value.layout is torch.strided else f"{value.layout} "
    return f"{layout}{value.dtype} {list(value.shape)} on {value.device}"
