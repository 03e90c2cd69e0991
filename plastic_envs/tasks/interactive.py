"""What every interactive task has in common: what happens next depends on the answer.

An episode still takes a fixed share of the random stream, all of it at its start; from there on
it is a function of the actions alone. So an episode of a seed is the same in a single environment,
in a batch of any size, and in `play`, and two players of the same seed meet the same luck.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.tasks.base import BoolArray, DrawnTask, Observations, Seed
from plastic_envs.tasks.draws import FloatArray

if TYPE_CHECKING:
    from plastic_envs.interactive_rendering import InteractiveView

State = Any
"""A NamedTuple of arrays [B, …]: all that an episode is, hidden parts and all."""


class Outcome(NamedTuple):
    """What an action brings.

    Attributes:
        state: What the episodes are now.
        rewards: float64 [B].
        infos: Arrays [B, …] by name, for analysis; `"scored"`, bool, says whether the step counts.
    """

    state: State
    rewards: NDArray[np.float64]
    infos: dict[str, NDArray[Any]]


class Played(NamedTuple):
    """Whole episodes as somebody played them, each [B, T]."""

    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    scored: BoolArray


class Player(ABC):
    """Plays episodes of one task by a rule written by hand.

    Honest players go by observations, and by their own actions and rewards. The state is for those
    who are meant to know more than an agent can.
    """

    def begin(self, state: State) -> None:  # noqa: B027 (not everybody has to)
        """Start episodes, one for each row of the state."""

    @abstractmethod
    def act(self, observations: Observations, state: State) -> NDArray[np.int64]:
        """Choose actions [B] for observations [B, …]."""

    def learn(  # noqa: B027
        self, actions: NDArray[np.int64], rewards: NDArray[np.float64]
    ) -> None:
        """See what the actions [B] brought."""


class InteractiveTask(DrawnTask):
    """A family of episodes with a fixed length whose course depends on the actions.

    Subclasses are frozen dataclasses: their fields are the task's keyword arguments. They say how
    many uniform numbers one episode takes (`_draws_per_episode`), what state these make (`_begin`),
    what is seen of it (`observe`) and what an action changes (`step`). States are values: `step`
    returns a new one and leaves the old one as it was.

    Observations hold what the world shows, and the share of the episode that has passed: the end
    can be seen coming, so it is a termination and not a truncation. The agent's own last action and
    reward come from the wrapper `plastic_envs.wrappers.PreviousActionReward`.

    Attributes:
        score_name: What the score is, for figures.
        oracle_name: What `oracle` is, likewise.
        higher_is_better: Always true: scores are rewards or shares of right answers.
    """

    score_name: ClassVar[str]
    oracle_name: ClassVar[str]
    higher_is_better: ClassVar[bool] = True

    @property
    @abstractmethod
    def observation_space(self) -> spaces.Box:
        """Space of one observation; its last entry is the share of the episode that has passed."""

    @property
    @abstractmethod
    def action_space(self) -> spaces.Discrete:
        """Space of one action."""

    @property
    @abstractmethod
    def reward_bounds(self) -> tuple[float, float]:
        """Smallest and largest reward of a step."""

    @property
    @abstractmethod
    def chance_score(self) -> float | None:
        """Expected score of the best player without memory, or None where it is not known.

        Without memory is: from the observation alone, without the last action and reward.
        """

    @property
    @abstractmethod
    def random_score(self) -> float:
        """Expected score of actions drawn uniformly."""

    @property
    @abstractmethod
    def optimal_score(self) -> float:
        """Bound that no player can beat in expectation."""

    @abstractmethod
    def observe(self, state: State, step: int) -> Observations:
        """Return what is seen before the action of a step, 0 … T (T: behind the last action).

        Returns:
            [B, …], the caller's own.
        """

    @abstractmethod
    def step(self, state: State, step: int, actions: NDArray[np.int64]) -> Outcome:
        """Act.

        Args:
            state: Of B episodes, at this step; it is not changed.
            step: Number of the step, 0 … T - 1.
            actions: [B], in the action space.
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

    @abstractmethod
    def oracle(self) -> Player:
        """Return a strong player."""

    @abstractmethod
    def picture(self, view: "InteractiveView") -> NDArray[np.uint8]:
        """Draw an episode; uint8 [480, 720, 3]."""

    @abstractmethod
    def text(self, view: "InteractiveView") -> str:
        """Write an episode as text."""

    def sample_states(self, num_episodes: int, seed: Seed = None) -> State:
        """Draw the states in which episodes start.

        Args:
            num_episodes: Number B of episodes, at least 1.
            seed: An integer or seed sequence to start a new random stream, a generator to go on
                with one, or None for fresh entropy. The first episode of a seed is the one that an
                environment plays after `reset(seed=seed)`.

        Raises:
            ValueError: If `num_episodes` is less than 1 or too large, or the seed is none.
        """
        return self._begin(self._draw(num_episodes, seed))

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
        return Played(*(np.stack(column, axis=1) for column in zip(*steps, strict=True)))

    def score(self, played: Played) -> float:
        """Return the mean score of episodes that were played."""
        return float(self.measures(played.rewards, played.scored)["score"].mean())

    @abstractmethod
    def _begin(self, draws: FloatArray) -> State:
        """Make the first state of B episodes of uniforms [B, draws_per_episode] in [0, 1)."""


class RandomPlayer(Player):
    """Draws every action uniformly.

    Args:
        task: What is played.
        rng: Where the actions come from.
    """

    def __init__(self, task: InteractiveTask, rng: np.random.Generator) -> None:
        self._space, self._rng = task.action_space, rng

    def act(self, observations: Observations, state: State) -> NDArray[np.int64]:
        choices = self._rng.integers(self._space.n, size=len(observations))
        return np.asarray(choices + self._space.start)


class ConstantPlayer(Player):
    """Does the same in every step.

    Args:
        action: What it does.
    """

    def __init__(self, action: int) -> None:
        self._action = action

    def act(self, observations: Observations, state: State) -> NDArray[np.int64]:
        return np.full(len(observations), self._action, np.int64)


def elapsed(step: int, num_steps: int, batch: int) -> FloatArray:
    """Return the share of an episode that has passed, [B, 1]."""
    return np.full((batch, 1), step / num_steps, np.float32)
