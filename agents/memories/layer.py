"""`MemoryLayer`: what lies between features and a memory."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from agents.memories import naive
from agents.memories.cpu import form as cpu
from agents.memories.updates import Update

FormName = Literal["auto", "compiled", "chunked"]


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
        maps = nn.Linear(features, sum(update.widths)) if project is None else project
        self.project: nn.Module = maps
        self.form: FormName = "auto"

    def step(
        self, z: Tensor, state: Any, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Take one step: features [B, features] to what is read [B, heads · dv]."""
        projected = self.project(z)
        if self._compiles(projected, state):
            starts = None if episode_starts is None else episode_starts.unsqueeze(1)
            read, state = cpu.run(self.update, projected.unsqueeze(1), state, starts)
            return read.squeeze(1), state
        if episode_starts is not None:
            state = naive.emptied(state, episode_starts)
        read, state = self.update.step(self.update.writes(projected), state)
        return read.flatten(1), state

    def forward(
        self, z: Tensor, state: Any = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Run over sequences: features [B, T, features] to what is read [B, T, heads · dv]."""
        projected = self.project(z)
        if self._compiles(projected, state):
            return cpu.run(self.update, projected, state, episode_starts)
        reads, state = self.update(self.update.writes(projected), state, episode_starts)
        return reads.transpose(1, 2).flatten(2), state

    def _compiles(self, projected: Tensor, state: Any) -> bool:
        """Say whether the compiled form is to compute this."""
        if self.form == "chunked":
            return False
        obstacle = cpu.obstacle(self.update, projected, state)
        if obstacle is not None and self.form == "compiled":
            raise ValueError(f"the compiled form cannot be used: {obstacle}")
        return obstacle is None and (self.form == "compiled" or cpu.pays(self.update, projected))

    @torch.no_grad()
    def probe(self, z: Tensor, state: Any, episode_starts: Tensor | None) -> MemoryProbes:
        """Follow the memory step by step, from the arguments of `forward`."""
        update = self.update
        writes = update.writes(self.project(z))
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
