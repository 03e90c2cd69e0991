"""From outputs to what is reported of them: outputs → answers → rewards → measures."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from plastic_envs.tasks import SequenceTask
from train.scoring.objectives import objective_of

Measures = Mapping[str, NDArray[np.float64]]
"""Numbers [B] of episodes, by name; `"score"` is the one that counts."""


class RightAnswers(Protocol):
    """What answers are compared with: `Episodes` of a task, or a `Batch` of them."""

    @property
    def targets(self) -> Any:
        """Right answers [B, T, …]."""

    @property
    def scored(self) -> Any:
        """Where they count, bool [B, T]."""


class Scored(NamedTuple):
    """What outputs come to.

    Attributes:
        answers: [B, T, answer_size] or [B, T], in the task's action space.
        measures: Of the task.
    """

    answers: NDArray[Any]
    measures: Measures


def scored(task: SequenceTask, outputs: Tensor, right: RightAnswers) -> Scored:
    """Turn outputs [B, T, output_size] for whole episodes into answers, and measure those."""
    answers = objective_of(task).answers(outputs)
    rewards = task.rewards(answers, np.asarray(right.targets))
    return Scored(answers, task.measures(rewards, np.asarray(right.scored)))


def means(measures: Measures, prefix: str = "") -> dict[str, float]:
    """Return the mean of each measure over episodes."""
    return {f"{prefix}{name}": float(values.mean()) for name, values in measures.items()}


def summary(measures: Measures) -> dict[str, Any]:
    """Return the mean of each measure over episodes, with its half-width at 95 %."""
    record: dict[str, Any] = {}
    for name, values in measures.items():
        record[name] = float(values.mean())
        interval = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
        record["interval" if name == "score" else f"{name}_interval"] = float(interval)
    return record
