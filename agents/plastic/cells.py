"""Recurrent cells: what happens between a cell's pre-activation and its hidden state.

A cell has no parameters. Its two linear layers (`cell_input`, `cell_hidden`) belong to the network,
which adds their outputs up to the pre-activation q [B, gates · hidden].
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from agents.plastic.state import Hidden, LSTMHidden, RNNHidden


class CellStep(NamedTuple):
    """What one step of a cell leaves behind.

    Attributes:
        hidden: The new hidden state.
        activity: Post-synaptic activity of both cell layers [B, gates · hidden].
        previous: The hidden state before the step.
    """

    hidden: Hidden
    activity: Tensor
    previous: Hidden


class Cell(ABC):
    """A recurrent nonlinearity.

    Attributes:
        gates: Width of the pre-activation, in units of the hidden size.
    """

    gates: ClassVar[int]

    @abstractmethod
    def initial_hidden(self, zeros: Tensor) -> Hidden:
        """Return the hidden state at the start of an episode, like `zeros` [B, hidden].

        It is a named tuple of tensors [B, …] with `h` [B, hidden] among them (see
        `agents.plastic.state.Hidden`), the same for every sample.
        """

    @abstractmethod
    def forward(self, q: Tensor, hidden: Hidden) -> CellStep:
        """Take one step.

        Args:
            q: Pre-activation [B, gates · hidden].
            hidden: Hidden state before the step.
        """

    @abstractmethod
    def backward(self, grad_h: Tensor, step: CellStep) -> Tensor:
        """Return the gradient for the pre-activation within the step.

        The hidden state before the step counts as a constant. The result is differentiable
        itself.

        Args:
            grad_h: Gradient [B, hidden] for the new `h`.
            step: What `forward` returned.

        Returns:
            Gradient [B, gates · hidden] for q.
        """


class RNNCell(Cell):
    """h' = ReLU(q)."""

    gates = 1

    def initial_hidden(self, zeros: Tensor) -> RNNHidden:
        return RNNHidden(zeros)

    def forward(self, q: Tensor, hidden: Hidden) -> CellStep:
        h = torch.relu(q)
        return CellStep(RNNHidden(h), h, hidden)

    def backward(self, grad_h: Tensor, step: CellStep) -> Tensor:
        return torch.where(step.activity > 0, grad_h, 0)  # a product would spread NaN


class LSTMCell(Cell):
    """c' = f c + i g, h' = o tanh(c'), gates in the order input, forget, cell, output."""

    gates = 4

    def initial_hidden(self, zeros: Tensor) -> LSTMHidden:
        return LSTMHidden(zeros, torch.zeros_like(zeros))

    def forward(self, q: Tensor, hidden: Hidden) -> CellStep:
        c_before = _memory(hidden)
        q_i, q_f, q_g, q_o = q.chunk(4, dim=-1)
        i, f, g, o = torch.sigmoid(q_i), torch.sigmoid(q_f), torch.tanh(q_g), torch.sigmoid(q_o)
        c = f * c_before + i * g
        h = o * torch.tanh(c)
        return CellStep(LSTMHidden(h, c), torch.cat([i, f, g, o], dim=-1), hidden)

    def backward(self, grad_h: Tensor, step: CellStep) -> Tensor:
        i, f, g, o = step.activity.chunk(4, dim=-1)
        tanh_c = torch.tanh(_memory(step.hidden))
        grad_c = grad_h * o * (1 - tanh_c * tanh_c)
        return torch.cat(
            [
                grad_c * g * i * (1 - i),
                grad_c * _memory(step.previous) * f * (1 - f),
                grad_c * i * (1 - g * g),
                grad_h * tanh_c * o * (1 - o),
            ],
            dim=-1,
        )


def _memory(hidden: Hidden) -> Tensor:
    """Return `c` of the hidden state of an LSTM; cells that derive from it may keep more."""
    return hidden.c  # type: ignore[attr-defined,no-any-return]
