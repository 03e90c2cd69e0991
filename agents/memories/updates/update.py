"""`Update`: how a memory is written and read; and what those with a matrix memory share."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from plastic_envs.checks import check_int, check_number


class Write(NamedTuple):
    """What a step, or every step [T] of a sequence, hands to a memory.

    Attributes:
        k: Keys [B, H, (T,) dk], under which the values are written.
        q: Queries [B, H, (T,) dk], by which the memory is read after the write.
        v: Values [B, H, (T,) dv].
        log_beta: Logarithm [B, H, (T)] of the write strength β.
        log_gamma: Logarithm [B, H, (T)] of the share γ of the memory that is kept; None if all is.
    """

    k: Tensor
    q: Tensor
    v: Tensor
    log_beta: Tensor
    log_gamma: Tensor | None


class Update(nn.Module, ABC):
    """Base of the updates, each of which computes one memory in two forms.

    `step` is the literal equation, used for acting, and in a loop (`agents.memories.naive`) as the
    truth for the tests; `forward` computes whole sequences at once. (Some have a compiled form
    besides, in `agents.memories.cpu`.) A state is a named tuple of
    tensors [B, H, …] in which zeros are an empty memory.

    Args:
        key_size: Entries dk of keys and queries.
        value_size: Entries dv of values and reads.
        heads: Memories H side by side.
        keep: Share γ of the memory that each step keeps, above 0 and at most 1. It is where
            learning starts, one γ per head; 1 stays 1.

    Raises:
        ValueError: If an argument is out of range.
    """

    largest_write: ClassVar[float] = 1.0
    """Largest β: what the sigmoid of the layer is scaled by."""
    unit_keys: ClassVar[bool] = False
    """Whether keys and queries are scaled to the length 1."""
    gated: ClassVar[bool] = False
    """Whether γ depends on the input."""

    def __init__(self, key_size: int, value_size: int, heads: int, *, keep: float = 1.0) -> None:
        super().__init__()
        self.key_size = check_int("key_size", key_size, minimum=1, maximum=4096)
        self.value_size = check_int("value_size", value_size, minimum=1, maximum=4096)
        self.heads = check_int("heads", heads, minimum=1, maximum=4096)
        keep = check_number("keep", keep, above=0, maximum=1)
        logit = math.log(keep) - math.log1p(-keep) if keep < 1 else None
        shape = (self.heads,)
        self.keep = None if logit is None else nn.Parameter(torch.full(shape, logit))

    @property
    def widths(self) -> list[int]:
        """Entries of keys and queries, values, write strengths, and gates if there are any."""
        heads = self.heads
        widths = [2 * heads * self.key_size, heads * self.value_size, heads]
        return [*widths, heads] if self.gated else widths

    def writes(self, projected: Tensor) -> Write:
        """Return what projected features [B, (T,) sum of `widths`] write into the memory."""
        heads, lead = self.heads, projected.shape[:-1]
        pairs, v, *scalars = torch.split(projected, self.widths, dim=-1)
        pairs, v = pairs.view(*lead, 2 * heads, -1), v.view(*lead, heads, -1)
        if len(lead) > 1:  # heads before time
            pairs, v, *scalars = (part.transpose(1, 2) for part in (pairs, v, *scalars))
        if self.unit_keys:
            pairs = _unit(pairs)
        k, q = torch.split(pairs, heads, dim=1)
        log_beta = nn.functional.logsigmoid(scalars[0])
        if self.largest_write != 1:
            log_beta = log_beta + math.log(self.largest_write)
        log_gamma = self.log_gamma(scalars[1] if self.gated else None, log_beta)
        return Write(k, q, v, log_beta, log_gamma)

    def log_gamma(self, gate: Tensor | None, like: Tensor) -> Tensor | None:
        """Return log γ of the shape of `like` [B, H, (T)], from a gate of that shape, if gated."""
        if self.keep is None:
            return None
        bias = self.keep.view(-1, *[1] * (like.dim() - 2))
        if gate is None:
            return nn.functional.logsigmoid(bias).expand_as(like)
        return nn.functional.logsigmoid(gate + bias)

    @abstractmethod
    def initial_state(self, batch: int, like: Tensor) -> Any:
        """Return an empty memory, of the type and on the device of a tensor."""

    @abstractmethod
    def step(self, write: Write, state: Any) -> tuple[Tensor, Any]:
        """Write, then read: the memory's equation.

        Args:
            write: Of one step.
            state: Before it.

        Returns:
            What is read [B, H, dv], and the state after the step.
        """

    @abstractmethod
    def forward(
        self, write: Write, state: Any = None, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Write and read at every step of a sequence.

        Args:
            write: Of all steps.
            state: Before them; None for an empty memory.
            episode_starts: bool [B, T], true where the memory is emptied before the step.

        Returns:
            What is read [B, H, T, dv], and the state after the last step.
        """

    @abstractmethod
    def recall(self, k: Tensor, state: Any) -> Tensor:
        """Return what the memory holds [B, H, dv] under keys [B, H, dk]."""

    @abstractmethod
    def size_of(self, state: Any) -> Tensor:
        """Return the norm [B, H] of the memory."""


class MatrixState(NamedTuple):
    """State of a memory that is a matrix: `M` [B, H, dk, dv], read as M^T q."""

    M: Tensor


class Chunks(NamedTuple):
    """A sequence cut into N chunks of C steps; steps that fill up the last one write nothing.

    Attributes:
        k: Keys [B, H, N, C, dk].
        q: Queries.
        v: Values.
        beta: Write strengths [B, H, N, C].
        log_beta: Their logarithms.
        decay: Share [B, H, N, C, C], or of a shape that broadcasts, of what step j wrote that is
            still there at step i, as it is read or mattered to the write: zero for j > i, and
            where an episode starts in between.
        from_start: The same [B, H, N, C] of what was there before the chunk.
        to_end: Share of what step j wrote that outlasts the chunk.
        kept: Share [B, H, N] of what was there before the chunk that outlasts it.
    """

    k: Tensor
    q: Tensor
    v: Tensor
    beta: Tensor
    log_beta: Tensor
    decay: Tensor
    from_start: Tensor
    to_end: Tensor
    kept: Tensor

    def unfold(self, reads: Tensor, steps: int) -> Tensor:
        """Join reads [B, H, N, C, dv] to a sequence [B, H, T, dv]."""
        return reads.flatten(2, 3)[:, :, :steps]


def cut(write: Write, episode_starts: Tensor | None, longest: int) -> Chunks:
    """Cut a sequence into chunks of equal length, `longest` at most."""
    steps = write.k.shape[2]
    count = -(-steps // longest)
    length = -(-steps // count)
    fill = count * length - steps

    def fold(part: Tensor, dim: int, value: float = 0.0) -> Tensor:
        if fill:
            part = nn.functional.pad(part, (*[0, 0] * (part.dim() - 1 - dim), 0, fill), value=value)
        return part.reshape(*part.shape[:dim], count, length, *part.shape[dim + 1 :])

    k, q, v = (fold(part, 2) for part in (write.k, write.q, write.v))
    log_beta = fold(write.log_beta, 2, -math.inf)
    # [B | 1, 1, N, C]: how many episodes started in the chunk up to the step
    started = k.new_zeros(1, 1, count, length, dtype=torch.int64)
    if episode_starts is not None:
        started = fold(episode_starts.long(), 1).cumsum(-1).unsqueeze(1)
    same = torch.ones(length, length, dtype=torch.bool, device=k.device).tril()
    if episode_starts is not None:
        same = same & (started.unsqueeze(-1) == started.unsqueeze(-2))
    fresh, over = started == 0, started == started[..., -1:]
    if write.log_gamma is None:
        decay, from_start, to_end = (part.to(k.dtype) for part in (same, fresh, over))
    else:
        kept = fold(write.log_gamma, 2).cumsum(-1)  # since before the chunk
        ages = kept.unsqueeze(-1) - kept.unsqueeze(-2)
        decay = ages.masked_fill(~same, -math.inf).exp()
        from_start = kept.masked_fill(~fresh, -math.inf).exp()
        to_end = decay[..., -1, :]
    return Chunks(k, q, v, log_beta.exp(), log_beta, decay, from_start, to_end, from_start[..., -1])


def carry(kept: Tensor, added: Tensor, first: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """Carry a memory from chunk to chunk: M ← kept M + added.

    Args:
        kept: Factors [B, H, N, 1, 1], or matrices [B, H, N, dk, dk].
        added: [B, H, N, dk, dv].
        first: Memory [B, H, dk, dv] before the first chunk; None if it is empty.

    Returns:
        Memory [B, H, N, dk, dv] before each chunk, None if there is one chunk and the memory is
        empty before it; and the memory after the last chunk.
    """
    if first is None and added.shape[2] == 1:
        return None, added.squeeze(2)
    memory = torch.zeros_like(added[:, :, 0]) if first is None else first
    before, matrices = [], kept.shape[-1] > 1
    for n in range(added.shape[2]):
        before.append(memory)
        share = kept[:, :, n]
        memory = (share @ memory if matrices else share * memory) + added[:, :, n]
    return torch.stack(before, dim=2), memory


def frobenius(matrix: Tensor) -> Tensor:
    """Return the Frobenius norm of matrices."""
    norm: Tensor = torch.linalg.matrix_norm(matrix)
    return norm


def transposed(matrix: Tensor) -> Tensor:
    """Exchange the last two dimensions."""
    return matrix.transpose(-1, -2)


def _unit(vectors: Tensor) -> Tensor:
    """Scale to the length 1; zeros stay zeros, with a gradient."""
    return vectors * (vectors.square().sum(-1, keepdim=True) + 1e-12).rsqrt()
