"""Actions that no environment asked for, in the middle of episodes.

A twin with the same seed never hears of the odd action. If it is refused, the episode must go on as
the twin's does; if it is taken, as if the twin had been given the same numbers plainly.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

import plastic_envs
from benchmarks.fuzz.case import Case, WrongError

SMALL: dict[str, dict[str, Any]] = {
    "PlasticFewShot-v0": {"n_way": 2, "n_query": 6},
    "PlasticMaze-v0": {"size": 5, "episode_length": 8},
}
ALONE: tuple[Any, ...] = (
    *(None, True, np.nan, np.inf, -np.inf, 1e300, 10**400, -1, 99, 2**63, 0.5, 1j, "", "x", b"x"),
    *(
        [],
        [[]],
        [[1], [1, 2]],
        {},
        {"x": 1},
        set(),
        object(),
        ...,
        int,
        range(3),
        np.array([], object),
    ),
    *(np.datetime64("now"), np.float16(0), np.float32("nan"), np.zeros((2, 2, 2)), np.zeros(0)),
    *(np.ma.masked, np.zeros(2, "i4,f4"), [None], ["0"], [True], memoryview(b"12")),
)
ENTRIES = (np.nan, np.inf, -np.inf, 1e300, -1, 99, 2**62, 0.5, 1j, None, "0", b"0", True, 10**400)
_TYPES = (np.float64, np.float16, np.int8, np.uint8, np.bool_, object, "U8", np.longdouble, ">f4")


def prepare(_: Path) -> Callable[[np.random.Generator, Path], Case]:
    """Return what makes a case."""
    return make_case


def make_case(rng: np.random.Generator, _: Path) -> Case:
    """Choose an environment, a step and an odd action."""
    env_id, seed = str(rng.choice(plastic_envs.ids())), int(rng.integers(1_000))
    made, draw = SMALL.get(env_id, {}), rng.random()
    mode = AutoresetMode("NextStep" if draw < 0.3 else "SameStep")

    def call() -> Any:
        if draw < 0.6:
            return gym.make_vec(env_id, num_envs=3, autoreset_mode=mode, **made)
        env = gym.make(env_id, **made)
        return env if draw < 0.8 else env.unwrapped

    how = (
        f"3 of {env_id}, {mode}" if draw < 0.6 else f"{env_id}{'' if draw < 0.8 else '.unwrapped'}"
    )
    env = call()
    env.action_space.seed(int(rng.integers(1_000)))
    before = int(rng.integers(5))
    action = _odd(env.action_space, rng)
    text = f"{how}: reset(seed={seed}), {before} random steps, then step({_text(action)})"
    return Case(text, lambda: _play(call, seed, before, action), ("action", "actions"))


def _odd(space: spaces.Space[Any], rng: np.random.Generator) -> Any:
    """Return an action of no sort, or a valid one that was changed a little."""
    if rng.random() < 0.4:
        return ALONE[rng.integers(len(ALONE))]
    action = np.asarray(space.sample())
    change = rng.integers(4)
    if change == 0:
        odd = action.astype(object)
        odd.reshape(-1)[rng.integers(odd.size)] = ENTRIES[rng.integers(len(ENTRIES))]
        return odd.tolist() if rng.random() < 0.5 else _plain(odd)
    if change == 1:
        return action.astype(_TYPES[rng.integers(len(_TYPES))])
    if change == 2:
        shapes = (
            action[None],
            action[..., None],
            action.reshape(-1)[:-1],
            np.append(action, action),
        )
        return shapes[rng.integers(len(shapes))]
    return action.tolist()


def _plain(values: Any) -> Any:
    """Return an array of numbers where there are numbers only."""
    try:
        return np.array(values.tolist())
    except (ValueError, OverflowError):
        return values


def _play(call: Callable[[], Any], seed: int, before: int, action: Any) -> None:
    """Give the action to one of two twins; let both go on to the end of the next episode."""
    odd, twin = call(), call()
    for env in (odd, twin):
        env.reset(seed=seed)
        env.action_space.seed(seed)
    for _ in range(before):
        _step_both(odd, twin)
    refusal = None
    try:
        taken = odd.step(action)
    except (ValueError, TypeError, gym.error.Error) as error:
        refusal = error
    else:
        _compare(taken, twin.step(_meant(action, twin.action_space)))
    for _ in range(2 * odd.unwrapped.task.num_steps):
        _step_both(odd, twin)
    if refusal is not None:
        raise refusal


def _meant(action: Any, space: spaces.Space[Any]) -> Any:
    """Return an action that was taken, plainly; raise WrongError if it is none."""
    discrete = isinstance(space, spaces.Discrete | spaces.MultiDiscrete)
    try:
        meant = np.asarray(action)
        if meant.dtype.kind not in ("iu" if discrete else "biuf"):
            raise WrongError(f"an action of {meant.dtype} is taken without complaint")
        meant = meant.astype(space.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise WrongError("an action without numbers is taken without complaint") from error
    if meant.shape != space.shape or not np.isfinite(meant).all():
        raise WrongError("an action of another shape, or not finite, is taken without complaint")
    return meant


def _step_both(odd: Any, twin: Any) -> None:
    action = twin.action_space.sample()
    outcomes = []
    for env in (odd, twin):
        outcome = env.step(action)
        if not isinstance(env, VectorEnv) and (outcome[2] or outcome[3]):
            outcome = (*outcome, env.reset())
        outcomes.append(outcome)
    _compare(*outcomes)


def _compare(one: Any, other: Any) -> None:
    """Raise WrongError if what two steps returned differs, or is not finite."""
    if isinstance(one, dict):
        same = one.keys() == other.keys()
        pairs = list(zip(one.values(), other.values(), strict=True)) if same else []
    elif isinstance(one, tuple | list) or (isinstance(one, np.ndarray) and one.dtype == object):
        same, pairs = len(one) == len(other), list(zip(one, other, strict=False))
    else:
        same, pairs = np.array_equal(one, other), []
        if not np.isfinite(np.asarray(one, float)).all():
            raise WrongError(f"a step returns {one}")
    if not same:
        raise WrongError(f"the episode is not that of the twin: {one} and {other}")
    for pair in pairs:
        _compare(*pair)


def _text(action: Any) -> str:
    return f"{type(action).__name__} {action!r}"[:200]
