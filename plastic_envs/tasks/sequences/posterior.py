"""What examples of a small random network tell of it: its posterior, by sampling.

The oracle of `Regression` is linear in the values that it is shown. For `kind="mlp"` that is not
the best there is: the mean of the posterior is, and here it is worked out as closely as one likes.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plastic_envs.checks import check_int
from plastic_envs.spaces import FloatArray
from plastic_envs.tasks.draws import symmetric
from plastic_envs.tasks.sequences.regression import Regression

_Array = NDArray[np.float32]

_BLOCK = 8  # episodes at a time, which bounds the memory
_LEAST_NOISE = 0.01  # so that there is a density for tasks without noise
_ACCEPTED = 0.25  # share of moves, which the size of steps is adapted to


class _Particles(NamedTuple):
    """Networks that may be the one that was shown.

    Attributes:
        parameters: [B, P, D]: first-layer weights, biases, and weights of the second layer.
        points: [B, P, num_query, d], where its values are standardised besides where they are
            shown.
    """

    parameters: _Array
    points: _Array


def posterior_mean(
    task: Regression,
    observations: FloatArray,
    *,
    particles: int = 128,
    moves: int = 8,
    seed: int = 0,
) -> FloatArray:
    """Answer queries of `kind="mlp"` with the posterior mean given the support values.

    Sequential Monte Carlo: networks are drawn from the prior of the task, each with query points of
    its own, since values are standardised over points that are not known yet. The likelihood
    N(values, noise²) of what was shown is let in step by step, so that half of the networks count
    effectively; they are drawn again by their weights, and moved by random-walk Metropolis steps.
    The two units are told apart by their outer weight, and signs are fixed, as the function allows.

    Source of the method: Del Moral, Doucet, Jasra 2006.

    Args:
        task: The task, `kind="mlp"`.
        observations: Whole episodes [B, T, d + 2].
        particles: Networks for each episode, at least 8.
        moves: Metropolis steps after each step of the likelihood.
        seed: Of the networks.

    Returns:
        Answers [B, T, 1]; to support points, the value that is shown.

    Raises:
        ValueError: If the task is of another kind, or an argument is out of range.
    """
    if task.kind != "mlp":
        raise ValueError(f"task must be of kind 'mlp', got {task.kind!r}")
    count = check_int("particles", particles, minimum=8)
    moves = check_int("moves", moves, minimum=1)
    rng = np.random.default_rng(check_int("seed", seed))
    blocks = [observations[i : i + _BLOCK] for i in range(0, len(observations), _BLOCK)]
    return np.concatenate([_Posterior(task, b, count, moves, rng).answers() for b in blocks])


class _Posterior:
    """The posterior of some episodes."""

    def __init__(
        self,
        task: Regression,
        observations: FloatArray,
        particles: int,
        moves: int,
        rng: np.random.Generator,
    ) -> None:
        self.rng, self.moves = rng, moves
        self.size, self.shown = task.num_inputs, task.num_support
        self.observations = observations
        self.x = observations[:, None, :, :-2]
        self.y = observations[:, None, : self.shown, -2]
        self.noise = max(task.noise, _LEAST_NOISE)
        self.free = len(observations), particles, task.num_query, self.size
        inner, outer = [1 / np.sqrt(self.size)] * (2 * self.size + 2), [1 / np.sqrt(2)] * 2
        self.bounds = np.array([*inner, *outer], np.float32)

    def answers(self) -> FloatArray:
        """Sample, and answer."""
        particles = self._sampled()
        _, mean, scale = self._shown_values(particles)
        queries = _network(particles.parameters, self.x[:, :, self.shown :])
        answers = self.observations[..., -2:-1].copy()
        answers[:, self.shown :, 0] = ((queries - mean) / scale).mean(axis=1)
        return answers

    def _sampled(self) -> _Particles:
        rng, (batch, count, *_) = self.rng, self.free
        drawn = rng.random((batch, count, len(self.bounds)), dtype=np.float32)
        parameters = symmetric(drawn) * self.bounds
        parameters[..., -2:] = np.sort(np.abs(parameters[..., -2:]), axis=-1)
        points = symmetric(rng.random(self.free, dtype=np.float32))
        particles = _Particles(parameters, points)
        fit = self._fit(particles)
        power, step = np.zeros((batch, 1), np.float32), np.ones((batch, 1, 1), np.float32)
        while (power < 1).any():
            before, power = power, _next_power(fit, power)
            keep = _drawn_again((power - before) * fit, rng)
            particles = _Particles(*(_taken(part, keep) for part in particles))
            fit = np.take_along_axis(fit, keep, axis=1)
            for _ in range(self.moves):
                particles, fit, accepted = self._moved(particles, fit, power, step)
                step = step * np.exp(accepted - _ACCEPTED)[:, None, None]
                other = particles._replace(points=self._one_moved(particles.points))
                particles, fit, _ = self._chosen(particles, fit, other, power)
        return particles

    def _moved(
        self, particles: _Particles, fit: _Array, power: _Array, step: _Array
    ) -> tuple[_Particles, _Array, _Array]:
        """Take a Metropolis step, as wide as the networks lie apart."""
        parameters = particles.parameters
        apart = parameters - parameters.mean(axis=1, keepdims=True)
        dims = parameters.shape[-1]
        spread = apart.transpose(0, 2, 1) @ apart / apart.shape[1]
        factor = np.linalg.cholesky(spread + 1e-8 * np.eye(dims, dtype=np.float32))
        normal = self.rng.standard_normal(parameters.shape, dtype=np.float32)
        width = step * np.float32(2.38 / np.sqrt(dims))
        proposed = parameters + width * (normal @ factor.transpose(0, 2, 1))
        return self._chosen(particles, fit, particles._replace(parameters=proposed), power)

    def _chosen(
        self, particles: _Particles, fit: _Array, other: _Particles, power: _Array
    ) -> tuple[_Particles, _Array, _Array]:
        """Accept others, or not; return the particles, how well they fit, and the share [B]."""
        proposed = other.parameters
        within = (np.abs(proposed) <= self.bounds).all(-1)
        within &= (proposed[..., -2] >= 0) & (proposed[..., -1] >= proposed[..., -2])
        fit_of_other = self._fit(other)
        chance = np.exp(np.minimum(power * (fit_of_other - fit), 0))
        accept = within & (self.rng.random(fit.shape, dtype=np.float32) < chance)
        kept = _Particles(
            np.where(accept[..., None], other.parameters, particles.parameters),
            np.where(accept[..., None, None], other.points, particles.points),
        )
        return kept, np.where(accept, fit_of_other, fit), accept.mean(axis=1)

    def _fit(self, particles: _Particles) -> _Array:
        """Return the log likelihood [B, P] of what was shown, but for a constant."""
        values, mean, scale = self._shown_values(particles)
        apart = (self.y - (values - mean) / scale) / self.noise
        return np.asarray(-0.5 * np.square(apart).sum(axis=-1))

    def _shown_values(self, particles: _Particles) -> tuple[_Array, _Array, _Array]:
        """Return values [B, P, num_support] where they are shown, mean and scale [B, P, 1]."""
        parameters, points = particles
        values = _network(parameters, self.x[:, :, : self.shown])
        everywhere = np.concatenate([values, _network(parameters, points)], axis=-1)
        scale = everywhere.std(axis=-1, ddof=1, keepdims=True)
        return values, everywhere.mean(axis=-1, keepdims=True), np.maximum(scale, 1e-12)

    def _one_moved(self, points: _Array) -> _Array:
        """Return the points, one of which is drawn anew."""
        batch, count, free, size = self.free
        points = points.copy()
        drawn = self.rng.random((batch, count, size), dtype=np.float32)
        points[:, :, self.rng.integers(free)] = symmetric(drawn)
        return points


def _network(parameters: _Array, x: _Array) -> _Array:
    """Return the values [B, P, n] of networks at points [B, 1 or P, n, d], without their bias."""
    batch, count, dims = parameters.shape
    size = (dims - 4) // 2
    inner = parameters[..., : 2 * size].reshape(batch, count, size, 2)
    bias, outer = parameters[..., None, 2 * size : -2], parameters[..., -2:, None]
    return np.asarray((np.tanh(x @ inner + bias) @ outer)[..., 0])


def _next_power(fit: _Array, power: _Array) -> _Array:
    """Return the largest power of the likelihood at which half of the particles still count."""
    low, high = power, np.ones_like(power)
    for _ in range(24):
        middle = (low + high) / 2
        weights = _weights((middle - power) * fit)
        enough = 1 / np.square(weights).sum(axis=1, keepdims=True) >= fit.shape[1] / 2
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    last = _weights((1 - power) * fit)
    enough = 1 / np.square(last).sum(axis=1, keepdims=True) >= fit.shape[1] / 2
    return np.where(enough, np.float32(1), np.maximum(low, power + np.float32(1e-6)))


def _weights(logs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    weights = np.exp(logs.astype(np.float64) - logs.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _drawn_again(logs: _Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return which particles [B, P] are kept, drawn by their weights in even steps."""
    batch, count = logs.shape
    edges = np.cumsum(_weights(logs), axis=1)
    at = (np.arange(count) + rng.random((batch, 1))) / count
    found = [np.searchsorted(edge, row) for edge, row in zip(edges, at, strict=True)]
    return np.asarray(np.minimum(np.stack(found), count - 1), np.int64)


def _taken(part: _Array, keep: NDArray[np.int64]) -> _Array:
    index = keep.reshape(*keep.shape, *[1] * (part.ndim - 2))
    return np.asarray(np.take_along_axis(part, index, axis=1))
