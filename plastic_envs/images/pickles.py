"""Pickles that come from strangers: data are read from them, and nothing in them is run.

A pickle is a program that names functions and calls them. Here it can name none: each name that
data need stands for a substitute of this file, made of few checks, and every other name is refused.
Not even NumPy's own constructors are called as they are, since a forged dtype can make NumPy take
bytes for pointers.
"""

import copyreg
import math
import pickle
import re
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

_PLAIN_DTYPE = re.compile(r"[biufc][1-9]\d?|[SU][1-9]\d{0,6}")


def load_pickle(path: Path) -> Any:
    """Read numbers, texts, bytes, lists, tuples, dictionaries, sets and NumPy arrays of a pickle.

    Arrays hold numbers, texts or bytes, not objects. Texts of Python 2 become text (Latin-1).

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is damaged, or asks for anything else; nothing was run then.
    """
    with path.open("rb") as file:
        return read_pickle(file, str(path))


def read_pickle(file: IO[bytes], name: str) -> Any:
    """Read a pickle out of an open file, as `load_pickle` does; `name` is for errors."""
    # What an ordinary unpickler once found for an extension code is handed out again without
    # asking `find_class`; after this it is asked.
    copyreg.clear_extension_cache()
    try:
        return _Unpickler(file, encoding="latin1").load()
    except _RefusedError as error:
        raise ValueError(
            f"{name} is refused: {error}. Only plain data (numbers, texts, lists, dictionaries, "
            "NumPy arrays) are read, and nothing of it was run"
        ) from None
    except (
        *(pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError),
        *(ValueError, ArithmeticError, MemoryError, RecursionError, ImportError, BufferError),
        *(tarfile.TarError, zlib.error),
    ) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{name} is damaged, or not a pickle ({what})") from error


def entry(content: Any, *names: str, where: Path) -> Any:
    """Return the entry of a dictionary that has one of some names, as text or bytes.

    Raises:
        ValueError: If it has none of them.
    """
    if isinstance(content, dict):
        for name in names:
            for key in (name, name.encode()):
                if key in content:
                    return content[key]
        held = f"the entries {list(content)[:10]}"
    else:
        held = f"a {type(content).__name__}"
    raise ValueError(f"{where} must have {' or '.join(map(repr, names))}, but holds {held}")


class _RefusedError(Exception):
    """A pickle asks for what is not data."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _RefusedError(f"it asks for {module}.{name}") from None

    def persistent_load(self, pid: Any) -> NoReturn:  # noqa: ARG002 (the base class names it)
        raise _RefusedError("it asks for an object kept outside of it")


class _Substitute:
    """A function for pickles to call, whose state they cannot set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> NoReturn:
        raise _RefusedError("it changes a function")


class _DType:
    """A dtype as a pickle tells it: `numpy.dtype("u2", False, True)`, and then its state."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise _RefusedError(f"it has an array of {code!r}, not of numbers or texts")
        self._code = code
        self._order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, subarray, names, fields, *_ = state
        if order not in _ORDERS or (subarray, names, fields) != (None, None, None):
            raise _RefusedError("it has an array of structures, not of numbers or texts")
        self._order = order

    def make(self) -> np.dtype[Any]:
        order = _ORDERS[self._order]
        return np.dtype(self._code).newbyteorder(order)


class _Array(np.ndarray[Any, np.dtype[Any]]):
    """An array whose state, set after it is made, comes from a pickle."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        content, made = _checked(content, dtype, shape)
        # The stubs ask for NumPy's own bool, which NumPy does not accept here.
        super().__setstate__((1, shape, made, bool(fortran), content))  # type: ignore[arg-type]


def _checked(content: Any, dtype: Any, shape: Any) -> tuple[bytes, np.dtype[Any]]:
    """Return the bytes and dtype of an array, once they fit its shape."""
    if not isinstance(dtype, _DType):
        raise TypeError(f"an array of dtype {dtype!r}")
    if isinstance(content, str):
        content = content.encode("latin1")  # written by Python 2
    made = dtype.make()
    if not isinstance(content, bytes | bytearray) or not isinstance(shape, tuple):
        raise TypeError("an array without content or shape")
    if min(shape, default=0) < 0 or math.prod(shape) * made.itemsize != len(content):
        raise ValueError(f"an array {shape} of {made} cannot have {len(content)} bytes")
    return bytes(content), made


def _reconstruct(kind: object, *_: object) -> _Array:
    if kind is not _NDARRAY:
        raise _RefusedError("it has an array of an unknown kind")
    return _Array((0,), np.uint8)


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    content, made = _checked(content, dtype, shape)
    return np.frombuffer(content, made).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, content: Any) -> Any:
    content, made = _checked(content, dtype, ())
    return np.frombuffer(content, made)[0]


def _encode(text: str, codec: str = "latin1") -> bytes:
    if codec not in ("latin1", "latin-1"):
        raise _RefusedError(f"it asks for the codec {codec!r}")
    return text.encode("latin1")


def _no_array(*_: object) -> NoReturn:
    raise _RefusedError("it makes an array in an unknown way")


_ORDERS: dict[str, Literal["<", ">", "="]] = {"<": "<", ">": ">", "=": "=", "|": "="}
_NDARRAY = _Substitute(_no_array)

_ADMITTED: dict[tuple[str, str], _Substitute] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Substitute(_DType),
    ("_codecs", "encode"): _Substitute(_encode),
    ("collections", "OrderedDict"): _Substitute(dict),
}
for _core in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _Substitute(_reconstruct)
    _ADMITTED[f"{_core}.multiarray", "scalar"] = _Substitute(_scalar)
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _Substitute(_from_buffer)
for _builtins in ("builtins", "__builtin__"):
    for _type in (bytes, complex, frozenset, set):
        _ADMITTED[_builtins, _type.__name__] = _Substitute(_type)
