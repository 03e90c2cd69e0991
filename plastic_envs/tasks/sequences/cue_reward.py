"""Cue-reward association: learn within an episode which reward each cue brings."""

from dataclasses import dataclass
from math import erf
from typing import ClassVar, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.spaces import FloatArray, box
from plastic_envs.tasks.draws import NORMAL_BOUND, even, integers, normals, split, symmetric
from plastic_envs.tasks.sequence import Episodes, SquaredErrorTask


@dataclass(frozen=True)
class CueReward(SquaredErrorTask):
    """Learn which reward belongs to which cue, then predict it.

    ## Description
    The cue-reward association task of Duan et al. (arXiv 2302.03235). Every episode has new cues,
    each with a reward. At every step a random cue is seen through noise. In the first half of the
    episode its reward is shown beside it; in the second half the reward must be told from the cue.

    ## Observation space
    `Box`, float32 `[cue_size + 2]`: the noisy cue, the reward (0 when hidden), and a flag that is 1
    while the reward is hidden. The bounds contain every noise value that can be drawn.

    ## Action space
    `Box(-1, 1)`, float32 `[1]`: the reward of this cue. Not clipped.

    ## Reward
    In the second half `-(action - target)**2`, otherwise 0.

    ## Starting state
    Cues U(0, 1), rewards U(-1, 1), the cue of each step uniform, noise N(0, noise²), all drawn anew
    for each episode.

    ## Episode end
    Terminates after `episode_length` steps.

    ## Scores
    Mean squared error over the second half. Best without memory: 1/3 (answer 0). Random answers:
    2/3. Optimum: cues that were never shown cannot be known, which costs
    `(1 - 1 / num_cues) ** (episode_length // 2) / 3` (0.036); a bound that noise raises. The paper
    averages its loss over all steps, the shown rewards included: its optimum is half of that.

    ## Version history
    - v0: first version.

    Attributes:
        num_cues: Cues of an episode, at least 1.
        cue_size: Entries of a cue, at least 1.
        noise: Standard deviation of the noise on a cue, from 0 to a million.
        episode_length: Steps, at least 2; the first `episode_length // 2` show the reward.
    """

    num_cues: int = 5
    cue_size: int = 14
    noise: float = 0.1
    episode_length: int = 20

    loss_steps: ClassVar[Literal["scored", "all"]] = "all"

    def __post_init__(self) -> None:
        """Check the arguments."""
        self.check_integers(num_cues=1, cue_size=1, episode_length=2)
        self.check_numbers(noise=0)
        self.check_size()

    @property
    def num_steps(self) -> int:
        return self.episode_length

    @property
    def observation_space(self) -> spaces.Box:
        spread = self.noise * NORMAL_BOUND
        low = [-spread] * self.cue_size + [-1, 0]
        return box(low, [1 + spread] * self.cue_size + [1, 1])

    @property
    def action_space(self) -> spaces.Box:
        return box([-1], [1])

    @property
    def observation_labels(self) -> list[str]:
        return [f"cue {i}" for i in range(self.cue_size)] + ["reward", "hidden"]

    @property
    def chance_score(self) -> float:
        return 1 / 3

    @property
    def optimal_score(self) -> float:
        return float((1 - 1 / self.num_cues) ** self._shown / 3)

    def oracle(self, observations: FloatArray) -> FloatArray:
        """Answer with the expected reward given the shown half.

        Equal rewards tell which shown steps had the same cue. The query is then compared with each
        shown cue and with a cue never seen, by Bayes' rule. (What earlier queries could add about
        the cues is left out: it matters only under strong noise.)
        """
        answers = np.zeros((*observations.shape[:2], 1), np.float32)
        answers[:, : self._shown, 0] = observations[:, : self._shown, -2]
        for episode, answer in zip(observations, answers, strict=True):
            answer[self._shown :, 0] = self._expected_rewards(episode)
        return answers

    def _expected_rewards(self, episode: FloatArray) -> NDArray[np.float64]:
        """Return the posterior mean reward [queries] of the hidden steps of one episode."""
        queries = episode[self._shown :, :-2].astype(np.float64)
        rewards, group = np.unique(episode[: self._shown, -2], return_inverse=True)
        counts = np.bincount(group)
        means = np.zeros((len(rewards), self.cue_size))
        np.add.at(means, group, episode[: self._shown, :-2])
        means /= counts[:, None]
        # A noise floor keeps the densities finite for tasks without noise.
        variance = max(self.noise, 1e-3) ** 2
        spread = variance * (1 + 1 / counts)[:, None]  # of a query about the mean of its group
        density = _log_normal(queries[:, None] - means, spread)
        density += _log_mass(  # the cue lies in [0, 1]: prior given both, over prior given shown
            (queries[:, None] + counts[:, None] * means) / (1 + counts[:, None]),
            np.broadcast_to(variance / (1 + counts)[:, None], means.shape),
        ) - _log_mass(means, np.broadcast_to(variance / counts[:, None], means.shape))
        seen = density.sum(axis=-1)  # [queries, groups]
        new = _log_mass(queries, np.full(self.cue_size, variance)).sum(axis=-1)
        unseen = max(self.num_cues - len(rewards), 0)
        if unseen == 0:
            new = np.full_like(new, -np.inf)
        top = np.maximum(seen.max(axis=-1), new)
        weights = np.exp(seen - top[:, None])
        return np.asarray(weights @ rewards / (weights.sum(-1) + unseen * np.exp(new - top)))

    @property
    def _shown(self) -> int:
        return self.episode_length // 2

    @property
    def draws_per_episode(self) -> int:
        noise = even(self.episode_length * self.cue_size)
        return self.num_cues * (self.cue_size + 1) + self.episode_length + noise

    def begin(self, draws: FloatArray) -> Episodes:
        batch, steps, shown = len(draws), self.episode_length, self._shown
        cue_draws, reward_draws, order_draws, noise_draws = split(
            draws, self.num_cues * self.cue_size, self.num_cues, steps
        )
        cues = cue_draws.reshape(batch, self.num_cues, self.cue_size)
        rewards = symmetric(reward_draws)
        order = integers(order_draws, self.num_cues)
        rows = np.arange(batch)[:, None]
        noise = normals(noise_draws)[:, : steps * self.cue_size].reshape(batch, steps, -1)
        noise *= np.float32(self.noise)

        observations = np.empty((batch, steps, self.cue_size + 2), np.float32)
        np.add(cues[rows, order], noise, out=observations[..., :-2])
        targets = rewards[rows, order]
        observations[:, :shown, -2] = targets[:, :shown]
        observations[:, shown:, -2] = 0
        observations[:, :shown, -1] = 0
        observations[:, shown:, -1] = 1
        scored = np.zeros((batch, steps), np.bool_)
        scored[:, shown:] = True
        return Episodes(observations, targets[..., None], scored)


def _log_normal(
    difference: NDArray[np.float64], variance: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(-0.5 * (difference**2 / variance + np.log(2 * np.pi * variance)))


def _log_mass(mean: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the mass that N(mean, variance) has in [0, 1]."""
    scale = 1 / np.sqrt(2 * variance)
    mass = 0.5 * (_erf((1 - mean) * scale) + _erf(mean * scale))
    return np.asarray(np.log(np.maximum(mass, 1e-300)))


_erf = np.vectorize(erf, otypes=[np.float64])
