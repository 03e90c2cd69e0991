"""The truth for the tests: a memory computed step by step, by its equation."""

from typing import Any

import torch
from torch import Tensor

from agents.memories.updates import Update, Write
from agents.tree import map_tree


def run(
    update: Update, write: Write, state: Any = None, episode_starts: Tensor | None = None
) -> tuple[Tensor, Any]:
    """Compute what `Update.forward` does, in a loop over time."""
    if state is None:
        state = update.initial_state(len(write.k), write.k)
    reads = []
    for t in range(write.k.shape[2]):
        if episode_starts is not None:
            state = emptied(state, episode_starts[:, t])
        read, state = update.step(at(write, t), state)
        reads.append(read)
    return torch.stack(reads, dim=2), state


def at(write: Write, t: int) -> Write:
    """Return what one step of a sequence writes."""
    return Write(*(None if part is None else part[:, :, t] for part in write))  # type: ignore[arg-type]


def emptied(state: Any, episode_starts: Tensor) -> Any:
    """Empty the memories of the samples in which an episode starts, bool [B]."""
    if episode_starts.device.type == "cpu" and not episode_starts.any():
        return state  # a copy of a long buffer takes longer than the step

    def empty(leaf: Tensor) -> Tensor:
        return leaf.masked_fill(episode_starts.view(-1, *[1] * (leaf.dim() - 1)), 0)

    return map_tree(empty, state)
