"""Gymnasium environments over a sequence task: one episode at a time, or a native batch."""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from plastic_envs.rendering import EpisodeView
from plastic_envs.task_env import TaskEnv, TaskVectorEnv, as_task, copied, zeros_like
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
        task: A task, or where its class is (`"module:Class"`).
        render_mode: None, `"rgb_array"` (a picture of the episode so far) or `"ansi"` (text).
        **kwargs: The task's keyword arguments, if `task` is a string.

    Raises:
        ValueError: If an argument is unknown or does not fit.
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
        scored = bool(self._episode.scored[0, step])
        reward = float(self.task.rewards(answer, target)) if scored else 0.0
        return reward, {"target": target.copy(), "scored": scored}

    def _observe(self, step: int) -> Observations:
        if step == self.task.num_steps:
            return zeros_like(at(self._episode.observations, (0, 0)))
        return copied(at(self._episode.observations, (0, step)))

    def _views(self, step: int) -> list[EpisodeView]:
        return _episode_views(self.task, self._episode, self._answers[None], step)


class SequenceVectorEnv(TaskVectorEnv):
    """Many episodes of a sequence task, stepped together as one batch.

    One random stream serves all: after `reset(seed=s)` sub-environment i shows episode i of that
    stream, after the next reset episode `num_envs + i`, just as `sample_episodes` and a single
    environment go through it. All episodes have the same length, so all end together.

    Autoreset (as in Gymnasium): with `NEXT_STEP` the call after the last step ignores the actions
    and returns the first observations of new episodes with reward 0; with `SAME_STEP` the last step
    returns them already, and `infos["final_obs"]` and `infos["final_info"]` hold what ended.

    Args:
        task: A task, or where its class is (`"module:Class"`).
        num_envs: Number of sub-environments, at least 1.
        render_mode: None, `"rgb_array"` or `"ansi"`; `render` returns a frame per sub-environment.
        autoreset_mode: `AutoresetMode.NEXT_STEP` or `AutoresetMode.SAME_STEP`, or their values
            `"NextStep"` and `"SameStep"`.
        **kwargs: The task's keyword arguments, if `task` is a string.

    Raises:
        ValueError: If an argument is unknown or does not fit.
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

    def _begin(self) -> Observations:
        self._episodes = self.task.sample_episodes(self.num_envs, self.np_random)
        self._answers = np.zeros_like(self._episodes.targets)
        return self._observe(0)

    def _answer(
        self, step: int, answers: NDArray[Any]
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        self._answers[:, step] = answers
        targets = self._episodes.targets[:, step]
        scored = self._episodes.scored[:, step].copy()
        rewards = np.where(scored, self.task.rewards(answers, targets), 0.0)
        return rewards, {"target": targets.copy(), "scored": scored}

    def _observe(self, step: int) -> Observations:
        if step == self.task.num_steps:
            return zeros_like(at(self._episodes.observations, (slice(None), 0)))
        return copied(at(self._episodes.observations, (slice(None), step)))

    def _views(self, step: int) -> list[EpisodeView]:
        return _episode_views(self.task, self._episodes, self._answers, step)


def _episode_views(
    task: SequenceTask, episodes: Episodes, answers: NDArray[Any], step: int
) -> list[EpisodeView]:
    seen = min(step + 1, task.num_steps)
    return [
        EpisodeView(
            task,
            at(episodes.observations, k),
            episodes.targets[k],
            episodes.scored[k],
            answers[k],
            seen=seen,
            answered=step,
        )
        for k in range(len(answers))
    ]
