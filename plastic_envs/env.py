"""Gymnasium environments over a task: one episode at a time, or a native batch."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from plastic_envs.rendering import EpisodeView
from plastic_envs.tasks.base import (
    BoolArray,
    Episodes,
    Observations,
    SequenceTask,
    at,
    check_int,
)

_RENDER_MODES = ["rgb_array", "ansi"]


class SequenceEnv(gym.Env[Observations, Any]):
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

    metadata: dict[str, Any] = {"render_modes": _RENDER_MODES, "render_fps": 4}

    def __init__(
        self, task: SequenceTask | str, render_mode: str | None = None, **kwargs: Any
    ) -> None:
        self.task = _as_task(task, kwargs)
        self.render_mode = _checked_render_mode(render_mode)
        self.observation_space = self.task.observation_space
        self.action_space = self.task.action_space
        self._episode: Episodes | None = None
        self._step = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start the next episode of the random stream (of a new stream, if `seed` is given)."""
        super().reset(seed=seed)
        self._episode = self.task.sample_episodes(1, self.np_random)
        self._answers = np.zeros_like(self._episode.targets[0])
        self._step = 0
        return _copied(at(self._episode.observations, (0, 0))), {}

    def step(self, action: Any) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Answer the observation seen last.

        Args:
            action: [answer_size], or an integer, by the action space.

        Raises:
            ResetNeeded: If no episode is under way.
            ValueError: If the action has another shape, or is no choice there is.
        """
        step = self._step
        if self._episode is None or step == self.task.num_steps:
            raise ResetNeeded("no episode is under way: call reset() before step()")
        answer = _as_answer(action, self.task.action_space)
        self._answers[step] = answer
        target = self._episode.targets[0, step]
        scored = bool(self._episode.scored[0, step])
        reward = float(self.task.rewards(answer, target)) if scored else 0.0

        self._step = step = step + 1
        terminated = step == self.task.num_steps
        if terminated:
            observation = _zeros_like(at(self._episode.observations, (0, 0)))
        else:
            observation = _copied(at(self._episode.observations, (0, step)))
        return observation, reward, terminated, False, {"target": target.copy(), "scored": scored}

    def render(self) -> Any:
        """Show the episode so far: inputs, targets and answers.

        Returns:
            uint8 [height, width, 3] or a string, by `render_mode`.
        """
        if self._episode is None:
            raise ResetNeeded("no episode to show: call reset() before render()")
        return _render(self.task, self._episode, self._answers[None], self._step, self.render_mode)[
            0
        ]


class SequenceVectorEnv(VectorEnv[Observations, Any, NDArray[Any]]):
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

    metadata: dict[str, Any] = {
        "render_modes": _RENDER_MODES,
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        task: SequenceTask | str,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **kwargs: Any,
    ) -> None:
        check_int("num_envs", num_envs, minimum=1)
        self.task = _as_task(task, kwargs)
        self.num_envs = num_envs
        self.render_mode = _checked_render_mode(render_mode)
        self.autoreset_mode = _as_autoreset_mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.task.observation_space
        self.single_action_space = self.task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._episodes: Episodes | None = None
        self._step = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start new episodes in all sub-environments.

        Raises:
            ValueError: If `seed` is a list, since one stream serves all sub-environments, or
                `options` asks for a partial reset, since all episodes run in step.
        """
        if isinstance(seed, list):
            raise ValueError("one random stream serves all sub-environments: give a single seed")
        if options is not None and "reset_mask" in options:
            raise ValueError("all sub-environments run in step: `reset_mask` is not supported")
        super().reset(seed=seed)
        return self._start_episodes(), {}

    def step(
        self, actions: Any
    ) -> tuple[Observations, NDArray[np.float64], BoolArray, BoolArray, dict[str, Any]]:
        """Answer the observations seen last.

        Args:
            actions: [num_envs, answer_size] or [num_envs], by the action space.

        Returns:
            Observations [num_envs, …] (or a dictionary of such), rewards float64 [num_envs],
            terminated and truncated bool [num_envs], and infos: `"target"` and `"scored"` of the
            step just answered, each with its mask (`"_target"`, `"_scored"`).

        Raises:
            ResetNeeded: If `reset` was never called.
            ValueError: If the actions have another shape, or one is no choice there is.
        """
        if self._episodes is None:
            raise ResetNeeded("no episodes are under way: call reset() before step()")
        step, last = self._step, self.task.num_steps - 1
        never = np.zeros(self.num_envs, np.bool_)
        if step > last:  # NEXT_STEP: the episodes ended in the call before
            return self._start_episodes(), np.zeros(self.num_envs), never, never.copy(), {}

        answers = _as_answer(actions, self.task.action_space, self.num_envs)
        self._answers[:, step] = answers
        targets = self._episodes.targets[:, step]
        scored = self._episodes.scored[:, step].copy()
        rewards = np.where(scored, self.task.rewards(answers, targets), 0.0)
        infos = self._masked(target=targets.copy(), scored=scored)

        self._step = step + 1
        if step < last:
            observations = _copied(at(self._episodes.observations, (slice(None), step + 1)))
            return observations, rewards, never, never.copy(), infos
        observations = _zeros_like(at(self._episodes.observations, (slice(None), 0)))
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            final = np.empty(self.num_envs, object)
            final[:] = [at(observations, k) for k in range(self.num_envs)]
            infos = self._masked(final_obs=final, final_info=infos)
            observations = self._start_episodes()
        return observations, rewards, ~never, never, infos

    def render(self) -> tuple[Any, ...]:
        """Show the episode so far of every sub-environment, each as `SequenceEnv.render` does."""
        if self._episodes is None:
            raise ResetNeeded("no episodes to show: call reset() before render()")
        return _render(self.task, self._episodes, self._answers, self._step, self.render_mode)

    def _start_episodes(self) -> Observations:
        self._episodes = self.task.sample_episodes(self.num_envs, self.np_random)
        self._answers = np.zeros_like(self._episodes.targets)
        self._step = 0
        return _copied(at(self._episodes.observations, (slice(None), 0)))

    def _masked(self, **values: Any) -> dict[str, Any]:
        """Return infos that hold for all sub-environments, in Gymnasium's form."""
        masks = {f"_{name}": np.ones(self.num_envs, np.bool_) for name in values}
        return values | masks


def _as_task(task: SequenceTask | str, kwargs: dict[str, Any]) -> SequenceTask:
    if isinstance(task, str):
        from plastic_envs.registration import load_task  # here, since it imports this package

        return load_task(task, **kwargs)
    if kwargs:
        raise ValueError(f"{task} is made already: {sorted(kwargs)} cannot be passed on to it")
    return task


def _as_autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    supported = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)
    for candidate in supported:
        if mode in (candidate, candidate.value):
            return candidate
    names = ", ".join(repr(candidate.value) for candidate in supported)
    raise ValueError(f"autoreset_mode must be one of {names}, got {mode!r}")


def _checked_render_mode(mode: str | None) -> str | None:
    if mode is not None and mode not in _RENDER_MODES:
        raise ValueError(f"render_mode must be None or one of {_RENDER_MODES}, got {mode!r}")
    return mode


def _as_answer(
    action: Any, space: spaces.Box | spaces.Discrete, num_envs: int | None = None
) -> NDArray[Any]:
    """Return an action, or a batch of actions, in the form of the targets."""
    single: tuple[int, ...] = space.shape or ()
    shape = single if num_envs is None else (num_envs, *single)
    answer = np.asarray(action)
    if answer.shape != shape:
        raise ValueError(f"the action must have shape {shape}, got {answer.shape}")
    if isinstance(space, spaces.Box):
        return answer.astype(np.float32)
    if answer.dtype.kind not in "iu" or (answer < 0).any() or (answer >= space.n).any():
        raise ValueError(f"an action must be an integer from 0 to {space.n - 1}, got {action}")
    return answer.astype(np.int64)


def _copied(observations: Observations) -> Observations:
    return _mapped(np.array, observations)


def _zeros_like(observations: Observations) -> Observations:
    return _mapped(np.zeros_like, observations)


def _mapped(function: Callable[[Any], Any], observations: Observations) -> Observations:
    if isinstance(observations, dict):
        return {name: function(array) for name, array in observations.items()}
    return function(observations)


def _render(
    task: SequenceTask, episodes: Episodes, answers: NDArray[Any], step: int, mode: str | None
) -> tuple[Any, ...]:
    if mode is None:
        gym.logger.warn("render() does nothing without a render_mode: give one to gym.make()")
        return (None,) * len(answers)
    draw = task.picture if mode == "rgb_array" else task.text
    seen = min(step + 1, task.num_steps)
    views = (
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
    )
    return tuple(draw(view) for view in views)
