"""Scores that an agent is compared with."""

from plastic_envs.tasks import InteractiveTask, SequenceTask

_EPISODES = 1_000


def reference_scores(task: SequenceTask | InteractiveTask, seed: int = 0) -> dict[str, float]:
    """Return scores by name: without memory or at random, of the task's oracle, and the bound.

    Where a sequence task has a bound, its oracle reaches it and is left out.

    Args:
        task: The task.
        seed: Of the 1,000 episodes that the oracle plays.
    """
    known = task.chance_score
    levels = {"random actions": task.random_score} if known is None else {"chance": known}
    if isinstance(task, InteractiveTask):
        levels[task.oracle_name] = task.score(task.play(task.oracle(), _EPISODES, seed))
    elif task.optimal_score is None:
        episodes = task.sample_episodes(_EPISODES, seed)
        levels[task.oracle_name] = task.score(task.oracle(episodes.observations), episodes)
    if task.optimal_score is not None:
        levels["optimum"] = task.optimal_score
    return levels
