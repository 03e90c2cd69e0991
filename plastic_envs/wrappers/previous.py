"""The last action and the last reward in every observation."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from plastic_envs.checks import check_interval, shown
from plastic_envs.spaces import BoolArray, FloatArray, Observations, checked_mask
from plastic_envs.wrappers.shared import AnyVectorWrapper, Starts, parts_of, task_of, with_final

_ACTION, _REWARD = "previous_action", "previous_reward"


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


class VectorPreviousActionReward(AnyVectorWrapper):
    """`PreviousActionReward` for vector environments, which see for argument and form."""

    takes_reset_mask = True  # in all autoreset modes, which `agents.sb3` makes use of

    def __init__(
        self, env: VectorEnv[Any, Any, Any], reward_bounds: tuple[float, float] | None = None
    ) -> None:
        super().__init__(env)
        self._starts = Starts(env)
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
        infos = with_final(infos, lambda k, last: self._previous.added(last, self._past[k]))
        self._past[self._starts.at_step(terminated, truncated)] = 0
        added = self._previous.added(observations, self._past)
        return added, rewards, terminated, truncated, infos


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
        parts = parts_of(space, "observation")
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


def _appended(observations: FloatArray, past: FloatArray) -> FloatArray:
    return np.concatenate([observations, past], axis=-1, dtype=np.float32)


def _entered(observations: Observations, past: FloatArray) -> dict[str, Any]:
    parts = observations if isinstance(observations, dict) else {"observation": observations}
    return {**parts, _ACTION: past[..., :-1].copy(), _REWARD: past[..., -1:].copy()}


def _flat_actions(space: spaces.Space[Any]) -> spaces.Box:
    known = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    flat = spaces.flatten_space(space) if isinstance(space, known) else None
    if not isinstance(flat, spaces.Box):
        names = ", ".join(kind.__name__ for kind in known)
        raise ValueError(f"env's actions must be one of {names}, got {shown(space)}")
    return flat


def _bounds(env: Any, bounds: tuple[float, float] | None) -> tuple[float, float]:
    if bounds is None:
        bounds = getattr(task_of(env), "reward_bounds", (-np.inf, np.inf))
    return check_interval("reward_bounds", bounds)
