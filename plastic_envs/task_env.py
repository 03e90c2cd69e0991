"""What the environments of all kinds of tasks share: the shell between a task and Gymnasium.

A kind of task (see `env` and `interactive_env`) adds how its episodes begin and go on.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from plastic_envs.checks import check_int
from plastic_envs.tasks.base import BoolArray, Observations, at

_RENDER_MODES = ["rgb_array", "ansi"]


class Task(Protocol):
    """What an environment needs of a task, of whatever kind."""

    @property
    def num_steps(self) -> int:
        """Length of an episode, in steps."""

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """Space of one observation."""

    @property
    def action_space(self) -> spaces.Box | spaces.Discrete:
        """Space of one answer."""


class TaskEnv(gym.Env[Observations, Any], ABC):
    """One episode of a task at a time: what the environments of all kinds of tasks share."""

    metadata: dict[str, Any] = {"render_modes": _RENDER_MODES, "render_fps": 4}

    def __init__(self, task: Task, render_mode: str | None) -> None:
        self.task = task
        self.render_mode = _checked_render_mode(render_mode)
        self.observation_space = task.observation_space
        self.action_space = task.action_space
        self._answers_to: spaces.Box | spaces.Discrete = task.action_space  # not for callers
        self._step: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start the next episode of the random stream (of a new stream, if `seed` is given)."""
        super().reset(seed=seed)
        self._step = 0
        return self._begin(), {}

    def step(self, action: Any) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Answer the observation seen last.

        Args:
            action: [answer_size], or an integer, by the action space.

        Raises:
            ResetNeeded: If no episode is under way.
            ValueError: If the action has another shape, or is no choice there is.
        """
        step = self._step
        if step is None or step == self.task.num_steps:
            raise ResetNeeded("no episode is under way: call reset() before step()")
        reward, info = self._answer(step, as_answer(action, self._answers_to))
        self._step = step = step + 1
        return self._observe(step), reward, step == self.task.num_steps, False, info

    def render(self) -> Any:
        """Show the episode so far, with what was answered and what was right.

        Returns:
            uint8 [height, width, 3] or a string, by `render_mode`.
        """
        if self._step is None:
            raise ResetNeeded("no episode to show: call reset() before render()")
        return _render(self.task, self._views(self._step), self.render_mode)[0]

    @abstractmethod
    def _begin(self) -> Observations:
        """Draw an episode and return its first observation."""

    @abstractmethod
    def _answer(self, step: int, answer: NDArray[Any]) -> tuple[float, dict[str, Any]]:
        """Return reward and info of the answer to a step."""

    @abstractmethod
    def _observe(self, step: int) -> Observations:
        """Return the observation of a step, or that behind the last."""

    @abstractmethod
    def _views(self, step: int) -> list[Any]:
        """Return what the task needs to show the episode up to a step, in a list of one."""


class TaskVectorEnv(VectorEnv[Observations, Any, NDArray[Any]], ABC):
    """A batch of episodes of a task: what the vector environments of all kinds of tasks share.

    One random stream serves all: after `reset(seed=s)` sub-environment i shows episode i of that
    stream, after the next reset episode `num_envs + i`, just as a single environment goes through
    it. All episodes have the same length, so all end together.

    Autoreset (as in Gymnasium): with `NEXT_STEP` the call after the last step ignores the actions
    and returns the first observations of new episodes with reward 0; with `SAME_STEP` the last step
    returns them already, and `infos["final_obs"]` and `infos["final_info"]` hold what ended.
    """

    metadata: dict[str, Any] = {
        "render_modes": _RENDER_MODES,
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        task: Task,
        num_envs: int,
        render_mode: str | None,
        autoreset_mode: AutoresetMode | str,
    ) -> None:
        check_int("num_envs", num_envs, minimum=1)
        self.task = task
        self.num_envs = num_envs
        self.render_mode = _checked_render_mode(render_mode)
        self.autoreset_mode = _as_autoreset_mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = task.observation_space
        self.single_action_space = task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._answers_to: spaces.Box | spaces.Discrete = task.action_space  # not for callers
        self._step: int | None = None

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
        self._step = 0
        return self._begin(), {}

    def step(
        self, actions: Any
    ) -> tuple[Observations, NDArray[np.float64], BoolArray, BoolArray, dict[str, Any]]:
        """Answer the observations seen last.

        Args:
            actions: [num_envs, answer_size] or [num_envs], by the action space.

        Returns:
            Observations [num_envs, …] (or a dictionary of such), rewards float64 [num_envs],
            terminated and truncated bool [num_envs], and infos of the step just answered, each
            with its mask (`"scored"` and `"_scored"`, and so on).

        Raises:
            ResetNeeded: If `reset` was never called.
            ValueError: If the actions have another shape, or one is no choice there is.
        """
        step = self._step
        if step is None:
            raise ResetNeeded("no episodes are under way: call reset() before step()")
        never = np.zeros(self.num_envs, np.bool_)
        if step == self.task.num_steps:  # NEXT_STEP: the episodes ended in the call before
            self._step = 0
            return self._begin(), np.zeros(self.num_envs), never, never.copy(), {}

        answers = as_answer(actions, self._answers_to, self.num_envs)
        rewards, infos = self._answer(step, answers)
        infos = self._masked(infos)
        self._step = step = step + 1
        observations = self._observe(step)
        if step < self.task.num_steps:
            return observations, rewards, never, never.copy(), infos
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            final = np.empty(self.num_envs, object)
            final[:] = [at(observations, k) for k in range(self.num_envs)]
            infos = self._masked({"final_obs": final, "final_info": infos})
            self._step = 0
            observations = self._begin()
        return observations, rewards, ~never, never, infos

    def render(self) -> tuple[Any, ...]:
        """Show the episode so far of every sub-environment, as a single environment does."""
        if self._step is None:
            raise ResetNeeded("no episodes to show: call reset() before render()")
        return _render(self.task, self._views(self._step), self.render_mode)

    def _masked(self, infos: dict[str, Any]) -> dict[str, Any]:
        """Return infos that hold for all sub-environments, in Gymnasium's form."""
        masks = {f"_{name}": np.ones(self.num_envs, np.bool_) for name in infos}
        return infos | masks

    @abstractmethod
    def _begin(self) -> Observations:
        """Draw episodes and return their first observations."""

    @abstractmethod
    def _answer(
        self, step: int, answers: NDArray[Any]
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Return rewards and infos of the answers to a step."""

    @abstractmethod
    def _observe(self, step: int) -> Observations:
        """Return the observations of a step, or those behind the last."""

    @abstractmethod
    def _views(self, step: int) -> list[Any]:
        """Return what the task needs to show each episode up to a step."""


def as_task(task: Any, kwargs: dict[str, Any], kind: type[Any]) -> Any:
    """Return a task that is made, or to be made, if it is of the right kind."""
    if isinstance(task, str):
        from plastic_envs.registration import load_task  # here, since it imports this package

        task = load_task(task, **kwargs)
    elif kwargs:
        raise ValueError(f"{task} is made already: {sorted(kwargs)} cannot be passed on to it")
    if not isinstance(task, kind):
        raise ValueError(f"task must be a {kind.__name__} here, got {task!r}")
    return task


def as_answer(
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


def copied(observations: Observations) -> Observations:
    """Copy observations, every array if there are several."""
    return _mapped(np.array, observations)


def zeros_like(observations: Observations) -> Observations:
    """Return zeros in the form of observations."""
    return _mapped(np.zeros_like, observations)


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


def _mapped(function: Callable[[Any], Any], observations: Observations) -> Observations:
    if isinstance(observations, dict):
        return {name: function(array) for name, array in observations.items()}
    return function(observations)


def _render(task: Any, views: list[Any], mode: str | None) -> tuple[Any, ...]:
    if mode is None:
        gym.logger.warn("render() does nothing without a render_mode: give one to gym.make()")
        return (None,) * len(views)
    draw = task.picture if mode == "rgb_array" else task.text
    return tuple(draw(view) for view in views)
