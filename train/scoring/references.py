"""What a score is compared with: the one place where it is worked out."""

from plastic_envs.tasks import Task

_EPISODES = 1_000


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
        task.oracle_name: task.oracle_measures(num_episodes, seed),
        "optimum": {} if task.optimal_score is None else {"score": task.optimal_score},
    }
    return {name: measures for name, measures in found.items() if measures}
