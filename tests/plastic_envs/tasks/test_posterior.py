"""The sampled posterior of regression with networks, held against what is known."""

import numpy as np
import pytest

from plastic_envs.tasks import Regression
from plastic_envs.tasks.sequences.posterior import posterior_mean

TASK = Regression(kind="mlp", input_size=1, num_support=6, num_query=6, noise=0.3)


def by_weights(task, episode, count=30_000):
    """Answer by importance weights alone: networks of the prior, standardised as the task does."""
    rng = np.random.default_rng(5)
    inner, outer = 1 / np.sqrt(task.num_inputs), 1 / np.sqrt(2)
    w, b = (rng.uniform(-inner, inner, (count, 1, 2)) for _ in range(2))
    v = rng.uniform(-outer, outer, (count, 2, 1))
    shown, x = task.num_support, episode[:, :1].astype(float)
    other = rng.uniform(-1, 1, (count, task.num_query, 1))
    at = np.concatenate([np.broadcast_to(x[None, :shown], (count, shown, 1)), other], axis=1)
    values = (np.tanh(at * w + b) @ v)[..., 0]
    mean, scale = values.mean(1, keepdims=True), values.std(1, ddof=1, keepdims=True)
    fit = -0.5 * (((values - mean) / scale)[:, :shown] - episode[:shown, -2]) ** 2 / task.noise**2
    weights = np.exp(fit.sum(1) - fit.sum(1).max())
    queries = (np.tanh(x[None, shown:] * w + b) @ v)[..., 0]
    return weights @ ((queries - mean) / scale) / weights.sum()


def test_it_is_the_posterior_mean_that_importance_weights_find():
    episodes = TASK.sample_episodes(4, 7)
    answers = posterior_mean(TASK, episodes.observations, particles=300, moves=10)
    assert answers.shape == episodes.targets.shape
    assert answers.dtype == np.float32
    np.testing.assert_array_equal(answers[:, :6, 0], episodes.observations[:, :6, -2])
    expected = np.stack([by_weights(TASK, episode) for episode in episodes.observations])
    assert np.sqrt(np.mean((answers[:, 6:, 0] - expected) ** 2)) < 0.06


@pytest.mark.slow
def test_it_beats_the_best_linear_prediction():
    task = Regression(kind="mlp")
    episodes = task.sample_episodes(100, 3)
    answers = posterior_mean(task, episodes.observations, particles=128)
    score, linear = (
        task.score(each, episodes) for each in (answers, task.oracle(episodes.observations))
    )
    assert score < 0.9 * linear


def test_answers_follow_from_the_seed_and_from_what_was_shown():
    episodes = TASK.sample_episodes(9, 1)
    answers = posterior_mean(TASK, episodes.observations, particles=16, seed=2)
    np.testing.assert_array_equal(
        answers, posterior_mean(TASK, episodes.observations, particles=16, seed=2)
    )
    other = posterior_mean(TASK, episodes.observations, particles=16, seed=3)
    assert not np.array_equal(answers, other)


@pytest.mark.parametrize(
    ("task", "arguments", "match"),
    [
        (Regression(), {}, "task must be of kind 'mlp', got 'linear'"),
        (TASK, {"particles": 7}, "particles must be an integer of at least 8, got 7"),
        (TASK, {"moves": 0}, "moves must be an integer of at least 1, got 0"),
        (TASK, {"seed": -1}, "seed must be an integer of at least 0, got -1"),
    ],
)
def test_what_cannot_be_sampled_is_refused(task, arguments, match):
    observations = task.sample_episodes(1, 0).observations
    with pytest.raises(ValueError, match=match):
        posterior_mean(task, observations, **arguments)
