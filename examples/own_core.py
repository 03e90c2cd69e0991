"""A core of your own: linear attention, a matrix that values are written into under keys.

Where this file is in the working directory:

    plastic train --core own_core:make --width 32
    plastic train-rl --core own_core:make --width 32
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = dict[str, Tensor]


class LinearAttention(nn.Module):
    """y_t = φ(q_t) Σ φ(k_s) v_sᵀ / φ(q_t)·Σ φ(k_s), s ≤ t, φ = elu + 1 (arXiv 2006.16236)."""

    def __init__(self, input_size: int, width: int) -> None:
        super().__init__()
        self.output_size = width
        self.project = nn.Linear(input_size, 3 * width)

    def initial_state(self, batch_size: int) -> State:
        """Return zeros: the batch comes first, type and device are those of the parameters."""
        zeros = self.project.bias.new_zeros(batch_size, self.output_size)
        return {"matrix": zeros.unsqueeze(1).repeat(1, self.output_size, 1), "norm": zeros}

    def step(self, x: Tensor, state=None, episode_starts=None) -> tuple[Tensor, State]:
        """Take a step with inputs [B, input_size]; where an episode starts, forget before it."""
        state = self.initial_state(len(x)) if state is None else state
        matrix, norm = state["matrix"], state["norm"]
        if episode_starts is not None:
            matrix = matrix.masked_fill(episode_starts[:, None, None], 0)
            norm = norm.masked_fill(episode_starts[:, None], 0)
        query, key, value = self.project(x).chunk(3, dim=-1)
        query, key = F.elu(query) + 1, F.elu(key) + 1
        matrix, norm = matrix + key.unsqueeze(2) * value.unsqueeze(1), norm + key
        output = (query.unsqueeze(1) @ matrix).squeeze(1) / (query * norm).sum(1, keepdim=True)
        return output, {"matrix": matrix, "norm": norm}

    def forward(self, x: Tensor, state=None, episode_starts=None) -> tuple[Tensor, State]:
        """Run over sequences [B, T, input_size]; here step by step, the simplest way."""
        starts = [None] * x.shape[1] if episode_starts is None else episode_starts.unbind(1)
        outputs = []
        for inputs, start in zip(x.unbind(1), starts, strict=True):
            output, state = self.step(inputs, state, start)
            outputs.append(output)
        return torch.stack(outputs, dim=1), state


def make(input_size: int, *, width: int = 32) -> LinearAttention:
    """Make the core; options with a type and a default, here `width`, are the programs', too."""
    return LinearAttention(input_size, width)


if __name__ == "__main__":
    outputs, state = make(3, width=4)(torch.randn(2, 10, 3))
    print("outputs", list(outputs.shape), {name: list(leaf.shape) for name, leaf in state.items()})
