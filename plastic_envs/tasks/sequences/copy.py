"""Sequence reproduction: remember values and say them again in order."""

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from plastic_envs.spaces import FloatArray, box
from plastic_envs.tasks.draws import symmetric
from plastic_envs.tasks.sequence import Episodes, SquaredErrorTask


@dataclass(frozen=True)
class Copy(SquaredErrorTask):
    """Remember a sequence of random values and reproduce it after a delay.

    ## Description
    The "sequence reproduction" task of Duan et al. (arXiv 2302.03235). An episode shows `length`
    values, then `delay` blank steps, then asks for the values in the order in which they were
    shown. It measures how much a memory holds, and for how long.

    ## Observation space
    `Box`, float32 `[dim + 2]`: the value (zeros when none is shown), a flag that is 1 while values
    are shown, and a flag that is 1 while they must be recalled.

    ## Action space
    `Box(-1, 1)`, float32 `[dim]`: the value that belongs to this step. Not clipped.

    ## Reward
    At recall steps `-mean((action - target)**2)`, otherwise 0.

    ## Starting state
    Every value is drawn from U(-1, 1).

    ## Episode end
    Terminates after `2 * length + delay` steps.

    ## Scores
    Mean squared error over the recall steps. Best without memory: 1/3 (answer 0). Random
    answers: 2/3. Optimum: 0.

    ## Version history
    - v0: first version.

    Attributes:
        length: Number of values, at least 1. The paper uses 5 to 40.
        dim: Entries of one value, at least 1.
        delay: Blank steps before recall, at least 0. The paper uses 0 to 60.
    """

    length: int = 20
    dim: int = 1
    delay: int = 0

    def __post_init__(self) -> None:
        """Check the arguments."""
        self.check_integers(length=1, dim=1, delay=0)
        self.check_size()

    @property
    def num_steps(self) -> int:
        return 2 * self.length + self.delay

    @property
    def observation_space(self) -> spaces.Box:
        return box([-1.0] * self.dim + [0, 0], [1.0] * self.dim + [1, 1])

    @property
    def action_space(self) -> spaces.Box:
        return box([-1.0] * self.dim, [1.0] * self.dim)

    @property
    def observation_labels(self) -> list[str]:
        return [f"value {i}" for i in range(self.dim)] + ["show", "recall"]

    @property
    def chance_score(self) -> float:
        return 1 / 3

    @property
    def optimal_score(self) -> float:
        return 0.0

    def oracle(self, observations: FloatArray) -> FloatArray:
        """Repeat the values that were shown."""
        answers = np.zeros((*observations.shape[:2], self.dim), np.float32)
        answers[:, -self.length :] = observations[:, : self.length, : self.dim]
        return answers

    @property
    def draws_per_episode(self) -> int:
        return self.length * self.dim

    def begin(self, draws: FloatArray) -> Episodes:
        batch = len(draws)
        values = symmetric(draws).reshape(batch, self.length, self.dim)
        observations = np.zeros((batch, self.num_steps, self.dim + 2), np.float32)
        observations[:, : self.length, : self.dim] = values
        observations[:, : self.length, -2] = 1
        observations[:, -self.length :, -1] = 1
        targets = np.zeros((batch, self.num_steps, self.dim), np.float32)
        targets[:, -self.length :] = values
        scored = np.zeros((batch, self.num_steps), np.bool_)
        scored[:, -self.length :] = True
        return Episodes(observations, targets, scored)
