"""`Feedforward`: what remembers nothing."""

import torch
from torch import Tensor, nn

from plastic_envs.checks import check_count, check_int

_LARGEST = 2**30  # weights


class Feedforward(nn.Module):
    """A layer with tanh that remembers nothing: what a memory is to be compared with.

    Args:
        input_size: Entries of an input.
        hidden_size: Units, which are the outputs.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, input_size: int, hidden_size: int = 128) -> None:
        super().__init__()
        sizes = {"input_size": input_size, "hidden_size": hidden_size}
        rows, columns = (check_int(name, size, minimum=1) for name, size in sizes.items())
        check_count("the weights", rows * columns, _LARGEST, **sizes)
        self.layer = nn.Linear(rows, columns)

    @property
    def output_size(self) -> int:
        """Entries of an output."""
        return self.layer.out_features

    def initial_state(self, batch_size: int) -> tuple[()]:
        """Return nothing: there is no state."""
        check_int("batch_size", batch_size)
        return ()

    def step(
        self, x: Tensor, state: tuple[()] | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, tuple[()]]:
        """Compute the layer for inputs [B, input_size]."""
        return torch.tanh(self.layer(x)), ()

    def forward(
        self, x: Tensor, state: tuple[()] | None = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, tuple[()]]:
        """Compute the layer for inputs [B, T, input_size], step by step."""
        return self.step(x)
