"""Arguments of everything public, one or two of them odd at a time.

A case is a Python expression. An odd value that is taken must fit its type and be of use; a valid
one must be taken in any form.
"""

import dataclasses
import enum
import inspect
import typing
from collections.abc import Callable
from collections.abc import Callable as AbstractCallable
from fractions import Fraction
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv

import agents.sb3
import plastic_envs.images
import plastic_envs.tasks
import plastic_envs.wrappers
import train.reinforcement.config
from agents.vision.encoders import ImageEncoder
from benchmarks.fuzz.case import Case, WrongError
from benchmarks.fuzz.surface import Target, targets
from plastic_envs import Task, TaskEnv
from plastic_envs.images import ImageSource
from train.reinforcement.config import RLConfig
from train.supervised.config import TrainConfig

_TEXT = """
None; True; False; 0; 1; -1; 2; 0.5; -0.5; 1.0; 1e300; -1e300; nan; inf; -inf; 10**8; 10**12; 2**31;
2**63; 10**400; -10**400; 1j; Fraction(1, 3); One.ONE; np.int64(2); np.float32('nan'); np.array(2);
np.bool_(True); np.zeros(3); np.array([nan]); np.array([], object); np.zeros((2, 2), np.uint8);
torch.zeros(2); ''; 'x'; 'rnn'; b'x'; chr(0); chr(0xD800); 'x' * 10**6; Path('/nowhere'); [];
[1]; (1, 2); (2, 1); {}; {'x': 1}; set(); [[1], 2]; [[[[[[]]]]]]; [0] * 10**6; range(10**9);
object(); type; int; lambda *_: 0; Ellipsis; Unshowable(); Unequal(); gym.spaces.Discrete(2)
"""
ODD = " ".join(_TEXT.split()).split("; ")
"""Odd values, as expressions."""

_MAY_BE_NEGATIVE = ("log_std_init", "ent_coef")
_UP_TO_ONE = ("gamma", "gae_lambda")


class Unshowable:
    """An object whose representation cannot be had."""

    def __repr__(self) -> str:
        raise RuntimeError("no representation")


class Unequal:
    """An object that cannot be compared, as arrays of two cannot."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")


class One(enum.IntEnum):
    """An integer that is not written as one."""

    ONE = 1


_NAMES = {
    "gym": gym,
    "np": np,
    "torch": torch,
    "Path": Path,
    "Fraction": Fraction,
    "agents": agents,
    "plastic_envs": plastic_envs,
    "train": train,
    "nan": float("nan"),
    "inf": float("inf"),
    "Unshowable": Unshowable,
    "Unequal": Unequal,
    "One": One,
}


def prepare(_: Path) -> Callable[[np.random.Generator, Path], Case]:
    """Find what is public; return what makes a case of it."""
    found = list(targets())

    def make(rng: np.random.Generator, _: Path) -> Case:
        target = found[rng.integers(len(found))]
        names = list(target.parameters)
        if not names:
            return Case(target.call.format(""), lambda: _made(target.call.format("")), ())
        chosen = rng.permutation(names)[: 1 if rng.random() < 0.8 else 2].tolist()
        if rng.random() < 0.2 and not target.unknown and (same := _same(target, chosen[0], rng)):
            return _valid_case(target, chosen[0], same)
        odd = {name: ODD[rng.integers(len(ODD))] for name in chosen}
        return _odd_case(target, odd)

    return make


def _same(target: Target, name: str, rng: np.random.Generator) -> str | None:
    """Return another way to write the valid value of an argument, if there is one."""
    text = target.valid.get(name)
    value = target.parameters[name].default if text is None else eval(text, dict(_NAMES))
    if isinstance(value, bool):
        return f"np.bool_({value})"
    if isinstance(value, int) and not isinstance(value, enum.Enum):
        kinds = ["np.int64({})", "np.uint8({})"] if 0 <= value < 256 else ["np.int64({})"]
        return str(rng.choice(kinds)).format(value)
    if isinstance(value, float):
        return str(rng.choice(["np.float64({})", "{}"])).format(value)
    return repr(value) if value is None or isinstance(value, str) else None


def _valid_case(target: Target, name: str, same: str) -> Case:
    text = _written(target, {name: same})

    def run() -> None:
        try:
            made = _made(text)
        except (ValueError, TypeError) as error:
            raise WrongError(f"refused, though it is valid: {error}") from error
        comparable = dataclasses.is_dataclass(made) and type(made).__eq__ is not object.__eq__
        if comparable and made != _made(_written(target, {})):
            raise WrongError(f"{made} is not what the plain value makes")

    return Case(text, run, (name,))


def _odd_case(target: Target, odd: dict[str, str]) -> Case:
    text = _written(target, odd)

    def run() -> None:
        made = _made(text)
        for name, value in odd.items():
            _check_fits(name, eval(value, dict(_NAMES)), target.parameters[name].annotation)
        _use(made)

    called = any(_is_called(eval(v, dict(_NAMES)), target.parameters[k]) for k, v in odd.items())
    names = () if called else (*odd, *target.unknown)
    return Case(text, run, names, (ValueError, TypeError, OSError), (gym.error.Error,))


def _written(target: Target, given: dict[str, str]) -> str:
    return target.call.format(", ".join(f"{k}={v}" for k, v in {**target.valid, **given}.items()))


def _made(text: str) -> Any:
    """Evaluate a call; what it registers is forgotten."""
    registry = dict(gym.registry)
    try:
        return eval(text, dict(_NAMES))
    finally:
        gym.registry.clear()
        gym.registry.update(registry)


def _check_fits(name: str, value: Any, hint: Any) -> None:
    """Raise WrongError if a value that was taken is not what its type says, or is nonsense."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not _fits(value, hint) or (number and name not in _MAY_BE_NEGATIVE and value < 0):
        raise WrongError(f"{name} is taken without complaint, but is to be {hint}")
    if number and ((name in _UP_TO_ONE and value > 1) or (value == np.inf and "max" not in name)):
        raise WrongError(f"{name} is taken without complaint, but is too large")


def _is_called(value: Any, parameter: inspect.Parameter) -> bool:
    """Say whether a value is a function where one is asked for: what it raises is its affair."""
    hints = (parameter.annotation, *get_args(parameter.annotation))
    return callable(value) and any(get_origin(hint) in (AbstractCallable, type) for hint in hints)


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin is typing.Annotated:
        return _fits(value, parts[0])
    if origin in (tuple, list):
        if not isinstance(value, tuple | list | np.ndarray):
            return False
        any_length = origin is list or Ellipsis in parts
        every = [parts[0]] * len(value) if any_length else list(parts)
        return len(every) == len(value) and all(map(_fits, value, every))
    if hint is bool or isinstance(value, bool | np.bool_):
        return hint in (bool, Any, object) and isinstance(value, bool | np.bool_)
    if hint is int:
        return isinstance(value, Integral)
    if hint is float:
        return isinstance(value, Real) and value == value
    if hint is None or hint is type(None):
        return value is None
    if origin is np.ndarray or isinstance(hint, typing.TypeVar | typing.ForwardRef):
        return True
    return not inspect.isclass(origin or hint) or isinstance(value, origin or hint)


def _use(made: Any) -> None:
    """Use what was made a little; it must not fail any more."""
    if isinstance(made, ImageSource):
        made.load("train")
        return
    try:
        if isinstance(made, Task):
            made = TaskEnv(made)
        if isinstance(made, gym.Env | VectorEnv):
            shown = made.reset(seed=0)[0], made.step(made.action_space.sample())[0]
            if not all(part in made.observation_space for part in shown):
                raise WrongError("an observation is not in its space")
        elif isinstance(made, VecEnv):
            made.reset()
            made.step(np.stack([made.action_space.sample()] * made.num_envs))
        elif hasattr(made, "initial_state") and hasattr(made, "input_size"):  # a core
            made(torch.zeros(2, 3, made.input_size))
        elif isinstance(made, ImageEncoder):
            made(torch.zeros(2, *made.image_shape).permute(0, 3, 1, 2))
        elif (
            isinstance(made, TrainConfig | RLConfig)
            and type(made).from_json(made.to_json()) != made
        ):
            raise WrongError("the settings are others after they were written and read")
    except (ValueError, TypeError, ArithmeticError, MemoryError, RuntimeError) as error:
        raise WrongError(
            f"it is made, but then {type(error).__name__}: {str(error)[:200]}"
        ) from error
