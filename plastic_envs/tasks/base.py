"""What every sequence task has in common: sampling, scoring and argument checks.

A sequence task is one whose observations do not depend on the actions. Its whole episode is drawn
at once, so one definition serves the environments (which reveal it step by step) and supervised
training (which takes it whole).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.checks import (
    LARGEST_BATCH,
    LARGEST_EPISODE,
    check_bytes,
    check_choice,
    check_int,
    check_number,
    check_seed,
)
from plastic_envs.tasks.draws import FloatArray

if TYPE_CHECKING:
    from plastic_envs.rendering import EpisodeView

_LARGEST_NUMBER = 1e6  # nothing else of an episode could be told beside a larger one

BoolArray = NDArray[np.bool_]
Seed = int | np.random.SeedSequence | np.random.Generator | None

Observations = Any
"""An array, or a dictionary of arrays, by the task's observation space."""


class Episodes(NamedTuple):
    """A batch of whole episodes.

    Attributes:
        observations: [B, T, …], or a dictionary of such, in the task's observation space.
        targets: The right answer at each step, in its action space: float32 [B, T, answer_size]
            for a `Box`, int64 [B, T] for a `Discrete` one.
        scored: bool [B, T], true where the answer counts.
    """

    observations: Observations
    targets: NDArray[Any]
    scored: BoolArray


def at(observations: Observations, index: Any) -> Observations:
    """Index observations, in every array if there are several; the result may be a view."""
    if isinstance(observations, dict):
        return {name: array[index] for name, array in observations.items()}
    return observations[index]


class DrawnTask(ABC):
    """A task whose episodes are each made of the same number of uniform draws.

    That is what makes an episode of a seed the same in a single environment, in a batch of any
    size, and outside of environments.
    """

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """Length T of an episode, in steps."""

    @property
    @abstractmethod
    def observation_space(self) -> spaces.Space[Any]:
        """Space of one observation."""

    @property
    @abstractmethod
    def action_space(self) -> spaces.Box | spaces.Discrete:
        """Space of one answer."""

    def check_size(self, **counts: int) -> None:
        """Check that an episode, or so many of them at once, are not too large to be made.

        An episode may take 1 GiB, and what is drawn at once 16 GiB: its uniform draws, and the
        observations and answers of all its steps.

        Args:
            **counts: Name and value of the argument that tells how many; an episode, if left out.

        Raises:
            ValueError: If they are; it names the task's sizes, or the argument.
        """
        size = self._episode_bytes
        for name, count in counts.items():
            check_bytes("what it makes", count * size, LARGEST_BATCH, **{name: count})

    @cached_property
    def _episode_bytes(self) -> int:
        names = getattr(self, "__dataclass_fields__", ())
        fields = {name: getattr(self, name) for name in names}
        sizes = {name: value for name, value in fields.items() if type(value) is int}
        size = 4 * self._draws_per_episode
        check_bytes("an episode", size, LARGEST_EPISODE, **sizes)  # spaces can be as large as that
        size += self.num_steps * (_bytes_of(self.observation_space) + _bytes_of(self.action_space))
        check_bytes("an episode", size, LARGEST_EPISODE, **sizes)
        return size

    def _draw(self, num_episodes: int, seed: Seed) -> FloatArray:
        """Return the uniforms [B, draws_per_episode] that B episodes are made of."""
        num_episodes = check_int("num_episodes", num_episodes, minimum=1)
        self.check_size(num_episodes=num_episodes)
        if not isinstance(seed, np.random.Generator | np.random.SeedSequence | None):
            seed = check_seed("seed", seed)
        rng = np.random.default_rng(seed)
        return rng.random((num_episodes, self._draws_per_episode), dtype=np.float32)

    def _check_integers(self, **minimums: int) -> None:
        """Check integer arguments; NumPy integers, which could overflow, become int."""
        for name, minimum in minimums.items():
            object.__setattr__(self, name, check_int(name, getattr(self, name), minimum=minimum))

    def _check_numbers(self, **minimums: float) -> None:
        """Check real arguments, at most a million; they become float."""
        for name, minimum in minimums.items():
            value = check_number(
                name, getattr(self, name), minimum=minimum, maximum=_LARGEST_NUMBER
            )
            object.__setattr__(self, name, value)

    def _check_choices(self, **choices: Iterable[str]) -> None:
        """Check arguments that name one of some choices; NumPy strings and enums become str."""
        for name, known in choices.items():
            value = getattr(self, name)
            plain = str.__str__(value) if isinstance(value, str) else value
            object.__setattr__(self, name, check_choice(name, plain, known))

    @property
    @abstractmethod
    def _draws_per_episode(self) -> int:
        """How many uniform numbers one episode takes from the random stream."""


class SequenceTask(DrawnTask):
    """A family of episodes with a fixed length and known targets.

    Subclasses are frozen dataclasses: their fields are the task's keyword arguments. They say how
    many uniform numbers one episode takes (`_draws_per_episode`) and how to make episodes of them
    (`_build`). Since every episode takes the same share of the random stream, the k-th episode of
    a seed is the same whether it is drawn alone, in a batch, or by an environment.

    Attributes:
        loss_steps: Steps over which the paper (arXiv 2302.03235) averages its training loss:
            `"scored"` or `"all"`.
        score_name: What the score is, for figures.
        higher_is_better: Whether a higher score is better.
        oracle_name: What `oracle` is, for figures.
    """

    loss_steps: ClassVar[Literal["scored", "all"]] = "scored"
    score_name: ClassVar[str]
    higher_is_better: ClassVar[bool]
    oracle_name: ClassVar[str] = "oracle"

    @property
    @abstractmethod
    def chance_score(self) -> float:
        """Expected score of the best player without memory."""

    @property
    @abstractmethod
    def random_score(self) -> float:
        """Expected score of answers drawn uniformly from the action space."""

    @property
    def optimal_score(self) -> float | None:
        """Bound of the expected score, or None where none is known in closed form."""
        return None

    @abstractmethod
    def oracle(self, observations: Observations) -> NDArray[Any]:
        """Play well by a rule written by hand: answer each step from the observations up to it.

        Args:
            observations: Whole episodes, as in `Episodes`.

        Returns:
            Answers, of the shape of the targets.
        """

    def for_split(self, split: Literal["train", "validation", "test"]) -> Self:  # noqa: ARG002
        """Return the task as it is in training, validation or testing.

        Most tasks are the same in all three; a task with classes shows others in each.
        """
        return self

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
            ValueError: If `num_episodes` is less than 1 or too large, or the seed is none.
        """
        return self._build(self._draw(num_episodes, seed))

    @abstractmethod
    def rewards(self, answers: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
        """Return the reward that each answer brings if its step is scored.

        Args:
            answers: [...] or [..., answer_size], by the action space.
            targets: Likewise.

        Returns:
            float64 [...].
        """

    @abstractmethod
    def measures(
        self, rewards: NDArray[np.float64], scored: BoolArray
    ) -> dict[str, NDArray[np.float64]]:
        """Return what is reported of episodes, per episode.

        Args:
            rewards: [B, T].
            scored: [B, T].

        Returns:
            Measures [B] by name; `"score"` is the one that counts.
        """

    def score(self, answers: NDArray[Any], episodes: Episodes) -> float:
        """Return the mean score of answers.

        Args:
            answers: Answers to all steps, of the shape of the targets.
            episodes: The episodes that were answered.

        Raises:
            ValueError: If the answers have another shape than the targets.
        """
        answers = np.asarray(answers)
        if answers.shape != episodes.targets.shape:
            raise ValueError(
                f"answers must have shape {episodes.targets.shape}, got {answers.shape}"
            )
        rewards = self.rewards(answers, episodes.targets)
        return float(self.measures(rewards, episodes.scored)["score"].mean())

    @abstractmethod
    def picture(self, view: "EpisodeView") -> NDArray[np.uint8]:
        """Draw an episode; uint8 [480, 720, 3]."""

    @abstractmethod
    def text(self, view: "EpisodeView") -> str:
        """Write an episode as a table, a line per step."""

    @abstractmethod
    def _build(self, draws: FloatArray) -> Episodes:
        """Make B episodes of uniform numbers [B, draws_per_episode] in [0, 1)."""


class SquaredErrorTask(SequenceTask):
    """A task whose answers are real vectors, scored by their mean squared error.

    The best player without memory answers 0, the middle of the answers' range.
    """

    score_name: ClassVar[str] = "mean squared error, scored steps"
    higher_is_better: ClassVar[bool] = False

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
    def random_score(self) -> float:
        half_width = self.action_space.high
        return self.chance_score + float(np.mean(half_width**2)) / 3

    def errors(self, answers: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
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

    def rewards(self, answers: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
        return -self.errors(answers, targets)

    def measures(
        self, rewards: NDArray[np.float64], scored: BoolArray
    ) -> dict[str, NDArray[np.float64]]:
        return {"score": -(rewards * scored).sum(axis=1) / scored.sum(axis=1)}

    def picture(self, view: "EpisodeView") -> NDArray[np.uint8]:
        from plastic_envs.rendering import episode_picture  # here, since it imports this module

        return episode_picture(view, self.observation_labels)

    def text(self, view: "EpisodeView") -> str:
        from plastic_envs.rendering import episode_text

        return episode_text(view, self.observation_labels)


def _bytes_of(space: spaces.Space[Any]) -> int:
    """Return how much memory one value of a space takes."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.values() if isinstance(space, spaces.Dict) else space
        return sum(_bytes_of(part) for part in parts)
    return math.prod(space.shape or ()) * np.dtype(space.dtype or np.int64).itemsize


def box(low: list[float], high: list[float]) -> spaces.Box:
    """Make a float32 Box from its bounds."""
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32), dtype=np.float32)
