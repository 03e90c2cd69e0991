"""Scores that an agent is compared with."""

from plastic_envs.tasks import Task

_EPISODES = 1_000


def reference_scores(task: Task, seed: int = 0) -> dict[str, float]:
    """Return scores by name: without memory or at random, of the task's oracle, and the bound.

    What is not known of the task is left out.

    Args:
        task: The task.
        seed: Of the 1,000 episodes that the oracle plays.
    """
    lowest = ("chance", task.chance_score)
    if task.chance_score is None:
        lowest = ("random actions", task.random_score)
    levels = {
        lowest[0]: lowest[1],
        task.oracle_name: task.oracle_measures(_EPISODES, seed).get("score"),
        "optimum": task.optimal_score,
    }
    return {name: level for name, level in levels.items() if level is not None}
