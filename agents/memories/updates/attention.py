"""`Attention`: all that was written, weighed by how well its key matches."""

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from agents.memories.updates.update import Update, Write, frobenius, transposed
from plastic_envs.checks import check_choice, check_int, check_number

Match = Literal["dot", "distance"]

_BLOCK = 128  # queries at a time
_LEAST = -60.0  # log β, so that a write is never exactly nothing, which stands for an empty place


class AttentionState(NamedTuple):
    """State of `Attention`: the last `context` writes, the newest last; zeros where none was.

    Attributes:
        keys: [B, H, context, dk].
        values: [B, H, context, dv].
        beta: Write strengths [B, H, context], 0 where nothing is.
    """

    keys: Tensor
    values: Tensor
    beta: Tensor


class Attention(Update):
    """Softmax attention over the episode: o = Σ_j v_j β_j e^{s_j} / Σ_j β_j e^{s_j}.

    s_j = κ q · k_j, or −κ ‖q − k_j‖²; β is a weight and not a scale of the value. κ is learned, per
    head. The oldest of more than `context` writes is lost.

    Sources: Vaswani et al. 2017 (arXiv 1706.03762); as a memory: Ramsauer et al. 2020 (arXiv
    2008.02217).

    Args:
        key_size: Entries dk of keys and queries.
        value_size: Entries dv of values and reads.
        heads: Memories side by side.
        context: Writes that are remembered.
        match: By `"dot"` product or by `"distance"`.
        kappa: κ at the start of training, above 0.
    """

    def __init__(
        self,
        key_size: int,
        value_size: int,
        heads: int,
        *,
        context: int = 128,
        match: Match = "distance",
        kappa: float = 4.0,
    ) -> None:
        super().__init__(key_size, value_size, heads)
        self.context = check_int("context", context, minimum=1, maximum=2**20)
        self.match = check_choice("match", match, get_args(Match))
        start = math.log(check_number("kappa", kappa, above=0, maximum=1e6))
        self.log_kappa = nn.Parameter(torch.full((self.heads,), start))

    def initial_state(self, batch: int, like: Tensor) -> AttentionState:
        """Return zeros."""
        shape = batch, self.heads, self.context
        sizes = (self.key_size,), (self.value_size,), ()
        return AttentionState(*(like.new_zeros(*shape, *size) for size in sizes))

    def step(self, write: Write, state: AttentionState) -> tuple[Tensor, AttentionState]:
        """Write, then read: the memory's equation."""
        new = (
            write.k.unsqueeze(-2),
            write.v.unsqueeze(-2),
            write.log_beta.clamp_min(_LEAST).exp().unsqueeze(-1),
        )
        state = AttentionState(
            *(torch.cat([old[:, :, 1:], part], 2) for old, part in zip(state, new, strict=True))
        )
        return self._read(write.q, state), state

    def recall(self, k: Tensor, state: AttentionState) -> Tensor:
        """Return what `step` would read; zeros where nothing was written."""
        empty = (state.beta == 0).all(-1, keepdim=True)
        return self._read(k, state).masked_fill(empty, 0)

    def _read(self, q: Tensor, state: AttentionState) -> Tensor:
        scores = self._scores(q.unsqueeze(-2), state.keys, _log(state.beta))
        return (scores.softmax(-1) @ state.values).squeeze(-2)

    def size_of(self, state: AttentionState) -> Tensor:
        """Return the Frobenius norm of the values, each scaled by its write strength."""
        return frobenius(state.values * state.beta.unsqueeze(-1))

    def forward(
        self,
        write: Write,
        state: AttentionState | None = None,
        episode_starts: Tensor | None = None,
    ) -> tuple[Tensor, AttentionState]:
        """Write and read at every step of a sequence, by masked products of blocks of it."""
        steps = write.k.shape[2]
        if state is None and steps > self.context:
            state = self.initial_state(len(write.k), write.k)
        before = 0 if state is None else self.context
        keys, values, log_beta = write.k, write.v, write.log_beta.clamp_min(_LEAST)
        if state is not None:
            keys = torch.cat([state.keys, keys], dim=2)
            values = torch.cat([state.values, values], dim=2)
            log_beta = torch.cat([_log(state.beta), log_beta], dim=2)
        # [B | 1, 1, before + T]: how many episodes started up to the write
        episode = keys.new_zeros(1, 1, before + steps, dtype=torch.int64)
        if episode_starts is not None:
            episode = nn.functional.pad(episode_starts.cumsum(1), (before, 0)).unsqueeze(1)
        place = torch.arange(before + steps, device=keys.device)
        reads = []
        for start in range(0, steps, _BLOCK):
            stop = min(start + _BLOCK, steps)
            asked = slice(before + start, before + stop)
            held = slice(max(before + start - self.context + 1, 0), before + stop)
            age = place[asked].unsqueeze(-1) - place[held]
            seen = (age >= 0) & (age < self.context)
            if episode_starts is not None:
                seen = seen & (
                    episode[..., asked].unsqueeze(-1) == episode[..., held].unsqueeze(-2)
                )
            queries = write.q[:, :, start:stop]
            scores = self._scores(queries, keys[:, :, held], log_beta[:, :, held])
            scores = scores.masked_fill(~seen, -math.inf)
            reads.append(scores.softmax(-1) @ values[:, :, held])
        ends = [
            part[:, :, -self.context :] for part in (keys, values, log_beta.exp().unsqueeze(-1))
        ]
        if episode_starts is not None:
            past = (episode[..., -self.context :] != episode[..., -1:]).unsqueeze(-1)
            ends = [part.masked_fill(past, 0) for part in ends]
        if (missing := self.context - ends[0].shape[2]) > 0:
            ends = [nn.functional.pad(part, (0, 0, missing, 0)) for part in ends]
        keys, values, beta = ends
        return torch.cat(reads, dim=2), AttentionState(keys, values, beta.squeeze(-1))

    def _scores(self, q: Tensor, keys: Tensor, log_beta: Tensor) -> Tensor:
        """Return scores [B, H, T, writes], up to what all writes have in common.

        They are κ q · k + log β, or 2 κ q · k − κ ‖k‖² + log β.
        """
        kappa = self.log_kappa.exp().view(-1, 1)
        if self.match == "distance":
            log_beta = log_beta - kappa * torch.linalg.vecdot(keys, keys)
            kappa = 2 * kappa
        return (kappa.unsqueeze(-1) * q) @ transposed(keys) + log_beta.unsqueeze(-2)


def _log(beta: Tensor) -> Tensor:
    """Return the logarithm, minus infinity without a gradient where nothing was written."""
    if not beta.requires_grad:
        return beta.log()
    empty = beta <= 0
    return beta.masked_fill(empty, 1).log().masked_fill(empty, -math.inf)
