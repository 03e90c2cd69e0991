"""What a network carries from step to step, as a tree of named tensors."""

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from agents.tree import map_tree
from plastic_envs.checks import shown


class Hidden(Protocol):
    """Hidden state of a cell: a named tuple of tensors, the batch first in each, one of them `h`.

    Floating-point tensors are of the network's type. Others keep theirs, such as counters.
    """

    @property
    def h(self) -> Tensor:
        """What the cell hands on, [B, hidden]."""

    def __iter__(self) -> Iterator[Tensor]: ...

    def _asdict(self) -> dict[str, Tensor]: ...


class RNNHidden(NamedTuple):
    """Hidden state of an RNN cell: `h` [B, hidden]."""

    h: Tensor


class LSTMHidden(NamedTuple):
    """Hidden state of an LSTM cell: output `h` and cell `c`, each [B, hidden]."""

    h: Tensor
    c: Tensor


class FastWeights(NamedTuple):
    """Fast weights w̃ of one layer: `weight` [B, in, out] and `bias` [B, out]."""

    weight: Tensor
    bias: Tensor


class PlasticState(NamedTuple):
    """State of a `PlasticNetwork`: everything that an episode has left behind so far.

    Attributes:
        hidden: The cell's hidden state.
        fast: Fast weights by the name of their layer (`encoder`, `cell_input`, `cell_hidden`,
            `readout`); empty for a network without plasticity.
        rule: The rule's own tensors [B, …], by layer and name, such as traces; empty for a rule
            that has none.
    """

    hidden: Hidden
    fast: dict[str, FastWeights]
    rule: Mapping[str, Mapping[str, Tensor]] = {}  # nobody writes into a Mapping

    @property
    def batch_size(self) -> int:
        """Number B of samples."""
        return len(self.hidden.h)

    def map(self, function: Callable[[Tensor], Tensor]) -> "PlasticState":
        """Apply a function to every tensor."""
        return map_tree(function, self)

    def detach(self) -> "PlasticState":
        """Cut the graph: gradients of what follows stop here."""
        return self.map(torch.Tensor.detach)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "PlasticState":
        """Move to a device, or change the floating-point type."""
        return self.map(
            lambda leaf: leaf.to(device, dtype if leaf.is_floating_point() else leaf.dtype)
        )

    def reset(
        self, episode_starts: Tensor, initial: "PlasticState | None" = None
    ) -> "PlasticState":
        """Set the samples in which an episode starts back to the initial state.

        Args:
            episode_starts: bool [B].
            initial: What `hidden` and `rule` start with; None for zero. Fast weights are zero at
                the start of any episode.
        """

        def mask(leaf: Tensor) -> Tensor:
            return episode_starts.view(-1, *[1] * (leaf.dim() - 1))

        def cleared(leaf: Tensor) -> Tensor:
            return leaf.masked_fill(mask(leaf), 0)

        def restarted(leaf: Tensor, first: Tensor) -> Tensor:
            return torch.where(mask(leaf), first, leaf)

        if initial is None:
            return self.map(cleared)
        hidden = type(self.hidden)(*map(restarted, self.hidden, initial.hidden))
        rule = {
            layer: {name: restarted(leaf, initial.rule[layer][name]) for name, leaf in own.items()}
            for layer, own in self.rule.items()
        }
        return PlasticState(hidden, map_tree(cleared, self.fast), rule)

    def to_dict(self) -> dict[str, Tensor]:
        """Flatten to `{"hidden.h": …, "fast.readout.weight": …}`, as `torch.save` takes it."""
        flat = {f"hidden.{name}": leaf for name, leaf in self.hidden._asdict().items()}
        for layer, fast in self.fast.items():
            flat |= {f"fast.{layer}.weight": fast.weight, f"fast.{layer}.bias": fast.bias}
        for layer, own in self.rule.items():
            flat |= {f"rule.{layer}.{name}": leaf for name, leaf in own.items()}
        return flat

    @staticmethod
    def from_dict(flat: Mapping[str, Tensor]) -> "PlasticState":
        """Rebuild a state from what `to_dict` returned.

        The names alone tell what it is: a network takes the hidden state for its cell's if the
        fields agree.

        Raises:
            ValueError: If the names are not those of a state, or what they name are no tensors.
        """
        if not isinstance(flat, Mapping) or not all(isinstance(name, str) for name in flat):
            raise ValueError(f"flat must be a dictionary of named tensors, got {shown(flat)}")
        for name, leaf in flat.items():
            if not isinstance(leaf, Tensor):
                raise ValueError(f"not a flattened state: {shown(name)} is {shown(leaf)}")
        try:
            hidden = _hidden_of({n[7:]: v for n, v in flat.items() if n.startswith("hidden.")})
            layers = dict.fromkeys(n.split(".")[1] for n in flat if n.startswith("fast."))
            fast = {
                name: FastWeights(flat[f"fast.{name}.weight"], flat[f"fast.{name}.bias"])
                for name in layers
            }
        except KeyError as error:
            raise ValueError(f"not a flattened state: {shown(error.args[0])} is missing") from None
        rule: dict[str, dict[str, Tensor]] = {}
        for name, leaf in flat.items():
            kind, _, rest = name.partition(".")
            layer, dot, own = rest.partition(".")
            if kind == "rule" and dot:
                rule.setdefault(layer, {})[own] = leaf
        state = PlasticState(hidden, fast, rule)
        if unknown := sorted(set(flat) - set(state.to_dict())):
            raise ValueError(f"not a flattened state: {shown(unknown)} do not belong to one")
        return state


def _hidden_of(leaves: dict[str, Tensor]) -> Hidden:
    """Return the named tuple of a hidden state, a new kind if it is not of a cell of ours."""
    if "h" not in leaves:
        raise KeyError("hidden.h")
    for kind in (RNNHidden, LSTMHidden):
        if set(kind._fields) == set(leaves):
            return kind(**leaves)
    try:
        made = namedtuple("Hidden", list(leaves))  # type: ignore[misc]  # known only now
    except ValueError as error:
        raise ValueError(f"not a flattened state: {error}") from None
    return made(**leaves)  # type: ignore[return-value]  # has `h`, as was seen above
