"""`Delta` and `GatedDelta`: what is already there under a key is replaced."""

from typing import ClassVar

import torch
from torch import Tensor

from agents.memories.updates.hebbian import Hebbian, kept, read
from agents.memories.updates.update import MatrixState, Write, carry, cut, transposed

_CHUNK = 64  # steps


class Delta(Hebbian):
    """Delta rule: M ← γ M + β k (v − γ Mᵀ k)ᵀ, o = Mᵀ q, with ‖k‖ = ‖q‖ = 1 and β up to 2.

    One step of gradient descent on ‖v − Mᵀ k‖² / 2 with the rate β.

    Sources: Schlag, Irie, Schmidhuber 2021 (arXiv 2102.11174); over chunks of a sequence: Yang et
    al. 2024 (arXiv 2406.06484).
    """

    largest_write: ClassVar[float] = 2.0

    def step(self, write: Write, state: MatrixState) -> tuple[Tensor, MatrixState]:
        """Write, then read: the memory's equation."""
        memory = kept(write, state.M)
        change = write.log_beta.exp().unsqueeze(-1) * (write.v - read(memory, write.k))
        memory = memory + write.k.unsqueeze(-1) * change.unsqueeze(-2)
        return read(memory, write.q), MatrixState(memory)

    def forward(
        self,
        write: Write,
        state: MatrixState | None = None,
        episode_starts: Tensor | None = None,
    ) -> tuple[Tensor, MatrixState]:
        """Write and read at every step of a sequence.

        Within a chunk, with D the decay from step to step and g that since its start, the changes
        u_i = β_i (v_i − g_i M₀ᵀ k_i − Σ_{j<i} D_ij (k_i · k_j) u_j) solve a unit-triangular system.
        It is linear in M₀, U = U₁ − W M₀, and therefore solved for all chunks before any M₀ is
        known.
        """
        c = cut(write, episode_starts, _CHUNK)
        keys = transposed(c.k)
        weights = c.k @ keys * c.decay * c.beta.unsqueeze(-1)  # diagonal: not looked at
        outlasting = transposed(c.k * c.to_end.unsqueeze(-1))
        scores = c.q @ keys * c.decay
        targets = c.beta.unsqueeze(-1) * c.v
        if state is None and c.k.shape[2] == 1:  # there is no M₀
            changes = _solve(weights, targets)
            after = (outlasting @ changes).squeeze(2)
            return c.unfold(scores @ changes, write.k.shape[2]), MatrixState(after)
        blind = (c.beta * c.from_start).unsqueeze(-1) * c.k
        solved = _solve(weights, torch.cat([targets, blind], dim=-1))
        changes, lost = torch.split(solved, [self.value_size, self.key_size], dim=-1)
        unchanged = torch.eye(self.key_size, dtype=c.k.dtype, device=c.k.device)
        matrices = c.kept[..., None, None] * unchanged - outlasting @ lost
        before, after = carry(matrices, outlasting @ changes, state and state.M)
        if before is not None:
            changes = changes - lost @ before
        reads = scores @ changes
        if before is not None:
            reads = reads + (c.q * c.from_start.unsqueeze(-1)) @ before
        return c.unfold(reads, write.k.shape[2]), MatrixState(after)


class GatedDelta(Delta):
    """Delta rule that forgets when the input says so: γ depends on the step.

    M ← γ M + β k (v − γ Mᵀ k)ᵀ, o = Mᵀ q, with γ = σ(w · z + b). Source: Yang, Kautz, Hatamizadeh
    2024 (arXiv 2412.06464), whose γ has another parametrisation.

    Args:
        key_size: Entries dk of keys and queries.
        value_size: Entries dv of values and reads.
        heads: Memories side by side.
        keep: γ of the bias b alone at the start of training, above 0 and below 1.
    """

    gated: ClassVar[bool] = True

    def __init__(self, key_size: int, value_size: int, heads: int, *, keep: float = 0.98) -> None:
        super().__init__(key_size, value_size, heads, keep=keep)
        if self.keep is None:
            raise ValueError("keep must be below 1, since the memory is gated; got 1")


def _solve(weights: Tensor, right: Tensor) -> Tensor:
    """Solve (I + strictly lower triangle of the weights) X = right."""
    solved: Tensor = torch.linalg.solve_triangular(weights, right, upper=False, unitriangular=True)
    return solved
