"""What every sequence task has in common: sampling, scoring and argument checks.

A sequence task is one whose observations do not depend on the actions. Its whole episode is drawn
at once, so one definition serves the environments (which reveal it step by step) and supervised
training (which takes it whole).
"""

import math
from abc import ABC, abstractmethod
from numbers import Integral
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Seed = int | np.random.SeedSequence | np.random.Generator | None

NORMAL_BOUND = math.sqrt(2 * 24 * math.log(2))
"""Largest magnitude that `normals` can return (5.77): its uniforms have 24 bits."""


class Episodes(NamedTuple):
    """A batch of whole episodes.

    Attributes:
        observations: float32 [B, T, observation_size].
        targets: float32 [B, T, answer_size], the right answer at each step.
        scored: bool [B, T], true where the answer counts.
    """

    observations: FloatArray
    targets: FloatArray
    scored: BoolArray


class SequenceTask(ABC):
    """A family of episodes with a fixed length, known targets and a squared-error score.

    Subclasses are frozen dataclasses: their fields are the task's keyword arguments. They say how
    many uniform numbers one episode takes (`_draws_per_episode`) and how to make episodes of them
    (`_build`). Since every episode takes the same share of the random stream, the k-th episode of
    a seed is the same whether it is drawn alone, in a batch, or by an environment.

    Attributes:
        loss_steps: Steps over which the paper (arXiv 2302.03235) averages its training loss:
            `"scored"` or `"all"`.
    """

    loss_steps: ClassVar[Literal["scored", "all"]] = "scored"

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """Length T of an episode, in steps."""

    @property
    @abstractmethod
    def observation_space(self) -> spaces.Box:
        """Space of one observation, float32 [observation_size]."""

    @property
    @abstractmethod
    def action_space(self) -> spaces.Box:
        """Space of one answer, float32 [answer_size], symmetric about zero."""

    @property
    @abstractmethod
    def observation_labels(self) -> list[str]:
        """Name of each entry of an observation, for pictures."""

    @property
    @abstractmethod
    def chance_score(self) -> float:
        """Expected score of the best player without memory (who answers 0)."""

    @property
    def optimal_score(self) -> float | None:
        """Lower bound of the expected score, or None where none is known in closed form."""
        return None

    @property
    def random_score(self) -> float:
        """Expected score of answers drawn uniformly from the action space."""
        half_width = self.action_space.high
        return self.chance_score + float(np.mean(half_width**2)) / 3

    @abstractmethod
    def oracle(self, observations: FloatArray) -> FloatArray:
        """Play well: answer each step from the observations up to it.

        Args:
            observations: [B, T, observation_size], whole episodes.

        Returns:
            Answers [B, T, answer_size].
        """

    def sample_episodes(self, num_episodes: int, seed: Seed = None) -> Episodes:
        """Draw whole episodes.

        Args:
            num_episodes: Number B of episodes, at least 1.
            seed: An integer or seed sequence to start a new random stream, a generator to go on
                with one, or None for fresh entropy. The first episode of a seed is the one that an
                environment shows after `reset(seed=seed)`.

        Returns:
            Observations, targets and scored mask; the arrays are the caller's own.

        Raises:
            ValueError: If `num_episodes` is less than 1.
        """
        check_int("num_episodes", num_episodes, minimum=1)
        rng = np.random.default_rng(seed)
        draws = rng.random((num_episodes, self._draws_per_episode), dtype=np.float32)
        return self._build(draws)

    def errors(self, answers: FloatArray, targets: FloatArray) -> NDArray[np.float64]:
        """Return the squared error of each answer, averaged over its entries.

        Args:
            answers: [..., answer_size].
            targets: [..., answer_size].

        Returns:
            float64 [...].
        """
        # Subtracting in float64 keeps the single and the batched environment equal to the bit.
        difference = np.subtract(answers, targets, dtype=np.float64)
        if difference.shape[-1] == 1:
            error = difference[..., 0]
            return np.asarray(error * error)
        return np.asarray((difference * difference).mean(axis=-1))

    def score(self, answers: FloatArray, episodes: Episodes) -> float:
        """Return the mean squared error over the scored steps (lower is better).

        Args:
            answers: [B, T, answer_size].
            episodes: The episodes that were answered.

        Raises:
            ValueError: If the answers have another shape than the targets.
        """
        if answers.shape != episodes.targets.shape:
            raise ValueError(
                f"answers must have shape {episodes.targets.shape}, got {answers.shape}"
            )
        return float(self.errors(answers, episodes.targets)[episodes.scored].mean())

    def _check_integers(self, **minimums: int) -> None:
        """Check integer arguments; narrow NumPy integers, which would overflow, become int."""
        for name, minimum in minimums.items():
            object.__setattr__(self, name, check_int(name, getattr(self, name), minimum=minimum))

    @property
    @abstractmethod
    def _draws_per_episode(self) -> int:
        """How many uniform numbers one episode takes from the random stream."""

    @abstractmethod
    def _build(self, draws: FloatArray) -> Episodes:
        """Make B episodes of uniform numbers [B, draws_per_episode] in [0, 1)."""


def split(draws: FloatArray, *widths: int) -> list[FloatArray]:
    """Cut [B, n] into columns of the given widths, and the rest."""
    parts, start = [], 0
    for width in widths:
        parts.append(draws[:, start : start + width])
        start += width
    return [*parts, draws[:, start:]]


def symmetric(uniforms: FloatArray, bound: float = 1.0) -> FloatArray:
    """Map uniforms of [0, 1) to [-bound, bound)."""
    return uniforms * np.float32(2 * bound) - np.float32(bound)


def normals(uniforms: FloatArray) -> FloatArray:
    """Make standard normal numbers of uniforms [B, 2m] (Box and Muller 1958).

    Unlike a ziggurat it takes a fixed number of draws, and its range is finite (`NORMAL_BOUND`), so
    that noisy observations stay inside a bounded space.
    """
    half = uniforms.shape[1] // 2
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - uniforms[:, :half]))
    angle = np.float32(2 * np.pi) * uniforms[:, half:]
    result = np.empty_like(uniforms)
    np.multiply(radius, np.cos(angle), out=result[:, :half])
    np.multiply(radius, np.sin(angle), out=result[:, half:])
    return result


def integers(uniforms: FloatArray, count: int) -> NDArray[np.int64]:
    """Map uniforms of [0, 1) to integers 0 … count - 1."""
    # In float32 the product could round up to `count` itself.
    return (uniforms.astype(np.float64) * count).astype(np.int64)


def even(count: int) -> int:
    """Round up to the even number of uniforms that `normals` needs for `count` numbers."""
    return count + count % 2


def box(low: list[float], high: list[float]) -> spaces.Box:
    """Make a float32 Box from its bounds."""
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32), dtype=np.float32)


def check_int(name: str, value: object, *, minimum: int) -> int:
    """Return `value` as an int; raise a ValueError if it is none, or below `minimum`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}, got {value!r}")
    return int(value)


def check_nonnegative(name: str, value: object) -> None:
    """Raise a ValueError unless `value` is a finite number of at least 0."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not (number and 0 <= float(value) < math.inf):  # type: ignore[arg-type]
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
