"""Gymnasium environments over a sequence task: one episode at a time, or a native batch."""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from plastic_envs.rendering import EpisodeView
from plastic_envs.task_env import Rows, TaskEnv, TaskVectorEnv, as_task, mapped, placed
from plastic_envs.tasks.base import Episodes, Observations, SequenceTask, at


class SequenceEnv(TaskEnv):
    """A sequence task as a Gymnasium environment.

    Each `reset` draws an episode, each `step` answers the observation seen last and reveals the
    next one. The observation after the last step is zeros. The description of an environment
    (spaces, reward, scores, arguments) is that of its task.

    `step` returns in `info` what is known of the step just answered: `"target"` (float32
    [answer_size], or an integer) and `"scored"` (bool). They are for analysis: an agent must not
    see them.

    Args:
        task: A task, its class, or where that is (`"module:Class"`).
        render_mode: None, `"rgb_array"` (a picture of the episode so far) or `"ansi"` (text).
        **kwargs: The task's keyword arguments, if `task` is not made yet.

    Raises:
        TypeError: If an argument is unknown.
        ValueError: If an argument does not fit.
    """

    task: SequenceTask

    def __init__(
        self, task: SequenceTask | str, render_mode: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(as_task(task, kwargs, SequenceTask), render_mode)

    def _begin(self) -> Observations:
        self._episode = self.task.sample_episodes(1, self.np_random)
        self._answers = np.zeros_like(self._episode.targets[0])
        return self._observe(0)

    def _answer(self, step: int, answer: NDArray[Any]) -> tuple[float, dict[str, Any]]:
        self._answers[step] = answer
        target = self._episode.targets[0, step]
        scored = self._episode.scored[0, step, ...].copy()  # as an array: see `TaskEnv.step`
        reward = float(self.task.rewards(answer, target)) if scored else 0.0
        return reward, {"target": target.copy(), "scored": scored}

    def _observe(self, step: int) -> Observations:
        return _shown(self.task, self._episode, 0, step)

    def _views(self, step: int) -> list[EpisodeView]:
        return _views(self.task, self._episode, self._answers[None], np.array([step]))


class SequenceVectorEnv(TaskVectorEnv):
    """Many episodes of a sequence task, stepped together as one batch.

    Random streams and autoreset are those of `TaskVectorEnv`.

    Args:
        task: A task, its class, or where that is (`"module:Class"`).
        num_envs: Number of sub-environments, at least 1.
        render_mode: None, `"rgb_array"` or `"ansi"`; `render` returns a frame per sub-environment.
        autoreset_mode: A `gymnasium.vector.AutoresetMode`, or its value: `"NextStep"`,
            `"SameStep"` or `"Disabled"`.
        **kwargs: The task's keyword arguments, if `task` is not made yet.

    Raises:
        TypeError: If an argument is unknown.
        ValueError: If an argument does not fit.
    """

    task: SequenceTask

    def __init__(
        self,
        task: SequenceTask | str,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **kwargs: Any,
    ) -> None:
        made = as_task(task, kwargs, SequenceTask)
        super().__init__(made, num_envs, render_mode, autoreset_mode)

    def _draw(self, count: int, rng: np.random.Generator) -> Episodes:
        return self.task.sample_episodes(count, rng)

    def _begin(self, rows: Rows, drawn: Episodes) -> None:
        nothing = np.zeros_like(drawn.targets)
        if isinstance(rows, slice):
            self._episodes, self._answers = drawn, nothing
            return
        self._episodes = placed(self._episodes, drawn, rows)
        self._answers[rows] = nothing

    def _answer(
        self, rows: Rows, step: int, answers: NDArray[Any]
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        self._answers[rows, step] = answers
        targets = self._episodes.targets[rows, step]
        scored = self._episodes.scored[rows, step].copy()
        rewards = np.where(scored, self.task.rewards(answers, targets), 0.0)
        return rewards, {"target": targets.copy(), "scored": scored}

    def _observe(self, rows: Rows, step: int) -> Observations:
        return _shown(self.task, self._episodes, rows, step)

    def _views(self, steps: NDArray[np.int64]) -> list[EpisodeView]:
        return _views(self.task, self._episodes, self._answers, steps)


def _shown(task: SequenceTask, episodes: Episodes, rows: Rows | int, step: int) -> Observations:
    """Return observations of a step, the caller's own; zeros behind the last."""
    if step == task.num_steps:
        return mapped(np.zeros_like, at(episodes.observations, (rows, 0)))
    if isinstance(episodes.observations, dict):
        return mapped(np.array, at(episodes.observations, (rows, step)))
    return np.array(episodes.observations[rows, step])  # the same, without detours


def _views(
    task: SequenceTask, episodes: Episodes, answers: NDArray[Any], steps: NDArray[np.int64]
) -> list[EpisodeView]:
    return [
        EpisodeView(
            task,
            at(episodes.observations, k),
            episodes.targets[k],
            episodes.scored[k],
            answers[k],
            seen=min(step + 1, task.num_steps),
            answered=step,
        )
        for k, step in enumerate(steps.tolist())
    ]
