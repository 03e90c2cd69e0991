"""Where a program computes."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn

from agents.tree import map_tree
from plastic_envs.checks import check_choice

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


def resolve(name: DeviceName) -> torch.device:
    """Return the device of a name; `"auto"` is a GPU if there is one (CUDA before MPS).

    Raises:
        ValueError: If there is no such device.
    """
    check_choice("device", name, get_args(DeviceName))
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, is_there in there.items() if is_there))
    if not there[name]:
        raise ValueError(
            f"device={name!r} (--device {name}), but PyTorch {torch.__version__} finds none here; "
            "'auto' takes what there is"
        )
    return torch.device(name)


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters; the CPU for one that has none."""
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def moved(tree: Any, device: torch.device) -> Any:
    """Return a tree of tensors on a device; those that are there already stay as they are."""
    return map_tree(lambda leaf: leaf.to(device, non_blocking=True), tree)


def forked(device: torch.device) -> Sequence[torch.device]:
    """Return the devices, besides the CPU, whose random state `fork_rng` is to keep."""
    return [] if device.type == "cpu" else [device]
