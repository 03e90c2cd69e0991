"""Where a program computes.

Networks are made on the CPU, from the same random numbers for every device, and then moved; tasks,
answers and files know no device.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import torch
from torch import Tensor, nn

from agents.tree import map_tree
from plastic_envs.checks import check_choice
from train.names import DeviceName

CPU = torch.device("cpu")


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


def resolve_for(run: DeviceName, name: DeviceName | None = None) -> torch.device:
    """Return the device to look at a run with.

    Args:
        run: Where it was trained, perhaps on another machine; if that is not here, another is.
        name: What somebody asks for instead.

    Raises:
        ValueError: If somebody asks for a device that is not here.
    """
    if name is not None:
        return resolve(name)
    try:
        return resolve(run)
    except ValueError:
        return resolve("auto")


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters; the CPU for one that has none."""
    parameter = next(module.parameters(), None)
    return CPU if parameter is None else parameter.device


def moved(tree: Any, device: torch.device) -> Any:
    """Return a tree with its tensors on a device; those that are there already stay as they are."""
    return map_tree(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, tree)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators, and put those of the CPU and of a device back in the end."""
    cuda = [device] if device.type == "cuda" else []
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)
            yield
    finally:
        if mps is not None:
            torch.mps.set_rng_state(mps)
