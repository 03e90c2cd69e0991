"""The whole episode so far in every observation."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from plastic_envs.checks import LARGEST_BATCH, check_bytes, check_int
from plastic_envs.spaces import BoolArray, Observations, checked_mask, mapped
from plastic_envs.wrappers.shared import AnyVectorWrapper, Starts, parts_of, task_of, with_final

_LONGEST = 2**24  # observations of an episode that are remembered at most
_HISTORY, _LENGTH = "history", "length"


class History(gym.Wrapper[Observations, Any, Observations, Any], RecordConstructorArgs):
    """Show all observations of the episode so far, for agents without a state of their own.

    The observation becomes a dictionary: `"history"` [max_steps, …], the oldest first, padded with
    zeros behind the newest; and `"length"` [1], int64, the number of observations in it.
    Dictionaries keep their keys, each with the time in front, and get `"length"`. An episode that
    is longer than `max_steps` shows its newest observations.

    To show actions and rewards as well, put it around `PreviousActionReward`.

    Args:
        env: With Box or Dict observations, as `PreviousActionReward` takes them.
        max_steps: Room for so many observations. Left out, that of a whole episode and the
            observation behind it: `num_steps` of the task, or `max_episode_steps` of the spec,
            plus 1.

    Raises:
        ValueError: If the kind of the observations is another, there is an entry of the name
            `"length"`, or it cannot tell how long an episode is.

    Example:
        >>> import gymnasium as gym, plastic_envs
        >>> env = History(gym.make("PlasticCopy-v0", length=2))
        >>> env.observation_space["history"].shape
        (5, 3)
    """

    def __init__(self, env: gym.Env[Any, Any], max_steps: int | None = None) -> None:
        RecordConstructorArgs.__init__(self, max_steps=max_steps)
        gym.Wrapper.__init__(self, env)
        self._memory = _Memory(env.observation_space, 1, _max_steps(env, max_steps))
        self.observation_space = self._memory.space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode; what was before is forgotten."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._add(observation, started=True), info

    def step(self, action: Any) -> tuple[Observations, Any, bool, bool, dict[str, Any]]:
        """Take a step and add what it shows."""
        observation, reward, *ends, info = self.env.step(action)
        return self._add(observation, started=False), reward, *ends, info

    def _add(self, observation: Observations, *, started: bool) -> Observations:
        batch = mapped(lambda part: np.asarray(part)[None], observation)
        self._memory.add(batch, np.array([started]))
        return self._memory.shown(0)


class VectorHistory(AnyVectorWrapper):
    """`History` for vector environments, which see for argument and form."""

    takes_reset_mask = True  # in all autoreset modes, which `agents.sb3` makes use of

    def __init__(self, env: VectorEnv[Any, Any, Any], max_steps: int | None = None) -> None:
        super().__init__(env)
        self._starts = Starts(env)
        space = env.single_observation_space
        self._memory = _Memory(space, self.num_envs, _max_steps(env, max_steps))
        self.single_observation_space = self._memory.space
        self.observation_space = batch_space(self._memory.space, self.num_envs)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start episodes: all, or those of `options["reset_mask"]`."""
        mask = checked_mask(options, self.num_envs)
        observations, infos = self.env.reset(seed=seed, options=options)
        started = self._starts.at_reset(mask)
        self._memory.add(observations, started, where=started)
        return self._memory.shown(slice(None)), infos

    def step(self, actions: Any) -> tuple[Observations, Any, Any, Any, dict[str, Any]]:
        """Take a step everywhere."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        infos = with_final(infos, self._memory.shown_with)
        self._memory.add(observations, self._starts.at_step(terminated, truncated))
        return self._memory.shown(slice(None)), rewards, terminated, truncated, infos


class _Memory:
    """The observations of B episodes so far, each [B, max_steps, …]."""

    def __init__(self, space: spaces.Space[Any], batch: int, max_steps: int) -> None:
        parts = parts_of(space, _HISTORY)
        if _LENGTH in parts:
            raise ValueError(f"env's observations have an entry {_LENGTH!r} already")
        self._max_steps, self._is_dict = max_steps, isinstance(space, spaces.Dict)
        shape = (batch, max_steps)
        size = sum(math.prod((*shape, *s.shape)) * s.dtype.itemsize for s in parts.values())
        check_bytes("the history", size, LARGEST_BATCH, max_steps=max_steps, num_envs=batch)
        self._past = {k: np.zeros((*shape, *s.shape), s.dtype) for k, s in parts.items()}
        self._lengths = np.zeros(batch, np.int64)
        shown: dict[str, spaces.Space[Any]] = {k: self._room(s) for k, s in parts.items()}
        shown[_LENGTH] = spaces.Box(1, max_steps, (1,), np.int64)
        self.space = spaces.Dict(shown)

    def add(
        self, observations: Observations, started: BoolArray, where: BoolArray | None = None
    ) -> None:
        """Add observations [B, …], to an empty memory where an episode started.

        Args:
            observations: Of the wrapped environment.
            started: [B], whether they are the first of an episode.
            where: [B], whether to add them at all; everywhere by default.
        """
        for past in self._past.values():
            past[started] = 0
        self._lengths[started] = 0
        rows = np.arange(len(started)) if where is None else np.flatnonzero(where)
        full = rows[self._lengths[rows] == self._max_steps]
        self._lengths[full] -= 1
        for name, part in self._named(observations).items():
            past = self._past[name]
            past[full, :-1] = past[full, 1:]
            past[rows, self._lengths[rows]] = part[rows]
        self._lengths[rows] += 1

    def shown(self, index: Any) -> dict[str, NDArray[Any]]:
        """Return what is remembered, [..., max_steps, …], the caller's own."""
        shown = {name: past[index].copy() for name, past in self._past.items()}
        shown[_LENGTH] = self._lengths[..., None][index].copy()
        return shown

    def shown_with(self, row: int, last: Observations) -> dict[str, NDArray[Any]]:
        """Return what one episode remembers when one more observation is added."""
        shown = self.shown(row)
        length = int(shown[_LENGTH][0])
        full = length == self._max_steps
        for name, part in self._named(last).items():
            if full:
                shown[name][:-1] = shown[name][1:]
            shown[name][length - full] = part
        shown[_LENGTH][0] = length + 1 - full
        return shown

    def _named(self, observations: Observations) -> dict[str, Any]:
        return dict(observations) if self._is_dict else {_HISTORY: observations}

    def _room(self, space: spaces.Box) -> spaces.Box:
        """Return the space of a padded history: zeros are in it."""
        shape = (self._max_steps, *space.shape)
        low = np.broadcast_to(np.minimum(space.low, 0), shape).astype(space.dtype)
        high = np.broadcast_to(np.maximum(space.high, 0), shape).astype(space.dtype)
        return spaces.Box(low, high, dtype=space.dtype)


def _max_steps(env: Any, max_steps: int | None) -> int:
    if max_steps is not None:
        return check_int("max_steps", max_steps, minimum=1, maximum=_LONGEST)
    steps = getattr(task_of(env), "num_steps", None)
    if steps is None and env.spec is not None:
        steps = env.spec.max_episode_steps
    if steps is None:
        raise ValueError(
            "max_steps must be given: the environment does not tell its longest episode"
        )
    return int(steps) + 1
