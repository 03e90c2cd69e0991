"""The LSTM cell."""

import torch
from torch import Tensor

from agents.plastic.cells.base import Cell, CellStep
from agents.plastic.state import Hidden, LSTMHidden


class LSTMCell(Cell):
    """c' = f c + i g, h' = o tanh(c'), gates in the order input, forget, cell, output.

    The activity of both layers are the four gates, after their sigmoid or tanh.
    """

    gates = 4

    def initial_hidden(self, zeros: Tensor) -> LSTMHidden:
        return LSTMHidden(zeros, torch.zeros_like(zeros))

    def forward(self, from_input: Tensor, from_hidden: Tensor, hidden: Hidden) -> CellStep:
        c_before = _memory(hidden)
        q_i, q_f, q_g, q_o = (from_input + from_hidden).chunk(4, dim=-1)
        i, f, g, o = torch.sigmoid(q_i), torch.sigmoid(q_f), torch.tanh(q_g), torch.sigmoid(q_o)
        c = f * c_before + i * g
        h = o * torch.tanh(c)
        gates = torch.cat([i, f, g, o], dim=-1)
        return CellStep(LSTMHidden(h, c), gates, gates, hidden)

    def backward(self, grad_h: Tensor, step: CellStep) -> tuple[Tensor, Tensor]:
        i, f, g, o = step.input_activity.chunk(4, dim=-1)
        tanh_c = torch.tanh(_memory(step.hidden))
        grad_c = grad_h * o * (1 - tanh_c * tanh_c)
        grad = torch.cat(
            [
                grad_c * g * i * (1 - i),
                grad_c * _memory(step.previous) * f * (1 - f),
                grad_c * i * (1 - g * g),
                grad_h * tanh_c * o * (1 - o),
            ],
            dim=-1,
        )
        return grad, grad


def _memory(hidden: Hidden) -> Tensor:
    """Return `c` of the hidden state of an LSTM; cells that derive from it may keep more."""
    return hidden.c  # type: ignore[attr-defined,no-any-return]
