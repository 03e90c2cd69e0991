"""What training minimises, and how outputs become answers: by the task's action space."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from plastic_envs.tasks import SequenceTask


class Objective(ABC):
    """A training loss for one kind of answer."""

    @abstractmethod
    def output_size(self, task: SequenceTask) -> int:
        """Return how many outputs a network needs."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss [B, T] of outputs [B, T, output_size]."""

    @abstractmethod
    def answers(self, outputs: Tensor) -> NDArray[Any]:
        """Return the answers, in the task's action space, that outputs [..., output_size] mean.

        Outputs may be on any device; answers are arrays.
        """


class SquaredError(Objective):
    """Outputs are the answers; the loss is their squared error."""

    def output_size(self, task: SequenceTask) -> int:
        """Return the entries of an answer."""
        assert isinstance(task.action_space, spaces.Box)
        return int(np.prod(task.action_space.shape))

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the entries of an answer."""
        return (outputs - targets).square().mean(dim=-1)

    def answers(self, outputs: Tensor) -> NDArray[Any]:
        """Return the outputs."""
        return outputs.detach().cpu().numpy()


class CrossEntropy(Objective):
    """Outputs are logits of the choices; the answer is the likeliest."""

    def output_size(self, task: SequenceTask) -> int:
        """Return the number of choices."""
        assert isinstance(task.action_space, spaces.Discrete)
        return int(task.action_space.n)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the negative log likelihood (nats) of the right choice."""
        return F.cross_entropy(outputs.movedim(-1, 1), targets, reduction="none")

    def answers(self, outputs: Tensor) -> NDArray[Any]:
        """Return the choice with the largest logit."""
        return outputs.argmax(dim=-1).cpu().numpy()


def objective_of(task: SequenceTask) -> Objective:
    """Return the objective that goes with a task's answers."""
    return CrossEntropy() if isinstance(task.action_space, spaces.Discrete) else SquaredError()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of values [B, T] over the steps in mask [B, T]."""
    return values.masked_fill(~mask, 0).sum() / mask.sum()
