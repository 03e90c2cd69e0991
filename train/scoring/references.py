"""What a score is compared with: the one place where it is worked out."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from plastic_envs.tasks import Task

_EPISODES = 1_000
_BLOCK = 250  # episodes at a time, which bounds the memory of images


def reference_scores(task: Task, seed: int = 0) -> dict[str, float]:
    """Return the scores of `reference_measures`."""
    return {name: found["score"] for name, found in reference_measures(task, seed).items()}


def reference_measures(
    task: Task, seed: int = 0, num_episodes: int = _EPISODES
) -> dict[str, dict[str, float]]:
    """Return measures by name: without memory or at random, of the task's oracle, and the bound.

    What is not known of the task is left out; of all but the oracle, the score alone is known.

    Args:
        task: The task.
        seed: Of the episodes that the oracle plays.
        num_episodes: How many these are, the first of that seed.
    """
    lowest, name = task.chance_score, "chance"
    if lowest is None:
        lowest, name = task.random_score, "random actions"
    found = {
        name: {} if lowest is None else {"score": lowest},
        task.oracle_name: _oracle_measures(task, seed, num_episodes),
        "optimum": {} if task.optimal_score is None else {"score": task.optimal_score},
    }
    return {name: measures for name, measures in found.items() if measures}


def over_oracle(score: float, oracle: Mapping[str, float] | None) -> float | None:
    """Return a score divided by the oracle's, if there is one that is not 0.

    Args:
        score: On some episodes.
        oracle: Measures of the oracle, on the same.
    """
    return score / oracle["score"] if oracle and oracle["score"] else None


def _oracle_measures(task: Task, seed: int, num_episodes: int) -> dict[str, float]:
    """Let the oracle play the first episodes of a seed; return its measures, means over them."""
    rng, sums = np.random.default_rng(seed), defaultdict[str, float](float)
    for start in range(0, num_episodes, _BLOCK):
        count = min(_BLOCK, num_episodes - start)
        for name, value in task.oracle_measures(count, rng).items():
            sums[name] += count * value
    return {name: total / num_episodes for name, total in sums.items()}
