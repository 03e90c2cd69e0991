"""`Hebbian`: values add up under their keys."""

from typing import ClassVar

from torch import Tensor

from agents.memories.updates.update import (
    MatrixState,
    Update,
    Write,
    carry,
    cut,
    frobenius,
    transposed,
)

_CHUNK = 64  # steps


class Hebbian(Update):
    """Hebbian memory, or linear attention: M ← γ M + β k vᵀ, o = Mᵀ q, with ‖k‖ = ‖q‖ = 1.

    Source: Schlag, Irie, Schmidhuber 2021 (arXiv 2102.11174), without their kernel function.
    """

    unit_keys: ClassVar[bool] = True

    def initial_state(self, batch: int, like: Tensor) -> MatrixState:
        """Return zeros."""
        return MatrixState(like.new_zeros(batch, self.heads, self.key_size, self.value_size))

    def step(self, write: Write, state: MatrixState) -> tuple[Tensor, MatrixState]:
        """Write, then read: the memory's equation."""
        memory = kept(write, state.M)
        change = write.log_beta.exp().unsqueeze(-1) * write.v
        memory = memory + write.k.unsqueeze(-1) * change.unsqueeze(-2)
        return read(memory, write.q), MatrixState(memory)

    def forward(
        self,
        write: Write,
        state: MatrixState | None = None,
        episode_starts: Tensor | None = None,
    ) -> tuple[Tensor, MatrixState]:
        """Write and read at every step of a sequence, as sums over the steps of a chunk."""
        c = cut(write, episode_starts, _CHUNK)
        changes = c.beta.unsqueeze(-1) * c.v
        added = transposed(c.k * c.to_end.unsqueeze(-1)) @ changes
        before, after = carry(c.kept[..., None, None], added, state and state.M)
        reads = (c.q @ transposed(c.k) * c.decay) @ changes
        if before is not None:
            reads = reads + (c.q * c.from_start.unsqueeze(-1)) @ before
        return c.unfold(reads, write.k.shape[2]), MatrixState(after)

    def recall(self, k: Tensor, state: MatrixState) -> Tensor:
        """Return Mᵀ k."""
        return read(state.M, k)

    def size_of(self, state: MatrixState) -> Tensor:
        """Return the Frobenius norm of M."""
        return frobenius(state.M)


def kept(write: Write, memory: Tensor) -> Tensor:
    """Return what a step [B, H] keeps of a memory [B, H, dk, d]: γ M."""
    return memory if write.log_gamma is None else write.log_gamma.exp()[..., None, None] * memory


def read(memory: Tensor, q: Tensor) -> Tensor:
    """Return Mᵀ q [B, H, dv]."""
    return (q.unsqueeze(-2) @ memory).squeeze(-2)
