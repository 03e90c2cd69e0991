"""Many episodes of a task, stepped together as one batch."""

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from plastic_envs.checks import check_choice, check_int, check_seed, shown
from plastic_envs.env import RENDER_MODES, as_task, checked_render_mode, no_actions, rendered
from plastic_envs.rendering.view import View
from plastic_envs.spaces import (
    ALL,
    BoolArray,
    Observations,
    Rows,
    as_answer,
    at,
    checked_mask,
    placed,
    put,
)
from plastic_envs.tasks import Task

_MOST_ENVS = 2**24  # sub-environments


class TaskVectorEnv(VectorEnv[Observations, Any, NDArray[Any]]):
    """A task as a Gymnasium vector environment.

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

    metadata: dict[str, Any] = {
        "render_modes": RENDER_MODES,
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        task: Task | type[Task] | str,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **kwargs: Any,
    ) -> None:
        self.task = task = as_task(task, kwargs)
        self.num_envs = check_int("num_envs", num_envs, minimum=1, maximum=_MOST_ENVS)
        task.check_size(num_envs=self.num_envs)
        self.render_mode = checked_render_mode(render_mode)
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
        frames = []
        for k, step in enumerate(self._each_step().tolist()):
            start = at(self._first, slice(k, k + 1))
            view = View(self.task, start, self._actions[k, :step].copy())
            frames.append(rendered(self.task, view, self.render_mode))
        return tuple(frames)

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
            return self._answer(ALL, self._steps, answers)
        rewards, infos = np.zeros(self.num_envs), None
        for rows, step in self._groups(going):
            rewards[rows], part = self._answer(rows, step, answers[rows])
            infos = put(infos, part, rows, self.num_envs)
        return rewards, infos or {}

    def _groups(self, where: BoolArray | None = None) -> list[tuple[Rows, int]]:
        """Return the sub-environments (of some) that are at the same step, for every step."""
        if isinstance(self._steps, int):
            return [(ALL, self._steps)]
        steps = self._each_step()
        if where is not None:
            steps[~where] = -1
        return [(np.flatnonzero(steps == k), int(k)) for k in np.unique(steps) if k >= 0]

    def _start(self, where: BoolArray | None) -> None:
        """Begin new episodes, if anywhere."""
        if where is None:
            return
        rows: Rows = ALL
        if where.all():
            self._steps = 0
        else:
            rows = np.flatnonzero(where)
            steps = self._each_step()
            steps[rows] = 0
            self._steps = 0 if not steps.any() else steps
        drawn = self._drawn(np.flatnonzero(where))
        if isinstance(rows, slice):
            self._first = self._state = drawn
            self._actions = no_actions(self._answers_to, self.num_envs, self.task.num_steps)
            return
        unchanged = self._state is self._first  # as the drawn episodes of a sequence task are
        self._first = placed(self._first, drawn, rows)
        self._state = self._first if unchanged else placed(self._state, drawn, rows)
        self._actions[rows] = 0

    def _drawn(self, rows: NDArray[np.int64]) -> Any:
        """Draw an episode for each of some sub-environments, from the streams that are theirs."""
        own = {place: rng for place, row in enumerate(rows) if (rng := self._own[row]) is not None}
        if not own:
            return self.task.sample_states(len(rows), self.np_random)
        common = np.array([place for place in range(len(rows)) if place not in own], np.int64)
        parts = [(np.array([place]), self.task.sample_states(1, rng)) for place, rng in own.items()]
        if len(common):
            parts.append((common, self.task.sample_states(len(common), self.np_random)))
        drawn = None
        for places, part in parts:
            drawn = put(drawn, part, places, len(rows))
        return drawn

    def _observed(self) -> Observations:
        """Return what every sub-environment shows now."""
        if isinstance(self._steps, int):
            return self.task.observe(self._state, self._steps)
        observations = None
        for rows, step in self._groups():
            shown = self.task._observe_rows(self._state, rows, step)
            observations = put(observations, shown, rows, self.num_envs)
        return observations

    def _answer(
        self, rows: Rows, step: int, answers: NDArray[Any]
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Return rewards and infos of the answers to a step of the rows."""
        self._actions[rows, step] = answers
        self._state, rewards, infos = self.task._step_rows(self._state, rows, step, answers)
        return rewards, infos


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


def _as_autoreset_mode(mode: Any) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    return AutoresetMode(check_choice("autoreset_mode", mode, [m.value for m in AutoresetMode]))
