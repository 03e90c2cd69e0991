"""The gated recurrent unit.

Source: Cho et al. 2014, arXiv 1406.1078, in the form of `torch.nn.GRUCell`: the reset gate acts
after the linear layer of the hidden state.
"""

import torch
from torch import Tensor

from agents.plastic.cells.base import Cell, CellStep
from agents.plastic.state import Hidden, RNNHidden


class GRUCell(Cell):
    """h' = (1 - z) n + z h, with n = tanh(a_n + r b_n), of the two layers' a and b.

    r = σ(a_r + b_r) and z = σ(a_z + b_z); gates in the order reset r, update z, new n. The activity
    of `cell_input` are r, z and n; that of `cell_hidden` are r, z and r n: a unit whose reset gate
    is closed takes nothing from this layer, and so leaves nothing there either.
    """

    gates = 3

    def initial_hidden(self, zeros: Tensor) -> RNNHidden:
        return RNNHidden(zeros)

    def forward(self, from_input: Tensor, from_hidden: Tensor, hidden: Hidden) -> CellStep:
        a_r, a_z, a_n = from_input.chunk(3, dim=-1)
        b_r, b_z, b_n = from_hidden.chunk(3, dim=-1)
        r, z = torch.sigmoid(a_r + b_r), torch.sigmoid(a_z + b_z)
        n = torch.tanh(a_n + r * b_n)
        h = n + z * (hidden.h - n)
        return CellStep(
            hidden=RNNHidden(h),
            input_activity=torch.cat([r, z, n], dim=-1),
            hidden_activity=torch.cat([r, z, r * n], dim=-1),
            previous=hidden,
            kept=(b_n,),
        )

    def backward(self, grad_h: Tensor, step: CellStep) -> tuple[Tensor, Tensor]:
        r, z, n = step.input_activity.chunk(3, dim=-1)
        (b_n,) = step.kept
        grad_n = grad_h * (1 - z) * (1 - n * n)
        grad_z = grad_h * (step.previous.h - n) * z * (1 - z)
        grad_r = grad_n * b_n * r * (1 - r)
        for_input = torch.cat([grad_r, grad_z, grad_n], dim=-1)
        return for_input, torch.cat([grad_r, grad_z, grad_n * r], dim=-1)
