"""Few-shot regression: infer a function from examples given within the episode."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.spaces import BoolArray, FloatArray, box
from plastic_envs.tasks.draws import NORMAL_BOUND, even, normals, split, symmetric
from plastic_envs.tasks.sequence import Episodes, SquaredErrorTask

Kind = Literal["linear", "mlp"]

_HIDDEN_UNITS = 2
_CLOSE = 0.05  # an answer this near counts for the share that some papers report
_DEFAULT_INPUT_SIZE = {"linear": 12, "mlp": 6}


@dataclass(frozen=True)
class Regression(SquaredErrorTask):
    """Learn a random function from noisy examples, then predict its values.

    ## Description
    The few-shot regression task of Duan et al. (arXiv 2302.03235). Every episode draws a new
    function. First come `num_support` points with their noisy value, then `num_query` points whose
    value must be predicted. No query repeats what was shown: the mapping must be inferred.

    ## Observation space
    `Box`, float32 `[input_size + 2]`: the point, its value (0 for a query), and a flag that is 1
    for a support point.

    ## Action space
    `Box`, float32 `[1]`: the value of this point. Values are standardised over the
    n = num_support + num_query points of an episode, so none can exceed (n - 1) / √n: that is the
    bound. Not clipped.

    ## Reward
    At query points `-(action - target)**2`, otherwise 0.

    ## Starting state
    Points U(-1, 1). `linear`: weights and bias U(±1/√input_size). `mlp`: two tanh units, weights
    and biases of each layer U(±1/√fan_in). The values of an episode are shifted and scaled to
    mean 0 and (n - 1)-normalised variance 1 over all its points; then N(0, noise²) is added to the
    support values that are shown.

    ## Episode end
    Terminates after `num_support + num_query` steps.

    ## Scores
    Mean squared error over the query points. Best without memory: (n - 1) / n (answer 0). Random
    answers: (n - 1) / n + ((n - 1)² / n) / 3. No optimum is known in closed form; `oracle` is the
    best linear predictor (kernel ridge under the task's own prior), close to the optimum for
    `linear` and a reference rather than a limit for `mlp`, whose posterior mean is in
    `plastic_envs.tasks.sequences.posterior`.

    ## Version history
    - v0: first version.

    Attributes:
        kind: `"linear"` or `"mlp"`.
        input_size: Entries of a point, at least 1; by default 12 for linear and 6 for mlp.
        num_support: Points with a value, at least 1. The paper uses 10 and 20.
        num_query: Points without, at least 1.
        noise: Standard deviation of the label noise, from 0 to a million.
    """

    kind: Kind = "linear"
    input_size: int | None = None
    num_support: int = 20
    num_query: int = 20
    noise: float = 0.1

    oracle_name: ClassVar[str] = "ridge regression"

    def __post_init__(self) -> None:
        """Check the arguments."""
        self.check_choices(kind=get_args(Kind))
        if self.input_size is not None:
            self.check_integers(input_size=1)
        self.check_integers(num_support=1, num_query=1)
        self.check_numbers(noise=0)
        self.check_size()

    @property
    def num_steps(self) -> int:
        return self.num_support + self.num_query

    @property
    def num_inputs(self) -> int:
        """Entries of a point: `input_size`, or its default for this kind."""
        return self.input_size or _DEFAULT_INPUT_SIZE[self.kind]

    @property
    def observation_space(self) -> spaces.Box:
        value = self._value_bound + self.noise * NORMAL_BOUND
        return box([-1.0] * self.num_inputs + [-value, 0], [1.0] * self.num_inputs + [value, 1])

    @property
    def action_space(self) -> spaces.Box:
        return box([-self._value_bound], [self._value_bound])

    @property
    def observation_labels(self) -> list[str]:
        return [f"x {i}" for i in range(self.num_inputs)] + ["value", "support"]

    @property
    def chance_score(self) -> float:
        return 1 - 1 / self.num_steps

    def measures(
        self, rewards: NDArray[np.float64], scored: BoolArray
    ) -> dict[str, NDArray[np.float64]]:
        close = (rewards >= -(_CLOSE**2)) & scored
        return {
            **super().measures(rewards, scored),
            "within_0.05": close.sum(axis=1) / scored.sum(axis=1),
        }

    def oracle(self, observations: FloatArray) -> FloatArray:
        """Answer with the best linear prediction from the support values.

        With k the covariance of the values under the task's prior, scaled to the unit variance of
        the standardisation, the answer to a query x is k(x, X) (k(X, X) + noise² I)⁻¹ y: ridge
        regression with matched prior for `linear`.
        """
        blocks = [
            observations[i : i + 64] for i in range(0, len(observations), 64)
        ]  # bounds memory
        return np.concatenate([self._predict(block) for block in blocks])

    def _predict(self, observations: FloatArray) -> FloatArray:
        answers = np.zeros((*observations.shape[:2], 1), np.float32)
        shown = self.num_support
        answers[:, :shown, 0] = observations[:, :shown, -2]
        features = self._prior_features(observations[..., :-2].astype(np.float64))
        support, query = features[:, :shown], features[:, shown:]  # k(a, b) = features of a · of b
        covariance = support @ support.transpose(0, 2, 1)
        covariance += max(self.noise**2, 1e-8) * np.eye(shown)
        weights = np.linalg.solve(covariance, observations[:, :shown, -2:-1].astype(np.float64))
        answers[:, shown:] = query @ (support.transpose(0, 2, 1) @ weights)
        return answers

    def _prior_features(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.kind == "linear":
            # ‖w‖² E[x²] = 1 after standardisation.
            features = points * math.sqrt(3 / self.num_inputs)
        else:
            features = _values_of(points, self._sampled_functions)
        # Values are shifted by the mean of the sample, which is off by about this much.
        bias = np.full((*points.shape[:-1], 1), 1 / math.sqrt(self.num_steps))
        return np.concatenate([features, bias], axis=-1)

    @cached_property
    def _sampled_functions(self) -> list[NDArray[np.float64]]:
        """Parameters of functions of the `mlp` prior, standardised, whose mean product is k."""
        count, calibration = 2048, 512
        rng = np.random.default_rng(0)
        draws = rng.random((count, self._draws_per_function), dtype=np.float32)
        w1, b1, w2, b2 = (a.astype(np.float64) for a in self._function_of(draws))
        points = rng.uniform(-1, 1, (calibration, self.num_inputs))
        values = _values_of(points, [w1, b1, w2, b2])
        scale = 1 / (values.std(axis=0) * math.sqrt(count))
        return [w1, b1, w2 * scale[:, None], (b2 - values.mean(axis=0)) * scale]

    @property
    def _value_bound(self) -> float:
        return (self.num_steps - 1) / math.sqrt(self.num_steps)

    @property
    def _draws_per_function(self) -> int:
        if self.kind == "linear":
            return self.num_inputs + 1
        return _HIDDEN_UNITS * (self.num_inputs + 2) + 1

    @property
    def draws_per_episode(self) -> int:
        points = self.num_steps * self.num_inputs
        return self._draws_per_function + points + even(self.num_support)

    def _function_of(self, draws: FloatArray) -> list[FloatArray]:
        """Return the `mlp` parameters W1 [B, d, 2], b1 [B, 2], w2 [B, 2], b2 [B]."""
        units, size = _HIDDEN_UNITS, self.num_inputs
        first = symmetric(draws[:, : units * (size + 1)], 1 / math.sqrt(size))
        second = symmetric(draws[:, units * (size + 1) :], 1 / math.sqrt(units))
        w1 = first[:, : units * size].reshape(-1, size, units)
        return [w1, first[:, units * size :], second[:, :units], second[:, units]]

    def begin(self, draws: FloatArray) -> Episodes:
        batch, steps, shown, size = len(draws), self.num_steps, self.num_support, self.num_inputs
        function_draws, point_draws, noise_draws = split(
            draws, self._draws_per_function, steps * size
        )
        points = symmetric(point_draws).reshape(batch, steps, size)
        if self.kind == "linear":
            weights = symmetric(function_draws, 1 / math.sqrt(size))[..., None]
            values = (points @ weights[:, :-1])[..., 0] + weights[:, -1]
        else:
            w1, b1, w2, b2 = self._function_of(function_draws)
            hidden = np.tanh(points @ w1 + b1[:, None])
            values = (hidden @ w2[..., None])[..., 0] + b2[:, None]
        values = _standardised(values)

        observations = np.zeros((batch, steps, size + 2), np.float32)
        observations[..., :-2] = points
        noise = normals(noise_draws)[:, :shown] * np.float32(self.noise)
        observations[:, :shown, -2] = values[:, :shown] + noise
        observations[:, :shown, -1] = 1
        scored = np.zeros((batch, steps), np.bool_)
        scored[:, shown:] = True
        return Episodes(observations, values[..., None], scored)


def _standardised(values: FloatArray) -> FloatArray:
    """Shift and scale values [B, n] to mean 0 and variance 1 (n - 1 in the denominator)."""
    exact = values.astype(np.float64)  # in float32 a flat function could leave its bound
    exact -= exact.mean(axis=1, keepdims=True)
    spread = exact.std(axis=1, keepdims=True, ddof=1)
    return np.asarray(exact / np.maximum(spread, 1e-30), np.float32)


def _values_of(
    points: NDArray[np.float64], functions: list[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the values [..., M] of M two-layer functions at points [..., d]."""
    w1, b1, w2, b2 = functions
    total = np.broadcast_to(b2, (*points.shape[:-1], len(b2))).copy()
    for unit in range(w1.shape[-1]):
        total += np.tanh(points @ w1[..., unit].T + b1[:, unit]) * w2[:, unit]
    return total
