"""Gymnasium environments over an interactive task: one episode at a time, or a native batch."""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from plastic_envs.interactive_rendering import InteractiveView
from plastic_envs.task_env import Rows, TaskEnv, TaskVectorEnv, as_task, placed, rows_of
from plastic_envs.tasks.base import Observations
from plastic_envs.tasks.interactive import InteractiveTask, State


class InteractiveEnv(TaskEnv):
    """An interactive task as a Gymnasium environment.

    Each `reset` draws an episode, each `step` acts in it. The description of an environment
    (spaces, reward, scores, arguments) is that of its task. What `info` holds is told by the
    task's `step`; it is for analysis: an agent must not see it.

    Args:
        task: A task, its class, or where that is (`"module:Class"`).
        render_mode: None, `"rgb_array"` (a picture of the episode so far) or `"ansi"` (text).
        **kwargs: The task's keyword arguments, if `task` is not made yet.

    Raises:
        TypeError: If an argument is unknown.
        ValueError: If an argument does not fit.
    """

    task: InteractiveTask

    def __init__(
        self, task: InteractiveTask | str, render_mode: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(as_task(task, kwargs, InteractiveTask), render_mode)

    def _begin(self) -> Observations:
        self._start = self._state = self.task.sample_states(1, self.np_random)
        self._actions = np.zeros((1, self.task.num_steps), np.int64)
        return self._observe(0)

    def _answer(self, step: int, answer: NDArray[Any]) -> tuple[float, dict[str, Any]]:
        self._actions[0, step] = answer
        self._state, rewards, infos = self.task.step(self._state, step, self._actions[:, step])
        return float(rewards[0]), {name: _first(array) for name, array in infos.items()}

    def _observe(self, step: int) -> Observations:
        return self.task.observe(self._state, step)[0]

    def _views(self, step: int) -> list[InteractiveView]:
        return _views(self.task, self._start, self._actions, np.array([step]))


class InteractiveVectorEnv(TaskVectorEnv):
    """Many episodes of an interactive task, stepped together as one batch.

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

    task: InteractiveTask

    def __init__(
        self,
        task: InteractiveTask | str,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **kwargs: Any,
    ) -> None:
        made = as_task(task, kwargs, InteractiveTask)
        super().__init__(made, num_envs, render_mode, autoreset_mode)

    def _draw(self, count: int, rng: np.random.Generator) -> State:
        return self.task.sample_states(count, rng)

    def _begin(self, rows: Rows, drawn: State) -> None:
        if isinstance(rows, slice):
            self._first = self._state = drawn
            self._actions = np.zeros((self.num_envs, self.task.num_steps), np.int64)
            return
        self._first, self._state = (
            placed(state, drawn, rows) for state in (self._first, self._state)
        )
        self._actions[rows] = 0

    def _answer(
        self, rows: Rows, step: int, answers: NDArray[Any]
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        self._actions[rows, step] = answers
        state, rewards, infos = self.task.step(rows_of(self._state, rows), step, answers)
        self._state = placed(self._state, state, rows)
        return rewards, infos

    def _observe(self, rows: Rows, step: int) -> Observations:
        return self.task.observe(rows_of(self._state, rows), step)

    def _views(self, steps: NDArray[np.int64]) -> list[InteractiveView]:
        return _views(self.task, self._first, self._actions, steps)


def _first(array: NDArray[Any]) -> Any:
    """Return the entry of a batch of one: a bool as an array, see `TaskEnv.step`."""
    return array[0, ...].copy() if array.dtype == np.bool_ else array[0]


def _views(
    task: InteractiveTask, start: State, actions: NDArray[np.int64], steps: NDArray[np.int64]
) -> list[InteractiveView]:
    return [
        InteractiveView(task, rows_of(start, np.array([k])), actions[k, :step].copy())
        for k, step in enumerate(steps.tolist())
    ]
