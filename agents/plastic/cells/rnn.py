"""The simple recurrent cell."""

import torch
from torch import Tensor

from agents.plastic.cells.base import Cell, CellStep
from agents.plastic.state import Hidden, RNNHidden


class RNNCell(Cell):
    """h' = ReLU(q) of the sum q of both layers."""

    gates = 1

    def initial_hidden(self, zeros: Tensor) -> RNNHidden:
        return RNNHidden(zeros)

    def forward(self, from_input: Tensor, from_hidden: Tensor, hidden: Hidden) -> CellStep:
        h = torch.relu(from_input + from_hidden)
        return CellStep(RNNHidden(h), h, h, hidden)

    def backward(self, grad_h: Tensor, step: CellStep) -> tuple[Tensor, Tensor]:
        grad = torch.where(step.hidden.h > 0, grad_h, 0)  # a product would spread NaN
        return grad, grad
