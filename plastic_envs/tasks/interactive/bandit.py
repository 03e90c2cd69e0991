"""Bernoulli bandit: find the best arm by pulling arms."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.rendering.bandit import bandit_picture, bandit_text
from plastic_envs.rendering.view import View
from plastic_envs.spaces import BoolArray, FloatArray, Observations, box
from plastic_envs.tasks.base import Outcome, Task, elapsed
from plastic_envs.tasks.draws import split
from plastic_envs.tasks.players import Player


class BanditState(NamedTuple):
    """Bandits; pulling changes nothing of them.

    Attributes:
        means: float32 [B, num_arms], the probability of a reward.
        luck: float32 [B, num_trials], U(0, 1); an arm pays if its mean is above the luck of the
            trial. Only one arm is pulled in a trial, so arms may share the luck.
    """

    means: FloatArray
    luck: FloatArray


@dataclass(frozen=True)
class Bandit(Task):
    """Find the best arm of a bandit, and pull it.

    ## Description
    Every episode is a new bandit: each arm pays 1 with a probability of its own, drawn from
    U(0, 1), else nothing. In every trial one arm is pulled. (Duan et al., RL², arXiv 1611.02779;
    Wang et al., arXiv 1611.05763.)

    ## Observation space
    `Box(0, 1)`, float32 `[1]`: the share of the trials that has passed. What was pulled and what it
    brought come from the wrapper `PreviousActionReward`; without it nothing can be learned.

    ## Action space
    `Discrete(num_arms)`: the arm to pull.

    ## Reward
    1 with the probability of the arm, else 0.

    ## Starting state
    Probabilities U(0, 1), independent, drawn anew for each episode.

    ## Episode end
    Terminates after `num_trials` steps.

    ## Scores
    Mean reward of a trial. Blind, or at random: 1/2. Bound: the best arm is known from the start,
    `num_arms / (num_arms + 1)`. With 5 arms and 100 trials: Thompson sampling 0.751, a narrow upper
    confidence bound 0.776, and win-stay, lose-shift, which needs no more memory than the last
    action and reward, 0.683.

    ## Version history
    - v0: first version.

    Attributes:
        num_arms: Arms, at least 2.
        num_trials: Trials of an episode, at least 1.
    """

    num_arms: int = 5
    num_trials: int = 100

    score_name: ClassVar[str] = "reward of a trial"
    oracle_name: ClassVar[str] = "upper confidence bound"

    def __post_init__(self) -> None:
        """Check the arguments."""
        self.check_integers(num_arms=2, num_trials=1)
        self.check_size()

    @property
    def num_steps(self) -> int:
        return self.num_trials

    @property
    def observation_space(self) -> spaces.Box:
        return box([0], [1])

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(self.num_arms)

    @property
    def reward_bounds(self) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def chance_score(self) -> float:
        return 0.5

    @property
    def random_score(self) -> float:
        return 0.5

    @property
    def optimal_score(self) -> float:
        return self.num_arms / (self.num_arms + 1)

    def observe(self, state: BanditState, step: int) -> FloatArray:
        return elapsed(step, self.num_trials, len(state.means))

    def step(self, state: BanditState, step: int, actions: NDArray[np.int64]) -> Outcome:
        """Pull arms.

        `infos` has `"scored"` (all), `"best_arm"` (int64) and `"regret"` (float32): by how much the
        mean of the best arm is above that of the arm pulled.
        """
        means = state.means[np.arange(len(actions)), actions]
        infos = {
            "scored": np.ones(len(actions), np.bool_),
            "best_arm": state.means.argmax(axis=1),
            "regret": state.means.max(axis=1) - means,
        }
        return Outcome(state, (state.luck[:, step] < means).astype(np.float64), infos)

    def measures(
        self,
        rewards: NDArray[np.float64],
        scored: BoolArray,
    ) -> dict[str, NDArray[np.float64]]:
        last = max(1, self.num_trials // 10)
        return {"score": rewards.mean(axis=1), "last_tenth": rewards[:, -last:].mean(axis=1)}

    def oracle_player(self) -> "UpperConfidenceBound":
        """Return the strongest player there is here, an upper confidence bound."""
        return UpperConfidenceBound()

    def picture(self, view: View) -> NDArray[np.uint8]:
        return bandit_picture(view.progress, view.start.means[0], view.actions)

    def text(self, view: View) -> str:
        return bandit_text(view.progress, view.start.means[0], view.actions)

    @property
    def draws_per_episode(self) -> int:
        return self.num_arms + self.num_trials

    def begin(self, draws: FloatArray) -> BanditState:
        return BanditState(*split(draws, self.num_arms))


class BestArm(Player):
    """Pulls the best arm, which it knows: scores `optimal_score`."""

    def act(self, observations: Observations, state: BanditState) -> NDArray[np.int64]:
        return np.asarray(state.means.argmax(axis=1))


class _Counting(Player):
    """Counts how often each arm was pulled and paid, [B, num_arms]."""

    def begin(self, state: BanditState) -> None:
        self._pulls, self._paid = np.zeros((2, *state.means.shape))

    def learn(self, actions: NDArray[np.int64], rewards: NDArray[np.float64]) -> None:
        rows = np.arange(len(actions))
        self._pulls[rows, actions] += 1
        self._paid[rows, actions] += rewards


class ThompsonSampling(_Counting):
    """Pulls each arm with the probability that it is the best (Thompson 1933).

    It draws a mean for each arm from its posterior, Beta(1 + paid, 1 + not paid), and pulls the arm
    with the highest.

    Args:
        rng: Where the draws come from.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def act(self, observations: Observations, state: BanditState) -> NDArray[np.int64]:
        means = self._rng.beta(1 + self._paid, 1 + self._pulls - self._paid)
        return np.asarray(means.argmax(axis=1))


class UpperConfidenceBound(_Counting):
    """Pulls the arm that could be the best: UCB1 (Auer, Cesa-Bianchi and Fischer 2002).

    Every arm once, then that with the largest `paid / pulls + width * sqrt(ln(trials) / pulls)`.

    Args:
        width: Width of the bound. UCB1 has √2; the default, found by trying, is better on 100
            trials of 5 arms.
    """

    def __init__(self, width: float = 0.3) -> None:
        self._width = width

    def act(self, observations: Observations, state: BanditState) -> NDArray[np.int64]:
        trials = self._pulls.sum(axis=1, keepdims=True)
        pulls = np.maximum(self._pulls, 1)
        bound = self._paid / pulls + self._width * np.sqrt(np.log(np.maximum(trials, 1)) / pulls)
        return np.asarray(np.where(self._pulls == 0, math.inf, bound).argmax(axis=1))


class WinStayLoseShift(Player):
    """Pulls an arm until it does not pay, then the next one.

    It needs no memory beyond the last action and reward: what an agent without memory can do behind
    `PreviousActionReward`. Scores 0.5 in the first trial and more later.
    """

    def begin(self, state: BanditState) -> None:
        self._num_arms = state.means.shape[1]
        self._arms = np.zeros(len(state.means), np.int64)

    def act(self, observations: Observations, state: BanditState) -> NDArray[np.int64]:
        return self._arms.copy()

    def learn(self, actions: NDArray[np.int64], rewards: NDArray[np.float64]) -> None:
        self._arms = (actions + (rewards == 0)) % self._num_arms
