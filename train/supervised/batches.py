"""Episodes as tensors: drawn as they are, or with the embeddings of images computed once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from plastic_envs.tasks import Episodes, FewShot, SequenceTask
from plastic_envs.tasks.base import Seed

Inputs = Any
"""What a network takes for a whole sequence: a tensor [B, T, …], or a dictionary of such."""


class Batch(NamedTuple):
    """Episodes as a network takes them.

    Attributes:
        inputs: [B, T, …], or a dictionary of such.
        targets: [B, T, answer_size] or [B, T].
        scored: bool [B, T].
    """

    inputs: Inputs
    targets: Tensor
    scored: Tensor


Sampler = Callable[[int, Seed], Batch]
"""Draws a number of episodes from a seed."""


def inputs_of(observations: Any) -> Inputs:
    """Return observations of an environment or a task as tensors that share their memory."""
    if isinstance(observations, dict):
        return {name: torch.from_numpy(array) for name, array in observations.items()}
    return torch.from_numpy(observations)


def batch_of(episodes: Episodes) -> Batch:
    """Return episodes as tensors that share their memory."""
    return Batch(
        inputs_of(episodes.observations),
        torch.from_numpy(episodes.targets),
        torch.from_numpy(episodes.scored),
    )


def blocks(inputs: Inputs, size: int) -> list[Inputs]:
    """Cut a batch of inputs into blocks of at most `size` episodes."""
    if not isinstance(inputs, dict):
        return list(torch.split(inputs, size))
    parts = {name: torch.split(tensor, size) for name, tensor in inputs.items()}
    names = list(parts)
    return [dict(zip(names, part, strict=True)) for part in zip(*parts.values(), strict=True)]


def share_of(batch: Batch, index: int, count: int) -> Batch:
    """Return one of `count` equal shares of a batch, whose episodes they divide without rest."""
    size = len(batch.scored) // count
    inputs, targets, scored = (blocks(part, size)[index] for part in batch)
    return Batch(inputs, targets, scored)


def whole(task: SequenceTask) -> Sampler:
    """Return a sampler of a task's own episodes."""
    return lambda num_episodes, seed: batch_of(task.sample_episodes(num_episodes, seed))


def embedded(task: FewShot, embeddings: Tensor) -> Sampler:
    """Return a sampler of the same episodes with embeddings in place of the images.

    Args:
        task: The task.
        embeddings: [N, embedding_size] of all images of its split.
    """

    def sample(num_episodes: int, seed: Seed) -> Batch:
        indices, labels, targets, scored = task.sample_indices(num_episodes, seed)
        inputs = {
            "embedding": embeddings[torch.from_numpy(indices)],
            "label": torch.from_numpy(labels),
        }
        return Batch(inputs, torch.from_numpy(targets), torch.from_numpy(scored))

    return sample
