"""What every task is: episodes that are drawn, seen, and answered step by step.

An episode takes a fixed share of the random stream, all of it at its start; from there on it is a
function of the actions alone. So an episode of a seed is the same in a single environment, in a
batch of any size, and outside of environments, and two players of the same seed meet the same luck.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, Self

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
from plastic_envs.rendering.course import course_picture, course_text
from plastic_envs.rendering.view import View
from plastic_envs.spaces import (
    BoolArray,
    FloatArray,
    Observations,
    Rows,
    at,
    bytes_of,
    labels_of,
    placed,
    rows_of,
    rows_of_numbers,
    table,
)
from plastic_envs.tasks.players import Player

_LARGEST_NUMBER = 1e6  # nothing else of an episode could be told beside a larger one

Seed = int | np.random.SeedSequence | np.random.Generator | None

State = Any
"""A NamedTuple of arrays [B, …]: all that an episode is, hidden parts and all."""


class Outcome(NamedTuple):
    """What an action brings.

    Attributes:
        state: What the episodes are now.
        rewards: float64 [B].
        infos: Arrays [B, …] by name, for analysis, the caller's own; `"scored"`, bool, says whether
            the step counts.
    """

    state: State
    rewards: NDArray[np.float64]
    infos: dict[str, NDArray[Any]]


class Played(NamedTuple):
    """Whole episodes as somebody played them.

    Attributes:
        actions: [B, T] or [B, T, answer_size].
        rewards: float64 [B, T].
        scored: bool [B, T].
        measures: float64 [B] by name.
    """

    actions: NDArray[Any]
    rewards: NDArray[np.float64]
    scored: BoolArray
    measures: dict[str, NDArray[np.float64]]

    @property
    def score(self) -> float:
        """The mean score."""
        return float(self.measures["score"].mean())


class Task(ABC):
    """A family of episodes with a fixed length.

    Subclasses are frozen dataclasses: their fields are the task's keyword arguments. They say how
    many uniform numbers one episode takes (`draws_per_episode`), what state these make (`begin`),
    what is seen of it (`observe`) and what an action changes (`step`). States are values: `step`
    returns a new one and leaves the old one as it was.

    Observations hold what the world shows. The agent's own last action and reward come from the
    wrapper `plastic_envs.wrappers.PreviousActionReward`.

    Attributes:
        score_name: What the score is, for figures.
        higher_is_better: Whether a higher score is better.
        oracle_name: What the oracle is, for figures.
    """

    score_name: ClassVar[str] = "mean reward, scored steps"
    higher_is_better: ClassVar[bool] = True
    oracle_name: ClassVar[str] = "oracle"

    def __post_init__(self) -> None:
        """Check the arguments; here, only that an episode is not too large."""
        self.check_size()

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """Length T of an episode, in steps."""

    @property
    @abstractmethod
    def observation_space(self) -> spaces.Space[Any]:
        """Space of one observation: a Box, or a Dict of Boxes."""

    @property
    @abstractmethod
    def action_space(self) -> spaces.Box | spaces.Discrete:
        """Space of one action, or answer."""

    @property
    @abstractmethod
    def draws_per_episode(self) -> int:
        """How many uniform numbers one episode takes from the random stream."""

    @abstractmethod
    def begin(self, draws: FloatArray) -> State:
        """Make the first state of B episodes of uniforms [B, draws_per_episode] in [0, 1)."""

    @abstractmethod
    def observe(self, state: State, step: int) -> Observations:
        """Return what is seen before the action of a step, 0 … T (T: behind the last action).

        Returns:
            [B, …], the caller's own.
        """

    @abstractmethod
    def step(self, state: State, step: int, actions: NDArray[Any]) -> Outcome:
        """Act.

        Args:
            state: Of B episodes, at this step; it is not changed.
            step: Number of the step, 0 … T - 1.
            actions: [B] or [B, answer_size], by the action space: int64 or float32. A box does not
                bound them.
        """

    @property
    def reward_bounds(self) -> tuple[float, float]:
        """Smallest and largest reward of a step."""
        return -np.inf, np.inf

    @property
    def chance_score(self) -> float | None:
        """Expected score of the best player without memory, or None where it is not known.

        Without memory is: from the observation alone, without the last action and reward.
        """
        return None

    @property
    def random_score(self) -> float | None:
        """Expected score of actions drawn uniformly, or None where it is not known."""
        return None

    @property
    def optimal_score(self) -> float | None:
        """Bound of the expected score, or None where none is known in closed form."""
        return None

    @property
    def observation_labels(self) -> list[str]:
        """Name of each number of an observation, for pictures."""
        return labels_of(self.observation_space)

    def oracle_player(self) -> Player | None:
        """Return a strong player, written by hand, or None where nobody wrote one."""
        return None

    def measures(
        self, rewards: NDArray[np.float64], scored: BoolArray
    ) -> dict[str, NDArray[np.float64]]:
        """Return what is reported of episodes, per episode.

        Args:
            rewards: [B, T].
            scored: [B, T].

        Returns:
            Measures [B] by name; `"score"` is the one that counts: here, the mean reward of the
            scored steps.
        """
        return {"score": (rewards * scored).sum(axis=1) / np.maximum(scored.sum(axis=1), 1)}

    def for_split(self, split: Literal["train", "validation", "test"]) -> Self:  # noqa: ARG002
        """Return the task as it is in training, validation or testing.

        Most tasks are the same in all three; a task with classes shows others in each.
        """
        return self

    def sample_states(self, num_episodes: int, seed: Seed = None) -> State:
        """Draw the states in which episodes start.

        Args:
            num_episodes: Number B of episodes, at least 1.
            seed: An integer or seed sequence to start a new random stream, a generator to go on
                with one, or None for fresh entropy. The first episode of a seed is the one that an
                environment plays after `reset(seed=seed)`.

        Returns:
            The state; its arrays are the caller's own.

        Raises:
            ValueError: If `num_episodes` is less than 1 or too large, or the seed is none.
        """
        return self.begin(self._draw(num_episodes, seed))

    def play(self, player: Player, num_episodes: int, seed: Seed = None) -> Played:
        """Let a player play whole episodes, drawn as `sample_states` does."""
        state = self.sample_states(num_episodes, seed)
        player.begin(state)
        steps = []
        for step in range(self.num_steps):
            actions = player.act(self.observe(state, step), state)
            state, rewards, infos = self.step(state, step, actions)
            player.learn(actions, rewards)
            steps.append((actions, rewards, infos["scored"]))
        actions, rewards, scored = (np.stack(c, axis=1) for c in zip(*steps, strict=True))
        return Played(actions, rewards, scored, self.measures(rewards, scored))

    def oracle_measures(self, num_episodes: int, seed: Seed = None) -> dict[str, float]:
        """Return the oracle's measures, averaged over episodes; none if there is no oracle."""
        player = self.oracle_player()
        if player is None:
            return {}
        played = self.play(player, num_episodes, seed)
        return {name: float(values.mean()) for name, values in played.measures.items()}

    def picture(self, view: View) -> NDArray[np.uint8]:
        """Draw an episode; uint8 [480, 720, 3]."""
        return course_picture(view.progress, *self._course(view))

    def text(self, view: View) -> str:
        """Write an episode as text."""
        return course_text(view.progress, *self._course(view))

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

    def check_integers(self, **minimums: int) -> None:
        """Check integer arguments; NumPy integers, which could overflow, become int."""
        for name, minimum in minimums.items():
            object.__setattr__(self, name, check_int(name, getattr(self, name), minimum=minimum))

    def check_numbers(self, **minimums: float) -> None:
        """Check real arguments, at most a million; they become float."""
        for name, minimum in minimums.items():
            value = check_number(
                name, getattr(self, name), minimum=minimum, maximum=_LARGEST_NUMBER
            )
            object.__setattr__(self, name, value)

    def check_choices(self, **choices: Iterable[str]) -> None:
        """Check arguments that name one of some choices; NumPy strings and enums become str."""
        for name, known in choices.items():
            value = getattr(self, name)
            plain = str.__str__(value) if isinstance(value, str) else value
            object.__setattr__(self, name, check_choice(name, plain, known))

    @cached_property
    def _episode_bytes(self) -> int:
        names = getattr(self, "__dataclass_fields__", ())
        fields = {name: getattr(self, name) for name in names}
        sizes = {name: value for name, value in fields.items() if type(value) is int}
        size = 4 * self.draws_per_episode
        check_bytes("an episode", size, LARGEST_EPISODE, **sizes)  # spaces can be as large as that
        size += self.num_steps * (bytes_of(self.observation_space) + bytes_of(self.action_space))
        check_bytes("an episode", size, LARGEST_EPISODE, **sizes)
        return size

    def _draw(self, num_episodes: int, seed: Seed) -> FloatArray:
        """Return the uniforms [B, draws_per_episode] that B episodes are made of."""
        num_episodes = check_int("num_episodes", num_episodes, minimum=1)
        self.check_size(num_episodes=num_episodes)
        if not isinstance(seed, np.random.Generator | np.random.SeedSequence | None):
            seed = check_seed("seed", seed)
        rng = np.random.default_rng(seed)
        return rng.random((num_episodes, self.draws_per_episode), dtype=np.float32)

    def _observe_rows(self, state: State, rows: Rows, step: int) -> Observations:
        """Return what some episodes of a batch show, or a single one, all at this step."""
        if isinstance(rows, int):
            return at(self.observe(state, step), rows)
        return self.observe(rows_of(state, rows), step)

    def _step_rows(self, state: State, rows: Rows, step: int, actions: NDArray[Any]) -> Outcome:
        """Act in some episodes of a batch, or in the only one.

        Returns:
            The state of the whole batch; rewards and infos of the rows, without their axis for a
            single one (what is true or false stays an array, see `TaskEnv`).
        """
        if isinstance(rows, int):
            state, rewards, infos = self.step(state, step, actions[None])
            return Outcome(state, rewards[rows], {k: _entry(v, rows) for k, v in infos.items()})
        before = rows_of(state, rows)
        after, rewards, infos = self.step(before, step, actions)
        whole = state if after is before else placed(state, after, rows)
        return Outcome(whole, rewards, infos)

    def _course(self, view: View) -> tuple[NDArray[Any], list[str], NDArray[Any]]:
        actions = rows_of_numbers(view.actions)
        return table(view.observations), self.observation_labels, actions


def elapsed(step: int, num_steps: int, batch: int) -> FloatArray:
    """Return the share of an episode that has passed, [B, 1]."""
    return np.full((batch, 1), step / num_steps, np.float32)


def _entry(array: NDArray[Any], row: int) -> Any:
    return array[row, ...].copy() if array.dtype == np.bool_ else array[row]
