"""What a network carries from step to step, as a tree of named tensors."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class RNNHidden(NamedTuple):
    """Hidden state of an RNN cell: `h` [B, hidden]."""

    h: Tensor


class LSTMHidden(NamedTuple):
    """Hidden state of an LSTM cell: output `h` and cell `c`, each [B, hidden]."""

    h: Tensor
    c: Tensor


Hidden = RNNHidden | LSTMHidden


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
    """

    hidden: Hidden
    fast: dict[str, FastWeights]

    @property
    def batch_size(self) -> int:
        """Number B of samples."""
        return len(self.hidden.h)

    def map(self, function: Callable[[Tensor], Tensor]) -> "PlasticState":
        """Apply a function to every tensor."""
        hidden = type(self.hidden)(*(function(leaf) for leaf in self.hidden))
        fast = {
            name: FastWeights(function(layer.weight), function(layer.bias))
            for name, layer in self.fast.items()
        }
        return PlasticState(hidden, fast)

    def detach(self) -> "PlasticState":
        """Cut the graph: gradients of what follows stop here."""
        return self.map(torch.Tensor.detach)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "PlasticState":
        """Move to a device, or change the floating-point type."""
        return self.map(lambda leaf: leaf.to(device=device, dtype=dtype))

    def reset(self, episode_starts: Tensor) -> "PlasticState":
        """Set the samples in which an episode starts back to the initial state.

        Args:
            episode_starts: bool [B].
        """

        def zero_where_started(leaf: Tensor) -> Tensor:
            return leaf.masked_fill(episode_starts.view(-1, *[1] * (leaf.dim() - 1)), 0)

        return self.map(zero_where_started)

    def to_dict(self) -> dict[str, Tensor]:
        """Flatten to `{"hidden.h": …, "fast.readout.weight": …}`, as `torch.save` takes it."""
        flat = {f"hidden.{name}": leaf for name, leaf in self.hidden._asdict().items()}
        for name, layer in self.fast.items():
            flat[f"fast.{name}.weight"] = layer.weight
            flat[f"fast.{name}.bias"] = layer.bias
        return flat

    @staticmethod
    def from_dict(flat: Mapping[str, Tensor]) -> "PlasticState":
        """Rebuild a state from what `to_dict` returned.

        Raises:
            ValueError: If the names are not those of a state.
        """
        try:
            h = flat["hidden.h"]
            hidden = LSTMHidden(h, flat["hidden.c"]) if "hidden.c" in flat else RNNHidden(h)
            layers = dict.fromkeys(n.split(".")[1] for n in flat if n.startswith("fast."))
            fast = {
                name: FastWeights(flat[f"fast.{name}.weight"], flat[f"fast.{name}.bias"])
                for name in layers
            }
        except KeyError as error:
            raise ValueError(f"not a flattened state: {error} is missing") from None
        state = PlasticState(hidden, fast)
        if unknown := sorted(set(flat) - set(state.to_dict())):
            raise ValueError(f"not a flattened state: {', '.join(unknown)} do not belong to one")
        return state
