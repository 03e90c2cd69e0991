"""Observations and answers as arrays, one or several in a dictionary: what is done to them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from plastic_envs.checks import shown

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]

Observations = Any
"""An array, or a dictionary of arrays, by an observation space."""

Rows = slice | int | NDArray[np.int64]
"""Some episodes of a batch, one, or all of them: a slice, which copies nothing."""

ALL = slice(None)

_FEW = 32


def mapped(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply a function to the arrays in dictionaries and (named) tuples of the same form."""
    if isinstance(tree, dict):
        return {k: mapped(function, v, *(other[k] for other in others)) for k, v in tree.items()}
    if isinstance(tree, tuple):
        parts = [mapped(function, *part) for part in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return function(tree, *others)


def at(tree: Any, index: Any) -> Any:
    """Index every array; the result may be a view."""
    if isinstance(tree, np.ndarray):
        return tree[index]  # the same, without detours
    return mapped(lambda array: array[index], tree)


def batch_size_of(observations: Observations) -> int:
    """Return the number B of observations [B, …]."""
    parts = observations.values() if isinstance(observations, dict) else [observations]
    return len(next(iter(parts)))


def rows_of(tree: Any, rows: Rows) -> Any:
    """Return some episodes of a batch, or the batch itself if it is all of them."""
    return tree if isinstance(rows, slice) else at(tree, rows)


def placed(tree: Any, part: Any, rows: Rows) -> Any:
    """Return a batch with the part in the place of some episodes; the batch stays as it was."""
    if isinstance(rows, slice):
        return part
    return mapped(lambda array, new: _written(array.copy(), new, rows), tree, part)


def put(whole: Any, part: Any, rows: Rows, count: int) -> Any:
    """Write a part of a batch of `count` into the whole, which is made if there is none yet."""
    if isinstance(rows, slice):
        return part
    if whole is None:
        whole = mapped(lambda new: np.zeros((count, *new.shape[1:]), new.dtype), part)
    return mapped(lambda array, new: _written(array, new, rows), whole, part)


def box(low: list[float], high: list[float]) -> spaces.Box:
    """Make a float32 Box from its bounds."""
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32), dtype=np.float32)


def bytes_of(space: spaces.Space[Any]) -> int:
    """Return how much memory one value of a space takes."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.values() if isinstance(space, spaces.Dict) else space
        return sum(bytes_of(part) for part in parts)
    return math.prod(space.shape or ()) * np.dtype(space.dtype or np.int64).itemsize


def table(observations: Observations) -> NDArray[np.floating]:
    """Lay out the observations of T steps, arrays [T, …], as a table [T, n] of their numbers."""
    parts = observations.values() if isinstance(observations, dict) else [observations]
    rows = [rows_of_numbers(part) for part in parts]
    return np.concatenate(rows, axis=1, dtype=np.result_type(np.float32, *rows))


def rows_of_numbers(array: NDArray[Any]) -> NDArray[Any]:
    """Lay out [T, …] as [T, n]; what has one axis gets a second one."""
    return array.reshape(len(array), math.prod(array.shape[1:]))


def labels_of(space: spaces.Space[Any], name: str = "input") -> list[str]:
    """Name each column of `table`."""
    if isinstance(space, spaces.Dict):
        return [label for key, part in space.items() for label in labels_of(part, key)]
    return [f"{name} {k}" for k in range(math.prod(space.shape or ()))]


def as_answer(
    action: Any,
    space: spaces.Box | spaces.Discrete,
    num_envs: int | None = None,
    counting: BoolArray | None = None,
) -> NDArray[Any]:
    """Return an action, or a batch of actions, in the form of the answers of a task.

    Args:
        action: What somebody gave to `step`.
        space: The action space of one environment.
        num_envs: How many actions there are, for a batch.
        counting: [num_envs], which are looked at; the others may be anything.

    Raises:
        ValueError: If there is another number of them, or one is not finite (as float32), or not in
            a discrete space. A box does not bound them.
    """
    single: tuple[int, ...] = space.shape or ()
    shape = single if num_envs is None else (num_envs, *single)
    try:
        answer = np.asarray(action)
    except ValueError:  # rows of different lengths
        answer = np.empty((0,), object)
    if answer.shape != shape:
        raise ValueError(f"the action must have shape {shape}, got {shown(action)}")
    first = 0 if isinstance(space, spaces.Box) else int(space.start)
    if answer.dtype.kind not in ("fiub" if isinstance(space, spaces.Box) else "iu"):
        raise _refusal(space, action)
    if counting is not None:
        answer = answer.copy()
        answer[~counting] = first
    if isinstance(space, spaces.Box):
        if answer.dtype == np.float32:
            answer = answer.copy()
        else:
            with np.errstate(over="ignore"):  # it becomes infinite
                answer = answer.astype(np.float32)
        if not _finite(answer):
            raise _refusal(space, action)
        return answer
    if np.count_nonzero((answer < first) | (answer >= first + int(space.n))):
        raise _refusal(space, action)
    return answer.astype(np.int64)


def checked_mask(options: dict[str, Any] | None, num_envs: int) -> BoolArray | None:
    """Return the `reset_mask` of the options, or None if there is none.

    Raises:
        TypeError: If it is no array of bools.
        ValueError: If it has another shape, or is false everywhere.
    """
    if options is None or "reset_mask" not in options:
        return None
    mask = options["reset_mask"]
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        raise TypeError(f"options['reset_mask'] must be an array of bools, got {shown(mask)}")
    if mask.shape != (num_envs,):
        raise ValueError(
            f"options['reset_mask'] must have shape ({num_envs},), one entry for each "
            f"sub-environment, got {mask.shape}"
        )
    if not mask.any():
        raise ValueError("options['reset_mask'] must be true somewhere, got all False")
    return mask.copy()


def _written(array: NDArray[Any], new: NDArray[Any], rows: Rows) -> NDArray[Any]:
    array[rows] = new
    return array


def _finite(answer: NDArray[np.float32]) -> bool:
    if answer.size == 1:
        return math.isfinite(answer.item())
    if answer.size <= _FEW:  # where NumPy's reductions cost more
        return all(map(math.isfinite, answer.ravel().tolist()))
    return bool(np.count_nonzero(np.isfinite(answer)) == answer.size)


def _refusal(space: spaces.Box | spaces.Discrete, action: Any) -> ValueError:
    wanted = "finite numbers that fit into float32"
    if isinstance(space, spaces.Discrete):
        wanted = f"an integer from {space.start} to {space.start + space.n - 1}"
    return ValueError(f"an action must be {wanted}, got {shown(action)}")
