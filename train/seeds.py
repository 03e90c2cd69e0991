"""What follows from a run's seed: the one table of its branches.

Branches share nothing, so training never sees an episode of validation or testing. Some go on to
branch: training has a seed for each of its steps or parts. The numbers are part of what makes a run
repeatable, and never change.
"""

from enum import IntEnum

import numpy as np


class Supervised(IntEnum):
    """Branches of the seed of a supervised run."""

    TRAIN = 0  # episodes of a step: (TRAIN, step)
    VALIDATE = 1
    TEST = 2
    NOISE = 3  # dropout of a step: (NOISE, step), and the process where there are several


class Reinforcement(IntEnum):
    """Branches of the seed of a run of reinforcement learning."""

    BUILD = 0  # initial parameters
    TRAIN = 1  # environments and actions between two evaluations: (TRAIN, number of the part)
    VALIDATE = 2
    TEST = 3


def seed_sequence(seed: int, *branch: int) -> np.random.SeedSequence:
    """Return the source of all random numbers of a branch."""
    return np.random.SeedSequence(seed, spawn_key=branch)


def derived_seed(seed: int, branch: Supervised | Reinforcement, *further: int) -> int:
    """Return the seed of a branch as a number, of 31 bits where Stable-Baselines3 takes it.

    Args:
        seed: The run's.
        branch: Of the tables above.
        further: What it branches into.
    """
    bits = 31 if isinstance(branch, Reinforcement) else 32
    return int(seed_sequence(seed, branch, *further).generate_state(1)[0] >> (32 - bits))
