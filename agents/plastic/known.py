"""What a network has checked, and need not check again at the next step while it looks the same.

Checks of parameters and states are for compiled code, which trusts shapes; of a single step of one
sample they were a fifth of the time.
"""

from collections.abc import Iterable
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

from torch import Tensor

from agents.plastic.ops.interface import NetworkParameters
from agents.plastic.state import FastWeights, PlasticState


class KnownParameters(NamedTuple):
    """Parameters that were found right.

    Attributes:
        parts: Where they were found: names and types of layers, and what is registered there.
        tree: All of them.
        tensors: The same as a list.
        looks: Of the tensors.
    """

    parts: list[object]
    tree: NetworkParameters
    tensors: list[Tensor]
    looks: list[Any]


class KnownState(NamedTuple):
    """What a state is like that was found right.

    Attributes:
        place: Cell, batch size, type and device of the network.
        kinds: Types of the state and of its parts.
        layers: Names of the layers with fast weights.
        looks: Of the leaves.
    """

    place: tuple[Any, ...]
    kinds: tuple[type, ...]
    layers: list[str]
    looks: list[Any]


class Known:
    """What was found right last time; a copy of the network does not take it over."""

    def __init__(self) -> None:
        self.parameters: KnownParameters | None = None
        self.state: KnownState | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Known, ()


_look = attrgetter("shape", "dtype", "device")


def looks(tensors: Iterable[Tensor]) -> list[Any]:
    """Return what checks look at, of each tensor."""
    return list(map(_look, tensors))


def leaves_like(state: PlasticState, known: KnownState) -> list[Tensor] | None:
    """Return the leaves of a state if they look as those of one that was checked, else None."""
    if type(state) is not PlasticState:
        return None
    hidden, fast, own = state
    if (type(state), type(hidden), type(fast), type(own)) != known.kinds or own:
        return None
    if list(fast) != known.layers or any(type(each) is not FastWeights for each in fast.values()):
        return None
    found = [*hidden, *chain.from_iterable(fast.values())]
    if not all(isinstance(leaf, Tensor) for leaf in found) or looks(found) != known.looks:
        return None
    return found
