"""A cell of your own: the minimal gated unit, whose one gate forgets and resets.

    plastic train --cell own_cell:MinimalGatedUnit    # in the folder of this file
    python own_cell.py                                # learns to remember, in seconds

Source: Zhou et al., "Minimal gated unit for recurrent neural networks", 2016, arXiv 1603.09420;
here the gate stands behind the linear layer of the hidden state.
"""

import torch
from torch import Tensor

from agents import Cell, CellStep, PlasticNetwork, RNNHidden


class MinimalGatedUnit(Cell):
    """h' = h + f (n - h) with f = σ(a_f + b_f), n = tanh(a_n + f b_n), of the layers' a and b."""

    gates = 2

    def initial_hidden(self, zeros: Tensor) -> RNNHidden:
        """Start at zero."""
        return RNNHidden(zeros)

    def forward(self, from_input: Tensor, from_hidden: Tensor, hidden: RNNHidden) -> CellStep:
        """Take one step."""
        (a_f, a_n), (b_f, b_n) = from_input.chunk(2, dim=-1), from_hidden.chunk(2, dim=-1)
        f = torch.sigmoid(a_f + b_f)
        n = torch.tanh(a_n + f * b_n)
        activity = torch.cat([f, n], dim=-1)
        h = RNNHidden(hidden.h + f * (n - hidden.h))
        return CellStep(h, activity, activity, hidden, kept=(b_n,))

    def backward(self, grad_h: Tensor, step: CellStep) -> tuple[Tensor, Tensor]:
        """Return the gradients for `from_input` and `from_hidden`: the gradient rule needs them."""
        (f, n), (b_n,) = step.input_activity.chunk(2, dim=-1), step.kept
        grad_n = grad_h * f * (1 - n * n)
        grad_f = (grad_h * (n - step.previous.h) + grad_n * b_n) * f * (1 - f)
        return torch.cat([grad_f, grad_n], dim=-1), torch.cat([grad_f, grad_n * f], dim=-1)


if __name__ == "__main__":
    torch.manual_seed(0)
    net = PlasticNetwork(4, 4, hidden_size=16, cell=MinimalGatedUnit(), rule="gradient")
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for update in range(201):
        x = torch.zeros(32, 6, 4)
        x[:, 0] = torch.randn(32, 4).sign()  # a pattern, then five steps of nothing
        recalled, _ = net(x)
        loss = (recalled[:, -1] - x[:, 0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % 50 == 0:
            print(f"update {update}: error {loss:.3f} (guessing 1)")
