"""Association: remember which label was shown with which pattern."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.spaces import FloatArray, box
from plastic_envs.tasks.draws import NORMAL_BOUND, even, integers, normals, shuffled, split
from plastic_envs.tasks.sequence import Episodes, SequenceTask

Labels = Literal["exclusive", "repeated"]

_MOST_LABELS = 2**12


@dataclass(frozen=True)
class Association(SequenceTask):
    """Remember which label was shown with which pattern, then name the label of a pattern.

    ## Description
    The association task of Limbacher and Legenstein ("H-Mem", NeurIPS 2020) and of Limbacher,
    Özdenizci and Legenstein (arXiv 2205.11276). An episode shows `num_pairs` random patterns, each
    once with its label, and then asks for the labels of some of them. It measures how many pairs a
    memory holds; a network trained on few can be tested on many, since spaces do not depend on
    `num_pairs`.

    ## Observation space
    `Box`, float32 `[pattern_size + num_labels + 1]`: the pattern, the label (one-hot; zeros at
    queries), and a flag that is 1 at queries. The bounds contain every noise that can be drawn.

    ## Action space
    `Discrete(num_labels)`: the label of this pattern.

    ## Reward
    At queries 1 for the right label, otherwise 0.

    ## Starting state
    Patterns U(0, 1), drawn anew for each episode. Their labels are all different
    (`labels="exclusive"`), or each is drawn for itself (`"repeated"`). Each query is one of the
    patterns, drawn for itself, with noise N(0, noise²) on it.

    ## Episode end
    Terminates after `num_pairs + num_queries` steps.

    ## Scores
    Share of right answers at queries. Without memory and for random answers: 1 / num_labels.
    Optimum without noise: 1.

    ## Version history
    - v0: first version.

    Attributes:
        num_pairs: Pairs of an episode, at least 1, and at most `num_labels` if labels are
            exclusive. The papers use 10 and more.
        num_queries: Queries, at least 1. The papers have 1.
        pattern_size: Entries of a pattern, at least 1.
        num_labels: Labels there are, from 2 to 4,096.
        labels: `"exclusive"` or `"repeated"`.
        noise: Standard deviation of the noise on the pattern of a query, from 0 to a million.
    """

    num_pairs: int = 10
    num_queries: int = 1
    pattern_size: int = 10
    num_labels: int = 10
    labels: Labels = "exclusive"
    noise: float = 0.0

    score_name: ClassVar[str] = "accuracy, queries"
    oracle_name: ClassVar[str] = "nearest pattern"

    def __post_init__(self) -> None:
        """Check the arguments."""
        self.check_integers(num_pairs=1, num_queries=1, pattern_size=1, num_labels=2)
        if self.num_labels > _MOST_LABELS:
            raise ValueError(f"num_labels must be at most {_MOST_LABELS}, got {self.num_labels}")
        self.check_choices(labels=get_args(Labels))
        self.check_numbers(noise=0)
        if self.labels == "exclusive" and self.num_pairs > self.num_labels:
            raise ValueError(
                f"num_pairs must be at most num_labels={self.num_labels} with exclusive labels, "
                f"got {self.num_pairs}: give more labels, or labels='repeated'"
            )
        self.check_size()

    @property
    def num_steps(self) -> int:
        return self.num_pairs + self.num_queries

    @property
    def observation_space(self) -> spaces.Box:
        spread = self.noise * NORMAL_BOUND
        flags = self.num_labels + 1
        return box(
            [-spread] * self.pattern_size + [0] * flags,
            [1 + spread] * self.pattern_size + [1] * flags,
        )

    @property
    def action_space(self) -> spaces.Discrete:
        return spaces.Discrete(self.num_labels)

    @property
    def observation_labels(self) -> list[str]:
        patterns = [f"pattern {i}" for i in range(self.pattern_size)]
        return [*patterns, *(f"label {i}" for i in range(self.num_labels)), "query"]

    @property
    def reward_bounds(self) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def chance_score(self) -> float:
        return 1 / self.num_labels

    @property
    def random_score(self) -> float:
        return 1 / self.num_labels

    @property
    def optimal_score(self) -> float | None:
        return 1.0 if self.noise == 0 else None

    def oracle(self, observations: FloatArray) -> NDArray[np.int64]:
        """Name the label of the nearest pattern.

        Without noise that is the pattern itself. With noise it is the most likely one, which is
        the best answer where labels are exclusive.
        """
        shown = observations[:, : self.num_pairs]
        patterns = shown[..., : self.pattern_size].astype(np.float64)
        labels = shown[..., self.pattern_size : -1].argmax(axis=-1)
        answers = np.zeros(observations.shape[:2], np.int64)
        answers[:, : self.num_pairs] = labels
        for step in range(self.num_pairs, self.num_steps):
            query = observations[:, step, None, : self.pattern_size]
            nearest = ((query - patterns) ** 2).sum(axis=-1).argmin(axis=1)
            answers[:, step] = np.take_along_axis(labels, nearest[:, None], axis=1)[:, 0]
        return answers

    @property
    def draws_per_episode(self) -> int:
        noise = even(self.num_queries * self.pattern_size) if self.noise else 0
        return self.num_pairs * (self.pattern_size + 1) + self.num_queries + noise

    def begin(self, draws: FloatArray) -> Episodes:
        batch, pairs, size = len(draws), self.num_pairs, self.pattern_size
        pattern_draws, label_draws, query_draws, noise_draws = split(
            draws, pairs * size, pairs, self.num_queries
        )
        patterns = pattern_draws.reshape(batch, pairs, size)
        if self.labels == "exclusive":
            labels = shuffled(label_draws, self.num_labels, pairs)[:, :pairs]
        else:
            labels = integers(label_draws, self.num_labels)
        rows = np.arange(batch)[:, None]
        asked = integers(query_draws, pairs)
        observations = np.zeros((batch, self.num_steps, size + self.num_labels + 1), np.float32)
        observations[:, :pairs, :size] = patterns
        observations[rows, np.arange(pairs), size + labels] = 1
        observations[:, pairs:, :size] = patterns[rows, asked]
        if self.noise:
            noise = normals(noise_draws)[:, : self.num_queries * size]
            noise = noise.reshape(batch, self.num_queries, size)
            observations[:, pairs:, :size] += np.float32(self.noise) * noise
        observations[:, pairs:, -1] = 1
        targets = np.concatenate([labels, labels[rows, asked]], axis=1)
        scored = np.zeros((batch, self.num_steps), np.bool_)
        scored[:, pairs:] = True
        return Episodes(observations, targets, scored)
