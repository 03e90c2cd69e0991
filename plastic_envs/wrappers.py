"""Wrappers that show an agent its own past: the last action and reward, or the whole episode.

Each comes for single environments and, named `Vector…`, for vector environments in any autoreset
mode; a sub-environment of the one shows what the other shows. They wrap any environment, not only
ours.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from plastic_envs.checks import LARGEST_BATCH, check_bytes, check_int, check_interval, shown
from plastic_envs.task_env import checked_mask
from plastic_envs.tasks.base import BoolArray, Observations
from plastic_envs.tasks.draws import FloatArray

if TYPE_CHECKING:
    _VectorWrapper = VectorWrapper[Any, Any, Any, Any, NDArray[Any]]
else:
    _VectorWrapper = VectorWrapper  # in older versions of Gymnasium it takes no types

_ACTION, _REWARD = "previous_action", "previous_reward"
_LONGEST = 2**24  # observations of an episode that are remembered at most
_HISTORY, _LENGTH = "history", "length"


class PreviousActionReward(
    gym.Wrapper[Observations, Any, Observations, Any], RecordConstructorArgs
):
    """Add the last action and the last reward to every observation; zeros at the start.

    It is what recurrent agents need that learn within an episode (Duan et al., RL², arXiv
    1611.02779; Wang et al., arXiv 1611.05763).

    A vector observation gets longer: `[observation, action, reward]`, float32. A dictionary gets
    two more entries, `"previous_action"` [A] and `"previous_reward"` [1]; an observation of higher
    rank, an image, becomes the entry `"observation"` beside them. Discrete actions are one-hot, so
    that zeros mean that there was none; other actions are flattened, and those of a box clipped to
    it. An action that is not in a discrete space, or not finite, is refused.

    Args:
        env: With Box or Dict observations (`gymnasium.wrappers.FlattenObservation` makes them of
            discrete ones) and Box, Discrete, MultiDiscrete or MultiBinary actions.
        reward_bounds: Smallest and largest reward, for the observation space. Left out, they are
            those of the task if it has any, else infinite.

    Raises:
        ValueError: If it does not know the kind of the observations or the actions.

    Example:
        >>> import gymnasium as gym, plastic_envs
        >>> PreviousActionReward(gym.make("PlasticBandit-v0")).observation_space.shape
        (7,)
    """

    def __init__(
        self, env: gym.Env[Any, Any], reward_bounds: tuple[float, float] | None = None
    ) -> None:
        RecordConstructorArgs.__init__(self, reward_bounds=reward_bounds)
        gym.Wrapper.__init__(self, env)
        self._previous = _Previous(
            env.observation_space, env.action_space, _bounds(env, reward_bounds)
        )
        self.observation_space = self._previous.space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode; there is no last action and reward yet."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._previous.added(observation, self._previous.nothing(1)[0]), info

    def step(self, action: Any) -> tuple[Observations, Any, bool, bool, dict[str, Any]]:
        """Take a step; the observation tells the action and what it brought."""
        noted = self._previous.noted([action])
        observation, reward, *ends, info = self.env.step(action)
        noted[:, -1] = reward
        past = noted[0]
        return self._previous.added(observation, past), reward, *ends, info


class VectorPreviousActionReward(_VectorWrapper):
    """`PreviousActionReward` for vector environments, which see for argument and form."""

    takes_reset_mask = True  # in all autoreset modes, which `agents.sb3` makes use of

    def __init__(
        self, env: VectorEnv[Any, Any, Any], reward_bounds: tuple[float, float] | None = None
    ) -> None:
        super().__init__(env)
        self._starts = _Starts(env)
        self._previous = _Previous(
            env.single_observation_space,
            env.single_action_space,
            _bounds(env, reward_bounds),
        )
        self.single_observation_space = self._previous.space
        self.observation_space = batch_space(self._previous.space, self.num_envs)
        self._past = self._previous.nothing(self.num_envs)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start episodes: all, or those of `options["reset_mask"]`."""
        mask = checked_mask(options, self.num_envs)
        observations, infos = self.env.reset(seed=seed, options=options)
        self._past[self._starts.at_reset(mask)] = 0
        return self._previous.added(observations, self._past), infos

    def step(self, actions: Any) -> tuple[Observations, Any, Any, Any, dict[str, Any]]:
        """Take a step everywhere."""
        noted = self._previous.noted(actions, ignored=self._starts.starting)
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        noted[:, -1] = rewards
        self._past = noted
        infos = _with_final(infos, lambda k, last: self._previous.added(last, self._past[k]))
        self._past[self._starts.at_step(terminated, truncated)] = 0
        added = self._previous.added(observations, self._past)
        return added, rewards, terminated, truncated, infos


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
        batch = _mapped(lambda part: np.asarray(part)[None], observation)
        self._memory.add(batch, np.array([started]))
        return self._memory.shown(0)


class VectorHistory(_VectorWrapper):
    """`History` for vector environments, which see for argument and form."""

    takes_reset_mask = True  # in all autoreset modes, which `agents.sb3` makes use of

    def __init__(self, env: VectorEnv[Any, Any, Any], max_steps: int | None = None) -> None:
        super().__init__(env)
        self._starts = _Starts(env)
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
        infos = _with_final(infos, self._memory.shown_with)
        self._memory.add(observations, self._starts.at_step(terminated, truncated))
        return self._memory.shown(slice(None)), rewards, terminated, truncated, infos


class _Previous:
    """How actions and rewards are written into observations."""

    def __init__(
        self, space: spaces.Space[Any], actions: spaces.Space[Any], bounds: tuple[float, float]
    ) -> None:
        flat = _flat_actions(actions)
        self._actions, self._size, self._offsets = actions, flat.shape[0], None
        self._shape: tuple[int, ...] = actions.shape or ()
        if isinstance(actions, spaces.MultiBinary):
            self._first, self._last = np.zeros((2, self._size), np.int64)
            self._last += 1
        elif isinstance(actions, spaces.Discrete | spaces.MultiDiscrete):
            counts = actions.nvec if isinstance(actions, spaces.MultiDiscrete) else actions.n
            counts = np.asarray(counts, np.int64).ravel()
            self._first = np.asarray(actions.start, np.int64).ravel()
            self._last = self._first + counts - 1
            self._offsets = counts.cumsum() - counts - self._first  # to a choice's place in one-hot
        low = np.append(np.minimum(flat.low, 0), min(bounds[0], 0)).astype(np.float32)
        high = np.append(np.maximum(flat.high, 0), max(bounds[1], 0)).astype(np.float32)
        largest = np.finfo(np.float32).max  # as far as an observation can tell
        self._least, self._most = low[:-1].clip(-largest), high[:-1].clip(None, largest)
        self.space: spaces.Space[Any]
        if isinstance(space, spaces.Box) and len(space.shape) == 1:
            low = np.concatenate([space.low.astype(np.float32), low])
            self.space = spaces.Box(low, np.concatenate([space.high.astype(np.float32), high]))
            self.added = _appended
            return
        parts = _parts(space, "observation")
        if taken := {_ACTION, _REWARD} & set(parts):
            raise ValueError(f"env's observations have an entry {shown(sorted(taken)[0])} already")
        parts[_ACTION] = spaces.Box(low[:-1], high[:-1])
        parts[_REWARD] = spaces.Box(low[-1:], high[-1:])
        self.space = spaces.Dict(parts)
        self.added = _entered

    added: Callable[[Observations, FloatArray], Observations]
    """Puts together an observation [..., …] and the past [..., A + 1], to the caller's own."""

    def nothing(self, count: int) -> FloatArray:
        """Return the past [count, A + 1] of an episode that only starts."""
        return np.zeros((count, self._size + 1), np.float32)

    def noted(self, actions: Any, ignored: BoolArray | None = None) -> FloatArray:
        """Return the past [B, A + 1] that actions [B, …] make, with rewards still to be filled in.

        Args:
            actions: Of B environments.
            ignored: [B], those that the environment will not look at.

        Raises:
            ValueError: If one is not in a discrete space, not finite, or of another shape.
        """
        flat = self._flat(actions)
        counting = slice(None) if ignored is None else ~ignored
        past, rows = self.nothing(len(flat)), np.arange(len(flat))[counting]
        flat = flat[counting]
        if isinstance(self._actions, spaces.Box):
            if not np.isfinite(flat).all():
                raise self._refusal(actions)
            past[rows, :-1] = flat.clip(self._least, self._most)
            return past
        if not ((flat >= self._first) & (flat <= self._last) & (flat == np.floor(flat))).all():
            raise self._refusal(actions)
        if self._offsets is None:
            past[rows, :-1] = flat
        else:
            past[rows[:, None], self._offsets + flat.astype(np.int64)] = 1
        return past

    def _flat(self, actions: Any) -> NDArray[Any]:
        """Return actions as numbers [B, …]."""
        try:
            array = np.asarray(actions)
            flat = array.reshape(len(array), math.prod(self._shape))
        except (ValueError, TypeError) as error:
            raise self._refusal(actions) from error
        if flat.dtype.kind not in "fiub":
            raise self._refusal(actions)
        return flat.astype(np.int8) if flat.dtype == np.bool_ else flat

    def _refusal(self, actions: Any) -> ValueError:
        return ValueError(
            f"the action must be in {shown(self._actions)}, or finite if that is a Box, "
            f"got {shown(actions)}"
        )


class _Memory:
    """The observations of B episodes so far, each [B, max_steps, …]."""

    def __init__(self, space: spaces.Space[Any], batch: int, max_steps: int) -> None:
        parts = _parts(space, _HISTORY)
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


class _Starts:
    """Knows which sub-environments start an episode with the observations just returned."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode not in tuple(AutoresetMode):
            raise ValueError(
                "env.metadata['autoreset_mode'] must be a gymnasium AutoresetMode, got "
                f"{shown(mode)}"
            )
        self._mode = AutoresetMode(mode)
        self._ended = np.zeros(env.num_envs, np.bool_)

    @property
    def starting(self) -> BoolArray:
        """Which will start with the next step, whatever the action is."""
        is_next = self._mode is AutoresetMode.NEXT_STEP
        return self._ended if is_next else np.zeros_like(self._ended)

    def at_reset(self, mask: BoolArray | None) -> BoolArray:
        """Return which have started with a reset (of the mask)."""
        started = np.ones_like(self._ended) if mask is None else mask
        self._ended = self._ended & ~started
        return started

    def at_step(self, terminated: BoolArray, truncated: BoolArray) -> BoolArray:
        """Return which start with a step."""
        before, self._ended = self._ended, np.logical_or(terminated, truncated)
        if self._mode is AutoresetMode.NEXT_STEP:
            return before
        if self._mode is AutoresetMode.SAME_STEP:
            return self._ended
        return np.zeros_like(before)


def _with_final(
    infos: dict[str, Any], added: Callable[[int, Observations], Observations]
) -> dict[str, Any]:
    """Return infos whose last observations of episodes (of `SAME_STEP`) are as all others."""
    if "final_obs" not in infos:
        return infos
    final = infos["final_obs"].copy()
    for k in np.flatnonzero(infos["_final_obs"]):
        final[k] = added(int(k), final[k])
    return {**infos, "final_obs": final}


def _appended(observations: FloatArray, past: FloatArray) -> FloatArray:
    return np.concatenate([observations, past], axis=-1, dtype=np.float32)


def _entered(observations: Observations, past: FloatArray) -> dict[str, Any]:
    parts = observations if isinstance(observations, dict) else {"observation": observations}
    return {**parts, _ACTION: past[..., :-1].copy(), _REWARD: past[..., -1:].copy()}


def _parts(space: spaces.Space[Any], name: str) -> dict[str, Any]:
    """Return the entries of a Dict space, or a Box space as the only entry; all are Boxes."""
    parts: dict[str, Any] = dict(space) if isinstance(space, spaces.Dict) else {name: space}
    if not all(isinstance(part, spaces.Box) for part in parts.values()):
        raise ValueError(
            f"env's observations must be a Box, or a Dict of Boxes, got {shown(space)}; "
            "gymnasium.wrappers.FlattenObservation makes a Box of others"
        )
    return parts


def _flat_actions(space: spaces.Space[Any]) -> spaces.Box:
    known = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    flat = spaces.flatten_space(space) if isinstance(space, known) else None
    if not isinstance(flat, spaces.Box):
        names = ", ".join(kind.__name__ for kind in known)
        raise ValueError(f"env's actions must be one of {names}, got {shown(space)}")
    return flat


def _mapped(function: Callable[[Any], Any], observations: Observations) -> Observations:
    if isinstance(observations, dict):
        return {name: function(part) for name, part in observations.items()}
    return function(observations)


def _bounds(env: Any, bounds: tuple[float, float] | None) -> tuple[float, float]:
    if bounds is None:
        bounds = getattr(_task(env), "reward_bounds", (-np.inf, np.inf))
    return check_interval("reward_bounds", bounds)


def _max_steps(env: Any, max_steps: int | None) -> int:
    if max_steps is not None:
        return check_int("max_steps", max_steps, minimum=1, maximum=_LONGEST)
    steps = getattr(_task(env), "num_steps", None)
    if steps is None and env.spec is not None:
        steps = env.spec.max_episode_steps
    if steps is None:
        raise ValueError(
            "max_steps must be given: the environment does not tell its longest episode"
        )
    return int(steps) + 1


def _task(env: Any) -> Any:
    """Return the task of an environment of this package, also of one inside a `SyncVectorEnv`."""
    inner = getattr(env.unwrapped, "envs", None) or [env]
    return getattr(inner[0].unwrapped, "task", None)
