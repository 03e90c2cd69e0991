"""`MemoryLayer`: what lies between features and a memory."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agents.memories import naive
from agents.memories.updates import Update, Write

_LEAST_LOG_BETA = -60.0  # so that a write never is exactly nothing, which stands for an empty place


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
    """

    def __init__(self, features: int, update: Update) -> None:
        super().__init__()
        self.update = update
        heads = update.heads
        self._sizes = [heads * update.key_size] * 2 + [heads * update.value_size]
        self._sizes += [heads] * (2 if update.gated else 1)
        self.project = nn.Linear(features, sum(self._sizes))
        self._scale = math.log(update.largest_write)

    def writes(self, z: Tensor) -> Write:
        """Return what features [B, (T,) features] write into the memory."""
        heads = self.update.heads
        k, q, v, beta, *gate = (
            part.unflatten(-1, (heads, -1)).movedim(-2, 1)
            for part in self.project(z).split(self._sizes, dim=-1)
        )
        if self.update.unit_keys:
            k, q = _unit(k), _unit(q)
        log_beta = nn.functional.logsigmoid(beta.squeeze(-1)).clamp_min(_LEAST_LOG_BETA)
        if self._scale:
            log_beta = log_beta + self._scale
        log_gamma = self.update.log_gamma(gate[0].squeeze(-1) if gate else None, log_beta)
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
