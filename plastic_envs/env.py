"""One episode of a task at a time, as a Gymnasium environment."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from plastic_envs.checks import check_choice, check_seed, shown
from plastic_envs.registration import load_task
from plastic_envs.rendering.view import View
from plastic_envs.spaces import Observations, as_answer
from plastic_envs.tasks import Task

RENDER_MODES = ["rgb_array", "ansi"]


class TaskEnv(gym.Env[Observations, Any]):
    """A task as a Gymnasium environment.

    Each `reset` draws an episode, each `step` answers the observation seen last and shows the next
    one. The description of an environment (spaces, reward, scores, arguments) is that of its task.

    `step` returns in `info` what the task's `step` tells of the step just answered: `"scored"`
    (bool), whether it counts, and more, such as the `"target"` of a sequence task. It is for
    analysis: an agent must not see it. What is true or false in it is a NumPy array without axes:
    as such Gymnasium's vector environments stack it (other NumPy bools become objects), and others
    find its dtype.

    Args:
        task: A task, its class, or where that is (`"module:Class"`).
        render_mode: None, `"rgb_array"` (a picture of the episode so far) or `"ansi"` (text).
        **kwargs: The task's keyword arguments, if `task` is not made yet.

    Raises:
        TypeError: If an argument is unknown.
        ValueError: If an argument does not fit.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 4}

    def __init__(
        self, task: Task | type[Task] | str, render_mode: str | None = None, **kwargs: Any
    ) -> None:
        self.task = as_task(task, kwargs)
        self.render_mode = checked_render_mode(render_mode)
        self.observation_space = self.task.observation_space
        self.action_space = self.task.action_space
        self._answers_to: spaces.Box | spaces.Discrete = self.task.action_space  # not for callers
        self._num_steps = self.task.num_steps
        self._step: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start the next episode of the random stream (of a new stream, if `seed` is given).

        Raises:
            ValueError: If the seed is no integer of at least 0.
        """
        super().reset(seed=None if seed is None else check_seed("seed", seed))
        self._start = self._state = self.task.sample_states(1, self.np_random)
        self._actions = no_actions(self._answers_to, 1, self._num_steps)
        self._step = 0
        return self.task._observe_rows(self._state, 0, 0), {}

    def step(self, action: Any) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Answer the observation seen last.

        Args:
            action: [answer_size], or an integer, by the action space.

        Raises:
            ResetNeeded: If no episode is under way.
            ValueError: If the action has another shape, is not finite, or is no choice there is.
                Nothing has happened then.
        """
        step = self._step
        if step is None or step == self._num_steps:
            raise ResetNeeded("no episode is under way: call reset() before step()")
        self._actions[0, step] = answer = as_answer(action, self._answers_to)
        self._state, reward, info = self.task._step_rows(self._state, 0, step, answer)
        self._step = step = step + 1
        shown = self.task._observe_rows(self._state, 0, step)
        return shown, float(reward), step == self._num_steps, False, info

    def render(self) -> Any:
        """Show the episode so far, with what was answered and what was right.

        Returns:
            uint8 [height, width, 3] or a string, by `render_mode`.
        """
        if self._step is None:
            raise ResetNeeded("no episode to show: call reset() before render()")
        view = View(self.task, self._start, self._actions[0, : self._step].copy())
        return rendered(self.task, view, self.render_mode)


def as_task(task: Any, kwargs: dict[str, Any]) -> Task:
    """Return a task that is made, or to be made.

    Raises:
        TypeError: If an argument is unknown.
        ValueError: If an argument does not fit, or there is no task.
    """
    if isinstance(task, str | type):
        return load_task(task, **kwargs)
    if kwargs:
        raise TypeError(
            f"got an unexpected keyword argument {shown(min(kwargs))}: the task is made already, "
            f"as {shown(task)}"
        )
    if not isinstance(task, Task):
        raise ValueError(f"task must be a Task, its class, or 'module:Class', got {shown(task)}")
    task.check_size()
    return task


def no_actions(
    space: spaces.Box | spaces.Discrete, num_episodes: int, num_steps: int
) -> NDArray[Any]:
    """Return room for the answers of whole episodes, [B, T] or [B, T, answer_size]."""
    if isinstance(space, spaces.Discrete):
        return np.zeros((num_episodes, num_steps), np.int64)
    return np.zeros((num_episodes, num_steps, *space.shape), np.float32)


def checked_render_mode(mode: Any) -> str | None:
    """Return a render mode, if there is such a one."""
    return None if mode is None else check_choice("render_mode", mode, RENDER_MODES)


def rendered(task: Task, view: View, mode: str | None) -> Any:
    """Show an episode."""
    if mode is None:
        gym.logger.warn("render() does nothing without a render_mode: give one to gym.make()")
        return None
    return task.picture(view) if mode == "rgb_array" else task.text(view)
