"""Checks of arguments, for all packages: the value in its plain form, or what is wrong with it.

Errors name the argument, show its value (shortened, however large it is) and tell what would be
right. This module needs nothing but NumPy.
"""

import math
import os
import reprlib
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TypeVar

import numpy as np

_T = TypeVar("_T")

LARGEST = 2**31 - 1
"""Largest integer that an argument may be, unless it is told otherwise."""

_SHOWN = 120  # characters


class _Short(reprlib.Repr):
    """Shows any value in bounded time and space, and never fails."""

    def __init__(self) -> None:
        super().__init__()
        self.maxother = self.maxstring = _SHOWN

    def repr_int(self, x: int, level: int) -> str:
        bits = x.bit_length()
        return super().repr_int(x, level) if bits < 1_000 else f"an integer of {bits} bits"


_short = _Short()


def shown(value: object) -> str:
    """Return the representation of a value, shortened, for an error message."""
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"an array {value.dtype} {list(value.shape)}"
    text = _short.repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def check_int(name: str, value: object, *, minimum: int = 0, maximum: int = LARGEST) -> int:
    """Return an integer, NumPy's included, as an int.

    Raises:
        ValueError: If it is none (a bool is none), or out of range.
    """
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if is_integer and minimum <= value <= maximum:  # type: ignore[operator]
        return int(value)  # type: ignore[call-overload,no-any-return]
    bounds = f"at least {minimum}"
    if maximum != LARGEST or (is_integer and value > maximum):  # type: ignore[operator]
        bounds += f" and at most {maximum}"
    raise ValueError(f"{name} must be an integer of {bounds}, got {shown(value)}")


def check_number(
    name: str,
    value: object,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """Return a finite real number, NumPy's included, as a float.

    Args:
        name: Of the argument.
        value: The number.
        minimum: Least value.
        maximum: Largest value.
        above: What it must exceed.
        below: What it must stay below.

    Raises:
        ValueError: If it is none (a bool is none), not finite, or out of range.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number) and minimum <= number <= maximum and above < number < below:
            return number
    bounds = {"of at least": minimum, "of at most": maximum, "above": above, "below": below}
    limits = [f"{word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound)]
    wanted = f"a finite number {' and '.join(limits)}".rstrip()
    raise ValueError(f"{name} must be {wanted}, got {shown(value)}")


def check_bool(name: str, value: object) -> bool:
    """Return True or False, NumPy's included, as a bool.

    Raises:
        ValueError: If it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def check_choice(name: str, value: object, choices: Iterable[_T]) -> _T:
    """Return the one of some choices that a value is.

    Raises:
        ValueError: If it is none of them.
    """
    known = list(choices)
    for choice in known:
        if type(value) is type(choice) and value == choice:
            return choice
    raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {shown(value)}")


def check_instance(name: str, value: object, kind: type[_T], wanted: str) -> _T:
    """Return a value that is of a class.

    Args:
        name: Of the argument.
        value: What should be of the class.
        kind: The class.
        wanted: What would be right, such as "a torch.Generator or None".

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")
    return value


def check_count(what: str, count: int, maximum: int, /, **arguments: object) -> None:
    """Refuse, before memory is taken, what arguments make too large together.

    Args:
        what: What is counted.
        count: How much of it there would be.
        maximum: How much there may be.
        **arguments: Those that make it so much.

    Raises:
        ValueError: If there is more.
    """
    if count > maximum:
        given = ", ".join(f"{name}={shown(value)}" for name, value in arguments.items())
        raise ValueError(
            f"{given} is too large: {what} would be {count:.3g} numbers, more than {maximum:.3g}"
        )


def _as_float(value: object) -> float:
    """Return a real number as a float, and NaN for anything else."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


LARGEST_EPISODE = 2**30
"""Bytes that one episode may take."""

LARGEST_BATCH = 2**34
"""Bytes that episodes drawn at once, or a memory of observations, may take."""

_LARGEST_SEED = 2**128 - 1  # as much as NumPy draws for a seed of its own


def check_seed(name: str, value: object) -> int:
    """Return an integer that starts a random stream, NumPy's included, as an int.

    Raises:
        ValueError: If it is none, or out of range.
    """
    return check_int(name, value, maximum=_LARGEST_SEED)


def check_bytes(what: str, size: int, largest: int, /, **arguments: object) -> None:
    """Check that something is not too large to be made.

    Args:
        what: What takes the memory.
        size: How much, in bytes.
        largest: How much it may take.
        **arguments: Those that make it so large.

    Raises:
        ValueError: If it is larger.
    """
    if size > largest:
        given = ", ".join(f"{name}={shown(value)}" for name, value in arguments.items())
        need = f"{size:,}" if size < 10**24 else f"10**{len(str(size)) - 1}"
        raise ValueError(f"{given} is too large: {what} takes {need} bytes, of {largest:,} allowed")


def check_interval(name: str, value: object) -> tuple[float, float]:
    """Return lower and upper bound, which may be infinite, as a pair of floats.

    Raises:
        ValueError: If there are not two numbers, or the lower one is above the upper one.
    """
    pair = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(pair, list | tuple) and len(pair) == 2:
        low, high = map(_as_float, pair)
        if low <= high:
            return low, high
    raise ValueError(f"{name} must be a pair of numbers (lowest, highest), got {shown(value)}")


def check_text(name: str, value: object) -> str:
    """Return a text as a str.

    Raises:
        ValueError: If it is none.
    """
    return str.__str__(check_instance(name, value, str, "a text"))


def check_path(name: str, value: object) -> str:
    """Return a path as a str.

    Raises:
        ValueError: If it is none, or of bytes.
    """
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else value
    if not isinstance(path, str):
        raise ValueError(f"{name} must be a path, got {shown(value)}")
    return str.__str__(path)
