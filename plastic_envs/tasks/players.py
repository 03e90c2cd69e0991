"""Who plays episodes by a rule written by hand: oracles, and players to compare with."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.spaces import Observations, batch_size_of


class Player(ABC):
    """Plays episodes of one task.

    Honest players go by observations, and by their own actions and rewards. The state is for those
    who are meant to know more than an agent can.
    """

    def begin(self, state: Any) -> None:  # noqa: B027 (not everybody has to)
        """Start episodes, one for each row of the state."""

    @abstractmethod
    def act(self, observations: Observations, state: Any) -> NDArray[Any]:
        """Choose actions [B] or [B, answer_size] for observations [B, …]."""

    def learn(  # noqa: B027
        self, actions: NDArray[Any], rewards: NDArray[np.float64]
    ) -> None:
        """See what the actions brought, [B]."""


class RandomPlayer(Player):
    """Draws every action uniformly.

    Args:
        space: The actions, of one episode.
        rng: Where the draws come from.
    """

    def __init__(self, space: spaces.Box | spaces.Discrete, rng: np.random.Generator) -> None:
        self._space, self._rng = space, rng

    def act(self, observations: Observations, state: Any) -> NDArray[Any]:
        batch = batch_size_of(observations)
        if isinstance(self._space, spaces.Discrete):
            choices = self._rng.integers(self._space.n, size=batch)
            return np.asarray(choices + self._space.start)
        shape = (batch, *self._space.shape)
        return self._rng.uniform(self._space.low, self._space.high, shape).astype(np.float32)


class ConstantPlayer(Player):
    """Does the same in every step.

    Args:
        action: What it does.
    """

    def __init__(self, action: int) -> None:
        self._action = action

    def act(self, observations: Observations, state: Any) -> NDArray[np.int64]:
        return np.full(batch_size_of(observations), self._action, np.int64)


class Reciter(Player):
    """Gives the answers of a rule for whole episodes, which may look no further than each step.

    Args:
        rule: Makes answers [B, T] or [B, T, answer_size] of observations [B, T, …].
    """

    def __init__(self, rule: Callable[[Observations], NDArray[Any]]) -> None:
        self._rule = rule

    def begin(self, state: Any) -> None:
        self._answers, self._step = self._rule(state.observations), 0

    def act(self, observations: Observations, state: Any) -> NDArray[Any]:
        self._step += 1
        return self._answers[:, self._step - 1]
