"""What the environments of all kinds of tasks share: the shell between a task and Gymnasium.

A kind of task (see `env` and `interactive_env`) adds how its episodes begin and go on.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from plastic_envs.checks import check_choice, check_int, check_seed, shown
from plastic_envs.tasks.base import BoolArray, DrawnTask, Observations, at

_RENDER_MODES = ["rgb_array", "ansi"]

Rows = slice | NDArray[np.int64]
"""Sub-environments at the same step: all of them (a slice, which copies nothing), or some."""
_MOST_ENVS = 2**24  # sub-environments
_ALL = slice(None)
_FEW = 32


class TaskEnv(gym.Env[Observations, Any], ABC):
    """One episode of a task at a time: what the environments of all kinds of tasks share."""

    metadata: dict[str, Any] = {"render_modes": _RENDER_MODES, "render_fps": 4}

    def __init__(self, task: DrawnTask, render_mode: str | None) -> None:
        self.task = task
        self.render_mode = _checked_render_mode(render_mode)
        self.observation_space = task.observation_space
        self.action_space = task.action_space
        self._answers_to: spaces.Box | spaces.Discrete = task.action_space  # not for callers
        self._step: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start the next episode of the random stream (of a new stream, if `seed` is given).

        Raises:
            ValueError: If the seed is no integer of at least 0.
        """
        super().reset(seed=None if seed is None else check_seed("seed", seed))
        self._step = 0
        return self._begin(), {}

    def step(self, action: Any) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Answer the observation seen last.

        Args:
            action: [answer_size], or an integer, by the action space.

        Raises:
            ResetNeeded: If no episode is under way.
            ValueError: If the action has another shape, is not finite, or is no choice there is.
                Nothing has happened then.

        What is true or false in `info` is a NumPy array without axes: as such Gymnasium's vector
        environments stack it (other NumPy bools become objects), and others find its dtype.
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
    it. A list of seeds gives each sub-environment a stream of its own, in which it goes through the
    episodes of a single environment with that seed.

    All episodes have the same length, so all end together, unless some were reset without the
    others: `reset(options={"reset_mask": mask})` with mask bool [num_envs].

    Autoreset (as in Gymnasium): with `NEXT_STEP` the call after the last step ignores the actions
    and returns the first observations of new episodes with reward 0; with `SAME_STEP` the last step
    returns them already, and `infos["final_obs"]` and `infos["final_info"]` hold what ended; with
    `DISABLED` the caller resets what ended, before the next step.
    """

    metadata: dict[str, Any] = {
        "render_modes": _RENDER_MODES,
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        task: DrawnTask,
        num_envs: int,
        render_mode: str | None,
        autoreset_mode: AutoresetMode | str,
    ) -> None:
        self.num_envs = check_int("num_envs", num_envs, minimum=1, maximum=_MOST_ENVS)
        task.check_size(num_envs=self.num_envs)
        self.task = task
        self.render_mode = _checked_render_mode(render_mode)
        self.autoreset_mode = _as_autoreset_mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = task.observation_space
        self.single_action_space = task.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._answers_to: spaces.Box | spaces.Discrete = task.action_space  # not for callers
        self._own: list[np.random.Generator | None] = [None] * self.num_envs  # None: the common one
        self._begun = False
        self._steps: int | NDArray[np.int64] = 0  # a number while all are at the same

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, dict[str, Any]]:
        """Start new episodes in all sub-environments, or in those of a mask.

        Args:
            seed: An integer starts one random stream for all that start; a list gives each of them
                a stream of its own (None in it: the one that it has).
            options: `"reset_mask"`, bool [num_envs], tells which start; the others stay where they
                are.

        Raises:
            ResetNeeded: If there is a mask, and others have no episode yet.
            TypeError: If the mask is no array of bools.
            ValueError: If the mask has another shape or is false everywhere, or the seed is none.
        """
        mask = checked_mask(options, self.num_envs)
        if mask is not None and not self._begun and not mask.all():
            raise ResetNeeded("no episodes are under way: call reset() without `reset_mask` first")
        seeds = self._checked_seeds(seed)
        starting = np.ones(self.num_envs, np.bool_) if mask is None else mask
        if isinstance(seeds, list):
            for row in np.flatnonzero(starting):
                if (own := seeds[row]) is not None:
                    self._own[row] = np_random(own)[0]
        elif seeds is not None:
            super().reset(seed=seeds)
            for row in np.flatnonzero(starting):
                self._own[row] = None
        self._start(starting)
        self._begun = True
        return self._observed(), {}

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
            ResetNeeded: If `reset` was never called, or (`DISABLED`) an episode has ended.
            ValueError: If the actions have another shape, or one is not finite, or no choice there
                is. Nothing has happened then.
        """
        if not self._begun:
            raise ResetNeeded("no episodes are under way: call reset() before step()")
        over = self._ended()
        if over is not None and self.autoreset_mode is AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"the episodes of sub-environments {shown(np.flatnonzero(over).tolist())} have "
                "ended: reset them with options={'reset_mask': …} before step()"
            )
        going = None if over is None else ~over  # the others only begin (NEXT_STEP)
        rewards, infos = self._answered(actions, going)
        self._steps = self._steps + (1 if going is None else going)
        self._start(over)
        ended = self._ended()
        if ended is None:
            ended = np.zeros(self.num_envs, np.bool_)
        elif self.autoreset_mode is AutoresetMode.SAME_STEP:
            final = np.full(self.num_envs, None, object)
            observations = self._observed()
            for k in np.flatnonzero(ended):
                final[k] = at(observations, k)
            final_infos = {"final_obs": final, "final_info": _masked(infos, ended, self.num_envs)}
            infos = _masked(infos, ~ended, self.num_envs)
            infos |= _masked(final_infos, ended, self.num_envs)
            self._start(ended)
            return self._observed(), rewards, ended, np.zeros(self.num_envs, np.bool_), infos
        infos = _masked(infos, going, self.num_envs)
        return self._observed(), rewards, ended, np.zeros(self.num_envs, np.bool_), infos

    def render(self) -> tuple[Any, ...]:
        """Show the episode so far of every sub-environment, as a single environment does."""
        if not self._begun:
            raise ResetNeeded("no episodes to show: call reset() before render()")
        return _render(self.task, self._views(self._each_step()), self.render_mode)

    def _checked_seeds(self, seed: Any) -> int | list[int | None] | None:
        if seed is None:
            return None
        if not isinstance(seed, list | tuple | np.ndarray):
            return check_seed("seed", seed)
        if getattr(seed, "ndim", 1) != 1 or len(seed) != self.num_envs:
            raise ValueError(
                f"seed must be an integer, or a list of num_envs={self.num_envs} of them, "
                f"got {shown(seed)}"
            )
        return [
            None if one is None else check_seed(f"seed[{k}]", one) for k, one in enumerate(seed)
        ]

    def _each_step(self) -> NDArray[np.int64]:
        """Return the step of every sub-environment."""
        return np.zeros(self.num_envs, np.int64) + self._steps

    def _ended(self) -> BoolArray | None:
        """Return where the episode has ended, or None if nowhere."""
        if isinstance(self._steps, int):
            over = self._steps == self.task.num_steps
            return np.ones(self.num_envs, np.bool_) if over else None
        ended = np.equal(self._steps, self.task.num_steps)
        return ended if ended.any() else None

    def _answered(
        self, actions: Any, going: BoolArray | None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Return rewards and infos [num_envs, …] of the actions, where any count."""
        if going is not None and not going.any():
            return np.zeros(self.num_envs), {}
        answers = as_answer(actions, self._answers_to, self.num_envs, going)
        if isinstance(self._steps, int):
            return self._answer(_ALL, self._steps, answers)
        rewards, infos = np.zeros(self.num_envs), None
        for rows, step in self._groups(going):
            rewards[rows], part = self._answer(rows, step, answers[rows])
            infos = _put(infos, part, rows, self.num_envs)
        return rewards, infos or {}

    def _groups(self, where: BoolArray | None = None) -> list[tuple[Rows, int]]:
        """Return the sub-environments (of some) that are at the same step, for every step."""
        if isinstance(self._steps, int):
            return [(_ALL, self._steps)]
        steps = self._each_step()
        if where is not None:
            steps[~where] = -1
        return [(np.flatnonzero(steps == k), int(k)) for k in np.unique(steps) if k >= 0]

    def _start(self, where: BoolArray | None) -> None:
        """Begin new episodes, if anywhere."""
        if where is None:
            return
        rows: Rows = _ALL
        if where.all():
            self._steps = 0
        else:
            rows = np.flatnonzero(where)
            steps = self._each_step()
            steps[rows] = 0
            self._steps = 0 if not steps.any() else steps
        self._begin(rows, self._drawn(np.flatnonzero(where)))

    def _drawn(self, rows: NDArray[np.int64]) -> Any:
        """Draw an episode for each of some sub-environments, from the streams that are theirs."""
        own = {place: rng for place, row in enumerate(rows) if (rng := self._own[row]) is not None}
        if not own:
            return self._draw(len(rows), self.np_random)
        common = np.array([place for place in range(len(rows)) if place not in own], np.int64)
        parts = [(np.array([place]), self._draw(1, rng)) for place, rng in own.items()]
        if len(common):
            parts.append((common, self._draw(len(common), self.np_random)))
        drawn = None
        for places, part in parts:
            drawn = _put(drawn, part, places, len(rows))
        return drawn

    def _observed(self) -> Observations:
        """Return what every sub-environment shows now."""
        if isinstance(self._steps, int):
            return self._observe(_ALL, self._steps)
        observations = None
        for rows, step in self._groups():
            observations = _put(observations, self._observe(rows, step), rows, self.num_envs)
        return observations

    @abstractmethod
    def _draw(self, count: int, rng: np.random.Generator) -> Any:
        """Draw episodes: arrays [count, …], in (named) tuples and dictionaries."""

    @abstractmethod
    def _begin(self, rows: Rows, drawn: Any) -> None:
        """Take up episodes that were drawn, in the place of those of the rows."""

    @abstractmethod
    def _answer(
        self, rows: Rows, step: int, answers: NDArray[Any]
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Return rewards and infos of the answers to a step of the rows."""

    @abstractmethod
    def _observe(self, rows: Rows, step: int) -> Observations:
        """Return the observations of a step of the rows, or those behind the last."""

    @abstractmethod
    def _views(self, steps: NDArray[np.int64]) -> list[Any]:
        """Return what the task needs to show each episode up to its step."""


def as_task(task: Any, kwargs: dict[str, Any], kind: type[Any]) -> Any:
    """Return a task that is made, or to be made, if it is of the right kind.

    Raises:
        TypeError: If an argument is unknown.
        ValueError: If an argument does not fit, or the task is of another kind.
    """
    from plastic_envs.registration import load_task  # here, since it imports this package

    if isinstance(task, str | type):
        task = load_task(task, **kwargs)
    elif kwargs:
        raise TypeError(
            f"got an unexpected keyword argument {shown(min(kwargs))}: the task is made already, "
            f"as {shown(task)}"
        )
    if not isinstance(task, kind):
        hint = "; the kinds are 'sequence' and 'interactive'" if isinstance(task, DrawnTask) else ""
        raise ValueError(f"task must be a {kind.__name__} here, got {shown(task)}{hint}")
    task.check_size()
    return task


def as_answer(
    action: Any,
    space: spaces.Box | spaces.Discrete,
    num_envs: int | None = None,
    counting: BoolArray | None = None,
) -> NDArray[Any]:
    """Return an action, or a batch of actions, in the form of the targets.

    Args:
        action: What somebody gave to `step`.
        space: The action space of one environment.
        num_envs: How many actions there are, for a batch.
        counting: [num_envs], which are looked at; the others may be anything.

    Raises:
        ValueError: If there is another number of them, or one is not finite (as float32), or not in
            a discrete space. A box does not bound them.
    """
    single: tuple[int, ...] = space.shape or ()
    shape = single if num_envs is None else (num_envs, *single)
    try:
        answer = np.asarray(action)
    except ValueError:  # rows of different lengths
        answer = np.empty((0,), object)
    if answer.shape != shape:
        raise ValueError(f"the action must have shape {shape}, got {shown(action)}")
    first = 0 if isinstance(space, spaces.Box) else int(space.start)
    if answer.dtype.kind not in ("fiub" if isinstance(space, spaces.Box) else "iu"):
        raise _refusal(space, action)
    if counting is not None:
        answer = answer.copy()
        answer[~counting] = first
    if isinstance(space, spaces.Box):
        if answer.dtype == np.float32:
            answer = answer.copy()
        else:
            with np.errstate(over="ignore"):  # it becomes infinite
                answer = answer.astype(np.float32)
        if not _finite(answer):
            raise _refusal(space, action)
        return answer
    if np.count_nonzero((answer < first) | (answer >= first + int(space.n))):
        raise _refusal(space, action)
    return answer.astype(np.int64)


def rows_of(tree: Any, rows: Rows) -> Any:
    """Return some episodes of a batch, or the batch itself if it is all of them."""
    return tree if isinstance(rows, slice) else mapped(lambda array: array[rows], tree)


def placed(tree: Any, part: Any, rows: Rows) -> Any:
    """Return a batch with the part in the place of some episodes; the batch stays as it was."""
    if isinstance(rows, slice):
        return part
    return mapped(lambda array, new: _written(array.copy(), new, rows), tree, part)


def mapped(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply a function to the arrays in dictionaries and (named) tuples of the same form."""
    if isinstance(tree, dict):
        return {k: mapped(function, v, *(other[k] for other in others)) for k, v in tree.items()}
    if isinstance(tree, tuple):
        parts = [mapped(function, *part) for part in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return function(tree, *others)


def checked_mask(options: dict[str, Any] | None, num_envs: int) -> BoolArray | None:
    """Return the `reset_mask` of the options, or None if there is none.

    Raises:
        TypeError: If it is no array of bools.
        ValueError: If it has another shape, or is false everywhere.
    """
    if options is None or "reset_mask" not in options:
        return None
    mask = options["reset_mask"]
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        raise TypeError(f"options['reset_mask'] must be an array of bools, got {shown(mask)}")
    if mask.shape != (num_envs,):
        raise ValueError(
            f"options['reset_mask'] must have shape ({num_envs},), one entry for each "
            f"sub-environment, got {mask.shape}"
        )
    if not mask.any():
        raise ValueError("options['reset_mask'] must be true somewhere, got all False")
    return mask.copy()


def _put(whole: Any, part: Any, rows: Rows, count: int) -> Any:
    """Write a part of a batch of `count` into the whole, which is made if there is none yet."""
    if isinstance(rows, slice):
        return part
    if whole is None:
        whole = mapped(lambda new: np.zeros((count, *new.shape[1:]), new.dtype), part)
    return mapped(lambda array, new: _written(array, new, rows), whole, part)


def _written(array: NDArray[Any], new: NDArray[Any], rows: Rows) -> NDArray[Any]:
    array[rows] = new
    return array


def _masked(infos: dict[str, Any], where: BoolArray | None, count: int) -> dict[str, Any]:
    """Return infos of some sub-environments (None: of all) in Gymnasium's form."""
    if where is None or where.all():
        return infos | {f"_{name}": np.ones(count, np.bool_) for name in infos}
    masked: dict[str, Any] = {}
    for name, value in infos.items() if where.any() else ():
        if isinstance(value, np.ndarray):
            value = value.copy()
            value[~where] = None if value.dtype == object else value.dtype.type(0)
        masked[name], masked[f"_{name}"] = value, where.copy()
    return masked


def _finite(answer: NDArray[np.float32]) -> bool:
    if answer.size == 1:
        return math.isfinite(answer.item())
    if answer.size <= _FEW:  # where NumPy's reductions cost more
        return all(map(math.isfinite, answer.ravel().tolist()))
    return bool(np.count_nonzero(np.isfinite(answer)) == answer.size)


def _refusal(space: spaces.Box | spaces.Discrete, action: Any) -> ValueError:
    wanted = "finite numbers that fit into float32"
    if isinstance(space, spaces.Discrete):
        wanted = f"an integer from {space.start} to {space.start + space.n - 1}"
    return ValueError(f"an action must be {wanted}, got {shown(action)}")


def _as_autoreset_mode(mode: Any) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    return AutoresetMode(check_choice("autoreset_mode", mode, [m.value for m in AutoresetMode]))


def _checked_render_mode(mode: Any) -> str | None:
    return None if mode is None else check_choice("render_mode", mode, _RENDER_MODES)


def _render(task: Any, views: list[Any], mode: str | None) -> tuple[Any, ...]:
    if mode is None:
        gym.logger.warn("render() does nothing without a render_mode: give one to gym.make()")
        return (None,) * len(views)
    draw = task.picture if mode == "rgb_array" else task.text
    return tuple(draw(view) for view in views)
