"""`Mesa`: the least-squares solution of all that was written."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from agents.memories.updates.hebbian import kept
from agents.memories.updates.update import Chunks, Update, Write, carry, cut, frobenius, transposed
from plastic_envs.checks import check_number

_CHUNK = 40  # steps
_ROUNDING = 16  # of sums and products of many keys, in units of their trace's last place


class MesaState(NamedTuple):
    """State of `Mesa`: `H` [B, H, dk, dk] = Σ β k kᵀ and `G` [B, H, dk, dv] = Σ β k vᵀ."""

    H: Tensor
    G: Tensor


class Mesa(Update):
    """Online least squares: H ← γ H + β k kᵀ, G ← γ G + β k vᵀ, o = Gᵀ (H + Λ)⁻¹ q.

    Mᵀ = Gᵀ (H + Λ)⁻¹ minimises Σ β ‖v − Mᵀ k‖² + tr Mᵀ Λ M over the episode so far. With γ < 1 what
    is old counts less; Λ is not forgotten, so that the problem stays well posed however long
    nothing new is written. Recursive least squares updates P = (H + Λ)⁻¹ instead, and loses its
    symmetry and its positive sign by and by; here the sums are the state, which cannot, and every
    step solves anew, which costs as little at these sizes.

    Sources: von Oswald et al. 2023 (arXiv 2309.05858), 2025 (arXiv 2506.05233).

    Args:
        key_size: Entries dk of keys and queries.
        value_size: Entries dv of values and reads.
        heads: Memories side by side.
        keep: Share γ that each step keeps, above 0 and at most 1: the start of what is learned, per
            head; 1 stays 1, and is computed faster.
        ridge: Diagonal of Λ at the start of training, above `least_ridge`. Λ is learned.
        least_ridge: What Λ cannot fall below, at least 1e-6.
    """

    def __init__(
        self,
        key_size: int,
        value_size: int,
        heads: int,
        *,
        keep: float = 1.0,
        ridge: float = 0.1,
        least_ridge: float = 1e-3,
    ) -> None:
        super().__init__(key_size, value_size, heads, keep=keep)
        self.least_ridge = check_number("least_ridge", least_ridge, minimum=1e-6, maximum=1e6)
        ridge = check_number("ridge", ridge, above=self.least_ridge, maximum=1e6)
        start = math.log(ridge - self.least_ridge)
        self.log_ridge = nn.Parameter(torch.full((self.heads, self.key_size), start))

    @property
    def ridge(self) -> Tensor:
        """Diagonal [H, dk] of Λ."""
        return self.log_ridge.exp() + self.least_ridge

    def initial_state(self, batch: int, like: Tensor) -> MesaState:
        """Return zeros."""
        dk, dv = self.key_size, self.value_size
        shape = batch, self.heads, dk
        return MesaState(like.new_zeros(*shape, dk), like.new_zeros(*shape, dv))

    def step(self, write: Write, state: MesaState) -> tuple[Tensor, MesaState]:
        """Write, then read: the memory's equation."""
        key = write.k.unsqueeze(-1)
        written = write.log_beta.exp()[..., None, None] * key
        state = MesaState(
            kept(write, state.H) + written * transposed(key),
            kept(write, state.G) + written * write.v.unsqueeze(-2),
        )
        return self.recall(write.q, state), state

    def recall(self, k: Tensor, state: MesaState) -> Tensor:
        """Return Gᵀ (H + Λ)⁻¹ k."""
        factor = _factor(self._regularised(state.H, self.ridge))
        return (transposed(torch.cholesky_solve(k.unsqueeze(-1), factor)) @ state.G).squeeze(-2)

    def size_of(self, state: MesaState) -> Tensor:
        """Return the Frobenius norm of M = (H + Λ)⁻¹ G."""
        factor = _factor(self._regularised(state.H, self.ridge))
        return frobenius(torch.cholesky_solve(state.G, factor))

    @staticmethod
    def _regularised(matrix: Tensor, ridge: Tensor) -> Tensor:
        """Return H + Λ, where Λ is at least the rounding of H.

        Otherwise a long sum of keys that leave out a direction would not be positive there once Λ
        is smaller than the rounding of its large entries. A larger Λ stays what it is: what is read
        does not depend on how it is computed.
        """
        trace = matrix.detach().diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
        rounding = _ROUNDING * torch.finfo(trace.dtype).eps * trace
        return matrix + torch.diag_embed(torch.maximum(ridge, rounding))

    def forward(
        self,
        write: Write,
        state: MesaState | None = None,
        episode_starts: Tensor | None = None,
    ) -> tuple[Tensor, MesaState]:
        """Write and read at every step of a sequence; what is chosen depends on γ.

        Nothing is computed step by step, nor from chunk to chunk but for the sums H and G.
        """
        c = cut(write, episode_starts, _CHUNK)
        pairs = torch.cat([c.k, c.v], dim=-1)
        added = transposed(c.k * (c.beta * c.to_end).unsqueeze(-1)) @ pairs
        first = None if state is None else torch.cat(state, dim=-1)
        before, after = carry(c.kept[..., None, None], added, first)
        sizes = [self.key_size, self.value_size]
        sums = None if before is None else MesaState(*torch.split(before, sizes, dim=-1))
        reads = self._dual(c, pairs, sums) if write.log_gamma is None else self._solves(c, sums)
        final = MesaState(*torch.split(after, sizes, dim=-1))
        return c.unfold(reads, write.k.shape[2]), final

    def _dual(self, c: Chunks, pairs: Tensor, before: MesaState | None) -> Tensor:
        """Read [B, H, N, C, dv] for γ = 1, by a solve of the size of a chunk; pairs are [k, v].

        With P = (H + Λ)⁻¹ and M = P G from before the chunk, S = diag √β and K_ij = k_i · P k_j,
        step i reads Mᵀ q_i + Σ_{j ≤ i} x_ji y_j, where L Lᵀ = I + S K S, L y = S (V − K M) and
        L x_i = S (k · P q_i): the leading part of a Cholesky factor is the factor of the leading
        part, so that one factor serves every step. The eigenvalues of I + S K S are at least 1.
        """
        root = (0.5 * c.log_beta).exp().unsqueeze(-1)
        scale = self.ridge.rsqrt()[:, None, None]
        if before is None:  # P is Λ⁻¹
            pairs = pairs * nn.functional.pad(scale, (0, self.value_size), value=1.0)
            reads: Tensor = _Dual.apply(pairs * root, c.q * scale, c.decay)  # type: ignore[no-untyped-call]
            return reads
        inverse = _inverse_factor(self._regularised(before.H, self.ridge.unsqueeze(1)))
        steps, both = c.k.shape[-2], torch.cat([c.k, c.q], dim=-2)
        known = both @ transposed(inverse)
        stays = torch.cat([c.from_start, c.from_start], dim=-1).unsqueeze(-1)
        held, prior = torch.split(known @ (inverse @ before.G) * stays, steps, dim=-2)
        k, q = torch.split(torch.where(stays > 0, known, both * scale), steps, dim=-2)
        pairs = torch.cat([k, c.v - held], dim=-1)
        reads = _Dual.apply(pairs * root, q, c.decay)  # type: ignore[no-untyped-call]
        return reads + prior

    def _solves(self, c: Chunks, before: MesaState | None) -> Tensor:
        """Read [B, H, N, C, dv] by a solve [dk, dk] at every step."""
        shares = c.decay * c.beta.unsqueeze(-2)  # [B, H, N, step, step written]
        matrices = shares @ (c.k.unsqueeze(-1) * c.k.unsqueeze(-2)).flatten(-2)
        if before is not None:
            matrices = matrices + c.from_start.unsqueeze(-1) * before.H.flatten(-2).unsqueeze(-2)
        matrices = matrices.view(*matrices.shape[:-1], self.key_size, self.key_size)
        inverse = _inverse_factor(self._regularised(matrices, self.ridge[:, None, None]))
        x = (transposed(inverse @ c.q.unsqueeze(-1)) @ inverse).squeeze(-2)  # (H + Λ)⁻¹ q
        reads: Tensor = x @ transposed(c.k) * shares @ c.v
        return reads if before is None else reads + (x * c.from_start.unsqueeze(-1)) @ before.G


def _factor(matrix: Tensor) -> Tensor:
    """Return the lower Cholesky factor; of a matrix with NaN, NaN and no error."""
    factor: Tensor = torch.linalg.cholesky_ex(matrix).L
    return factor


def _inverted_factor(matrix: Tensor) -> Tensor:
    """Return the inverse W of the lower Cholesky factor of A, so that A⁻¹ = Wᵀ W."""
    unit = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    unit = transposed(unit.expand_as(matrix).contiguous())  # LAPACK's layout, on both sides
    upper = transposed(_factor(matrix))
    return transposed(torch.linalg.solve_triangular(upper, unit, upper=True, left=False))


def _factor_gradient(inverse: Tensor, grad: Tensor) -> Tensor:
    """Return Wᵀ Φ(∂W Wᵀ) W; minus its symmetric part is the derivative by A.

    Φ takes the lower triangle and half of the diagonal.
    """
    inner = (grad @ transposed(inverse)).tril_()
    inner.diagonal(dim1=-2, dim2=-1).mul_(0.5)
    return transposed(inverse) @ (inner @ inverse)


class _InverseFactor(torch.autograd.Function):
    """`_inverted_factor`, with a derivative that takes products of matrices alone."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        inverse = _inverted_factor(matrix)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        whole = _factor_gradient(inverse, grad)
        return -0.5 * (whole + transposed(whole))


def _inverse_factor(matrix: Tensor) -> Tensor:
    return _InverseFactor.apply(matrix)  # type: ignore[no-any-return,no-untyped-call]


class _Dual(torch.autograd.Function):
    """reads = (q (W k)ᵀ ∘ D) W v, where W is the inverse Cholesky factor of I + k kᵀ.

    D is 1 from a step to those of its episode that follow, itself included, and 0 elsewhere. By
    hand, since the derivative through a factor and its solves would take as long again.
    """

    @staticmethod
    def forward(ctx: Any, pairs: Tensor, q: Tensor, decay: Tensor) -> Tensor:
        size = q.shape[-1]
        k = pairs[..., :size]
        gram = (k @ transposed(k)).mul_(decay + transposed(decay.tril(-1)))
        diagonal = gram.diagonal(dim1=-2, dim2=-1)
        rounding = _ROUNDING * torch.finfo(gram.dtype).eps * diagonal.sum(-1, keepdim=True)
        # The 1 is Λ: where it is less than the rounding of large keys, there might be no factor.
        diagonal.add_(rounding.clamp(min=1))
        inverse = _inverted_factor(gram)
        solved = inverse @ pairs
        scores = (q @ transposed(solved[..., :size])).mul_(decay)
        ctx.save_for_backward(pairs, q, decay, inverse, solved, scores)
        return scores @ solved[..., size:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        pairs, q, decay, inverse, solved, scores = ctx.saved_tensors
        size = q.shape[-1]
        keys, values = solved[..., :size], solved[..., size:]
        by_scores = (grad @ transposed(values)).mul_(decay)
        by_solved = torch.cat([transposed(by_scores) @ q, transposed(scores) @ grad], dim=-1)
        by_gram = _factor_gradient(inverse, by_solved @ transposed(pairs))
        by_gram = (by_gram + transposed(by_gram)).mul_(decay + transposed(decay.tril(-1)))
        by_pairs = transposed(inverse) @ by_solved
        by_pairs[..., :size] -= by_gram @ pairs[..., :size]
        return by_pairs, by_scores @ keys, None
