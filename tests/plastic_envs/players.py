"""What the tests of all tasks share: answers of any kind, their rewards, and arrays within."""

import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence

from plastic_envs.tasks import Player

SIGMAS = 5  # what is drawn as it should be exceeds these once in two million seeds


def same(a, b):
    return data_equivalence(a, b, exact=True)


def same_trees(a, b):
    """Whether two states, episodes or observations are equal, to the bit and in their types."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_trees(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return type(a) is type(b) and all(map(same_trees, a, b))
    return a.dtype == b.dtype and np.array_equal(a, b)


class Script(Player):
    """Does what is written down, [B, T, …]."""

    def __init__(self, actions):
        self.actions, self.step = actions, 0

    def act(self, observations, state):
        self.step += 1
        return self.actions[:, self.step - 1]


def scribble(value):
    """Overwrite every array in what an environment, or a task, returned."""
    if isinstance(value, dict):
        scribble(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            scribble(part)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        scribble(list(value))
    elif isinstance(value, np.ndarray):
        value[...] = 1


def assert_equally_often(values, count):
    """Each of `count` values must occur as often as the others, within SIGMAS deviations."""
    observed = np.bincount(np.ravel(values), minlength=count)
    expected = observed.sum() / count
    assert expected > 15  # below, counts are too skewed for a normal deviation
    assert len(observed) == count
    deviation = np.sqrt(expected * (1 - 1 / count))
    assert (np.abs(observed - expected) <= SIGMAS * deviation).all()


def random_actions(space, *batch, seed=3, bound=None):
    """Uniform answers in a single action space: within ±1, ±`bound`, or all choices."""
    rng = np.random.default_rng(seed)
    if isinstance(space, spaces.Discrete):
        return rng.integers(0, space.n, batch)
    bound = 1 if bound is None else bound
    return rng.uniform(-bound, bound, (*batch, *space.shape)).astype(np.float32)


def expected_rewards(answers, targets):
    """The reward of each answer at a scored step, computed here."""
    if np.issubdtype(np.asarray(targets).dtype, np.integer):
        return np.equal(answers, targets).astype(np.float64)
    return -((np.asarray(answers, np.float64) - targets) ** 2).mean(axis=-1)


def per_episode(answers, episodes):
    """The score [B] of each episode, computed here: mean squared error, or accuracy."""
    rewards = expected_rewards(answers, episodes.targets)
    mean = np.where(episodes.scored, rewards, 0).sum(axis=1) / episodes.scored.sum(axis=1)
    return mean if np.issubdtype(episodes.targets.dtype, np.integer) else -mean


def leaves(observations):
    """The arrays of observations."""
    return list(observations.values()) if isinstance(observations, dict) else [observations]


def joined(observation):
    """All numbers of one observation, as a vector."""
    return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in leaves(observation)])
