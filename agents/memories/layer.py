"""`MemoryLayer`: what lies between features and a memory."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agents.memories import naive
from agents.memories.updates import Update, Write


class MemoryProbes(NamedTuple):
    """What a memory did at each step [B, T], means over heads and layers.

    Attributes:
        write: Write strength β.
        residual: ‖v − Mᵀ k‖ before the write: how new the value was.
        norm: Norm of the memory after the write; of attention, of the values that it holds, each
            scaled by its write strength.
    """

    write: Tensor
    residual: Tensor
    norm: Tensor


class MemoryLayer(nn.Module):
    """A memory with the linear maps from features z to k, q, v, β (and γ, if gated).

    Args:
        features: Entries of z.
        update: The memory.
        project: Makes of z, in the place of those maps, [k, q, v, logit of β (and of γ)], those of
            all heads one after the other.
    """

    def __init__(self, features: int, update: Update, project: nn.Module | None = None) -> None:
        super().__init__()
        self.update = update
        heads = update.heads
        self._sizes = [2 * heads * update.key_size, heads * update.value_size]
        self._sizes += [heads] * (2 if update.gated else 1)
        self.project = nn.Linear(features, sum(self._sizes)) if project is None else project
        self._scale = math.log(update.largest_write)

    def writes(self, z: Tensor) -> Write:
        """Return what features [B, (T,) features] write into the memory."""
        heads, sequence = self.update.heads, z.dim() == 3
        pairs, v, *scalars = self.project(z).split(self._sizes, dim=-1)
        lead = z.shape[:-1]
        pairs, v = pairs.view(*lead, 2 * heads, -1), v.view(*lead, heads, -1)
        if sequence:  # heads before time
            pairs, v, *scalars = (part.transpose(1, 2) for part in (pairs, v, *scalars))
        if self.update.unit_keys:
            pairs = _unit(pairs)
        k, q = pairs.split(heads, dim=1)
        log_beta = nn.functional.logsigmoid(scalars[0])
        if self._scale:
            log_beta = log_beta + self._scale
        log_gamma = self.update.log_gamma(scalars[1] if len(scalars) > 1 else None, log_beta)
        return Write(k, q, v, log_beta, log_gamma)

    def step(self, z: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step: features [B, features] to what is read [B, heads · dv]."""
        read, state = self.update.step(self.writes(z), state)
        return read.flatten(1), state

    def forward(
        self, z: Tensor, state: Any = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Run over sequences: features [B, T, features] to what is read [B, T, heads · dv]."""
        reads, state = self.update(self.writes(z), state, episode_starts)
        return reads.transpose(1, 2).flatten(2), state

    @torch.no_grad()
    def probe(self, z: Tensor, state: Any, episode_starts: Tensor | None) -> MemoryProbes:
        """Follow the memory step by step, from the arguments of `forward`."""
        writes, update = self.writes(z), self.update
        if state is None:
            state = update.initial_state(len(z), z)
        rows = []
        for t in range(z.shape[1]):
            if episode_starts is not None:
                state = naive.emptied(state, episode_starts[:, t])
            write = naive.at(writes, t)
            residual = (write.v - update.recall(write.k, state)).norm(dim=-1)
            _, state = update.step(write, state)
            row = write.log_beta.exp(), residual, update.size_of(state)
            rows.append(torch.stack([part.mean(1) for part in row]))
        return MemoryProbes(*torch.stack(rows, dim=2))


def _unit(vectors: Tensor) -> Tensor:
    """Scale to the length 1; zeros stay zeros, with a gradient."""
    return vectors * (vectors.square().sum(-1, keepdim=True) + 1e-12).rsqrt()
