"""What there is to show of an episode: how it began, and what was done in it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from plastic_envs.rendering.canvas import Progress
from plastic_envs.spaces import Observations, at, mapped


class Playable(Protocol):
    """What can play an episode again: a task."""

    @property
    def num_steps(self) -> int:
        """Length of an episode, in steps."""

    def observe(self, state: Any, step: int) -> Observations:
        """Return what is seen, [B, …]."""

    def step(self, state: Any, step: int, actions: NDArray[Any]) -> Any:
        """Act; the outcome has a state, rewards [B] and infos."""


@dataclass(frozen=True)
class View:
    """One episode, up to a step; it is played again to tell what happened.

    Attributes:
        task: The task that it belongs to.
        start: The state in which it began, of a batch of one.
        actions: [answered, …], what was done so far.
    """

    task: Playable
    start: Any
    actions: NDArray[Any]

    @property
    def answered(self) -> int:
        """Number of steps so far."""
        return len(self.actions)

    @property
    def seen(self) -> int:
        """Number of steps whose observation was seen."""
        return min(self.answered + 1, self.task.num_steps)

    @cached_property
    def outcomes(self) -> list[Any]:
        """What each action brought (`Outcome`)."""
        state, outcomes = self.start, []
        for step in range(self.answered):
            outcomes.append(self.task.step(state, step, self.actions[step : step + 1]))
            state = outcomes[-1].state
        return outcomes

    @property
    def rewards(self) -> NDArray[np.float64]:
        """Rewards [answered] so far."""
        return np.array([outcome.rewards[0] for outcome in self.outcomes], np.float64)

    @property
    def states(self) -> list[Any]:
        """The state before each step, and the state now."""
        return [self.start, *(outcome.state for outcome in self.outcomes)]

    @property
    def observations(self) -> Observations:
        """What was seen so far, [seen, …]."""
        states = enumerate(self.states[: self.seen])
        shown = [at(self.task.observe(state, step), 0) for step, state in states]
        return mapped(lambda *parts: np.stack(parts), *shown)

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        return Progress(type(self.task).__name__, self.task.num_steps, self.rewards)
