"""How far local rules come on linear few-shot regression by themselves, without a network.

    python -m benchmarks.rules_alone --json

One linear unit learns each episode from its raw inputs, and a constant, in one pass over the
support points (but where more is said). The best of a few settings is chosen on episodes of one
seed and scored on those of the next.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import tyro
from numpy.typing import NDArray

from plastic_envs.tasks import Regression

Array = NDArray[np.float64]
Learner = Callable[..., Array]
"""Takes inputs [N, K, D], values [N, K] and settings; returns weights [N, D]."""

_CONSTANT = 0.3  # the entry that stands for a bias; values have mean 0


@dataclass
class Args:
    """Score local rules by themselves."""

    episodes: int = 500
    """Episodes of choosing settings, and of scoring."""
    num_support: int = 20
    """Points with a value."""
    seed: int = 0
    """Seed of the episodes for the choice; the next one is that of scoring."""
    json: bool = False
    """Print JSON lines instead of a table."""


def delta(x: Array, v: Array, rate: float, passes: int = 1) -> Array:
    """Δw = rate (v - w·x) x; with several passes over all points."""
    return replay(np.tile(x, (1, passes, 1)), np.tile(v, (1, passes)), rate, normalised=False)


def replay(
    x: Array, v: Array, rate: float, last: int = 1, sweeps: int = 1, *, normalised: bool = True
) -> Array:
    """Δw = rate (v - w·x) x / ‖x‖² on the last points, the newest first, at each step."""
    w = np.zeros_like(x[:, 0])
    for k, _ in product(range(x.shape[1]), range(sweeps)):
        for j in range(k, max(-1, k - last), -1):
            size = (x[:, j] ** 2).sum(1) if normalised else 1.0
            w += (rate / size * (v[:, j] - (w * x[:, j]).sum(1)))[:, None] * x[:, j]
    return w


def two_layers(x: Array, v: Array, rate: float, sweeps: int) -> Array:
    """Gradient steps of two linear layers, several on each example; returns their product."""
    size = x.shape[2]
    start = np.linalg.qr(np.random.default_rng(0).normal(size=(2 * size, size)))[0].T
    first, second = np.tile(start, (len(x), 1, 1)), np.zeros((len(x), 2 * size, 1))
    for k, _ in product(range(x.shape[1]), range(sweeps)):
        h = x[:, k, None] @ first
        step = rate * (v[:, k, None, None] - h @ second)
        by_first = x[:, k, :, None] * step * second.transpose(0, 2, 1)
        second = second + step * h.transpose(0, 2, 1)
        first = first + by_first
    return (first @ second)[..., 0]


def least_squares(x: Array, v: Array, prior: float, block: int | None = None) -> Array:
    """The preconditioned rule; with blocks, P is kept among so many neighbours alone."""
    size = x.shape[2]
    group = np.arange(size) // (block or size)
    joined = group[:, None] == group
    inverse = np.tile(prior * np.eye(size), (len(x), 1, 1))
    w = np.zeros_like(x[:, 0])
    for k in range(x.shape[1]):
        a = (inverse @ x[:, k, :, None])[..., 0]
        gain = a / (1 + (a * x[:, k]).sum(1, keepdims=True))
        w += (v[:, k] - (w * x[:, k]).sum(1))[:, None] * gain
        inverse -= gain[:, :, None] * a[:, None, :] * joined
    return w


def settled(x: Array, v: Array, prior: float, steps: int, momentum: float | None = None) -> Array:
    """Least squares by lateral inhibition: a ← a + ρ (x - a / prior - L a) with L = Σ x xᵀ.

    L is learned by Hebb's rule from the inputs alone. Without momentum ρ = 1 / trace, which a pool
    of inhibition could know; with it 1.9 over the largest eigenvalue, which nothing local knows.
    """
    size = x.shape[2]
    lateral = np.tile(np.eye(size) / prior, (len(x), 1, 1))
    w = np.zeros_like(x[:, 0])
    for k in range(x.shape[1]):
        lateral += x[:, k, :, None] * x[:, k, None]
        if momentum is None:
            rate = 1 / np.trace(lateral, axis1=1, axis2=2)
        else:
            rate = 1.9 / np.linalg.eigvalsh(lateral)[:, -1]
        a = before = np.zeros_like(w)
        for _ in range(steps):
            change = rate[:, None] * (x[:, k] - (lateral @ a[..., None])[..., 0])
            a, before = a + change + (momentum or 0) * (a - before), a
        w += (v[:, k] - (w * x[:, k]).sum(1))[:, None] * a
    return w


_RATES, _PRIORS = (0.1, 0.15, 0.2, 0.25, 0.3), (10.0, 30.0, 100.0)

LEARNERS: dict[str, tuple[Learner, tuple[float, ...]]] = {
    **{
        f"delta rule, passes: {n}": (partial(delta, passes=n), (0.03, 0.06, *_RATES))
        for n in (1, 2, 5, 10)
    },
    **{
        f"normalised delta rule, replaying the last {last}, sweeps: {n}": (
            partial(replay, last=last, sweeps=n),
            (0.5, 0.7, 1.0),
        )
        for last, n in ((1, 1), (1, 4), (4, 1), (8, 1), (8, 4), (20, 1), (20, 4))
    },
    **{
        f"two layers, steps on each example: {n}": (partial(two_layers, sweeps=n), (0.05, *_RATES))
        for n in (1, 4)
    },
    **{
        f"preconditioned, P in blocks of {b}": (partial(least_squares, block=b), _PRIORS)
        for b in (1, 2, 4, 6)
    },
    "preconditioned, P in full": (least_squares, _PRIORS),
    **{
        f"lateral inhibition, steps: {n}": (partial(settled, steps=n), _PRIORS)
        for n in (1, 4, 16, 64)
    },
    **{
        f"lateral inhibition with momentum, steps: {n}": (
            partial(settled, steps=n, momentum=0.6),
            _PRIORS,
        )
        for n in (4, 8, 16)
    },
}
"""What is compared, with the values of the one setting that is chosen."""


def main() -> None:
    """Score all rules and print a row for each."""
    args = tyro.cli(Args)
    task = Regression(num_support=args.num_support)
    chosen_on, scored_on = (_parts(task, args.episodes, args.seed + i) for i in range(2))
    observations = task.sample_episodes(args.episodes, args.seed + 1).observations
    oracle = task.oracle(observations)[:, task.num_support :, 0].astype(np.float64)
    _tell(args, "ridge regression", None, oracle - scored_on[3])
    for name, (learner, settings) in LEARNERS.items():
        errors = {value: _mean_square(_errors(learner, chosen_on, value)) for value in settings}
        best = min(errors, key=lambda value: errors[value])
        _tell(args, name, best, _errors(learner, scored_on, best))


def _parts(task: Regression, episodes: int, seed: int) -> tuple[Array, Array, Array, Array]:
    """Return support inputs and values, query inputs and targets of sampled episodes."""
    drawn, shown = task.sample_episodes(episodes, seed), task.num_support
    x = drawn.observations[..., :-1].astype(np.float64)
    v = x[..., -1].copy()
    x[..., -1] = _CONSTANT
    return x[:, :shown], v[:, :shown], x[:, shown:], drawn.targets[:, shown:, 0].astype(np.float64)


def _errors(learner: Learner, parts: tuple[Array, ...], setting: float) -> Array:
    x, v, queries, targets = parts
    with np.errstate(over="ignore", invalid="ignore"):  # a rate may be too high
        return (queries @ learner(x, v, setting)[..., None])[..., 0] - targets


def _mean_square(errors: Array) -> float:
    """Return the mean square, huge where it is no number."""
    bounded = np.where(np.abs(errors) < 1e100, errors, 1e100)
    return float((bounded**2).mean())


def _tell(args: Args, name: str, setting: float | None, errors: Array) -> None:
    per_episode = (errors**2).mean(1)
    record = {
        "rule": name,
        "setting": setting,
        "episodes": args.episodes,
        "error": round(float(per_episode.mean()), 4),
        "interval": round(1.96 * float(per_episode.std(ddof=1)) / len(errors) ** 0.5, 4),
        "within_0.05": round(float((np.abs(errors) < 0.05).mean()), 4),
    }
    if args.json:
        print(json.dumps(record), flush=True)
    else:
        print(
            f"{name:55s} {record['error']:.4f} ± {record['interval']:.4f}  "
            f"{record['within_0.05']:6.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
