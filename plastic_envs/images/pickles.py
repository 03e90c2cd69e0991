"""Pickles that come from strangers: data are read from them, and nothing in them is run.

A pickle is a program for a small machine that builds objects, and can have it call any function by
its name. The machine of this file knows no names but those that data need, and each stands for a
substitute made of few checks, since even NumPy's own constructors can be made to take bytes for
pointers. It takes a bounded number of steps, each of which takes no more work and memory than its
part of the file is long, whatever the program does: no depth, sharing, length or key makes more.
"""

import codecs
import math
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from plastic_envs.checks import shown
from plastic_envs.images.reading import Part, UnreadableError, open_file, reading, size_of

MOST_STEPS = 2**21
"""Instructions that a pickle may have; the largest data set that is read here has 300,000."""

MOST_BYTES = 2**31
"""Bytes that the file of a pickle may have; the largest has 1.2 GB."""

_DAMAGED = "is damaged, or not a pickle"
_PLAIN_DTYPE = re.compile(r"[biufc][1-9]\d?|[SU][1-9]\d{0,6}")
_LONGEST_NUMBER = 4300  # digits: longer ones take quadratic time
_LATIN1 = ("latin1", "latin-1")
_LARGEST_KEY = 2**60  # larger integers can be made to collide in dictionaries, without end


def load_pickle(path: Path) -> Any:
    """Read numbers, texts, bytes, lists, tuples, dictionaries, sets and NumPy arrays of a pickle.

    Arrays hold numbers, texts or bytes, not objects. Keys of dictionaries and members of sets are
    numbers, texts or bytes. Texts of Python 2 become text (Latin-1).

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is damaged or too large, or asks for anything else; nothing was run then.
    """
    with open_file(path, _DAMAGED, MOST_BYTES) as file:
        return read_pickle(Part(file, size_of(file)), str(path))


def read_pickle(stream: Part, name: str) -> Any:
    """Read a pickle out of a stream, as `load_pickle` does; `name` is for errors."""
    with reading(name, _DAMAGED):
        try:
            return _Machine(stream).run()
        except _RefusedError as error:
            raise UnreadableError(
                f"{name} is refused: {error}. Only plain data (numbers, texts, lists, "
                "dictionaries, NumPy arrays) are read, and nothing of it was run"
            ) from None


def entry(content: Any, *names: str) -> Any:
    """Return the entry of a dictionary that has one of some names, as text or bytes.

    Raises:
        ValueError: If it has none of them.
    """
    if isinstance(content, dict):
        for name in names:
            for key in (name, name.encode()):
                if key in content:
                    return content[key]
        held = f"the entries {shown(list(content))}"
    else:
        held = f"a {type(content).__name__}"
    raise ValueError(f"it must have {' or '.join(map(repr, names))}, but holds {held}")


def integers(value: Any, name: str) -> NDArray[np.int64]:
    """Return integers [N], given as a list or an array; `name` is for errors.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(value, list | tuple) and all(
        isinstance(part, int | np.integer) and not isinstance(part, bool) for part in value
    ):
        return np.array(value, np.int64)
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
        return value.astype(np.int64)
    raise ValueError(f"{name} must be a list of integers, got {shown(value)}")


class _RefusedError(Exception):
    """A pickle asks for what is not data."""


class _Name:
    """What a name stands for in a pickle."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


class _Machine:
    """Builds the object that a pickle describes.

    The instructions are those of protocols 0 to 5, as Python's `pickletools` documents them.
    """

    def __init__(self, stream: Part) -> None:
        self.stream = stream
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # what lies below each mark
        self.memo: dict[int, Any] = {}
        self.unread = 2 * stream.left + 1000  # what calls and arrays may still take of the content

    def run(self) -> Any:
        for _ in range(MOST_STEPS):
            code = self.stream.read(1)
            if code == b".":
                return self.stack.pop()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise ValueError(f"{code!r} is no instruction")
            instruction(self)
        raise ValueError(f"it has more than {MOST_STEPS:,} instructions")

    def number(self, form: str) -> Any:
        """Read a number as `struct` writes it."""
        (value,) = struct.unpack(form, self.stream.read(struct.calcsize(form)))
        return value

    def counted(self, form: str) -> bytes:
        """Read bytes that follow their length."""
        return self.stream.read(self.number(form))

    def line(self) -> bytes:
        line = self.stream.readline(self.stream.left)
        if not line.endswith(b"\n"):
            raise EOFError("it ends in the middle of a line")
        return line[:-1]

    def digits(self) -> bytes:
        line = self.line()
        if len(line) > _LONGEST_NUMBER:
            raise ValueError(f"a number has more than {_LONGEST_NUMBER:,} digits")
        return line

    def integer(self) -> int:
        return int(self.digits().removesuffix(b"L"))

    def text(self, line: bytes) -> str:
        """Return the text that Python 2 writes in quotes."""
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
            raise ValueError("a text is not in quotes")
        return codecs.escape_decode(line[1:-1])[0].decode("latin1")

    def marked_items(self) -> list[Any]:
        """Take what lies above the last mark."""
        items, self.stack = self.stack, self.marked.pop()
        return items

    def taken(self, count: int) -> tuple[Any, ...]:
        """Take the last objects."""
        if len(self.stack) < count:
            raise IndexError("objects are missing")
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def top(self, *kinds: type) -> Any:
        """Return the last object, which is of one of some types."""
        value = self.stack[-1]
        if type(value) not in kinds:
            raise TypeError(f"an instruction is for another type than {type(value).__name__}")
        return value

    def remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.marked_items()

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def extend(self, items: Iterable[Any]) -> None:
        self.top(list).extend(items)

    def update(self, items: Iterable[Any]) -> None:
        target = self.top(dict)
        target.update(_dictionary(tuple(items)))

    def add(self, items: Iterable[Any]) -> None:
        self.top(set).update(map(_key, items))

    def find(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name is not a text")
        found = _NAMES.get((module, name))
        if found is None:
            raise _RefusedError(f"it asks for {module[:100]}.{name[:100]}")
        self.push(found)

    def call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise TypeError(f"a {type(function).__name__} cannot be called")
        self.pay(arguments)
        self.push(function.make(*arguments))

    def build(self) -> None:
        (state,) = self.taken(1)
        target = self.stack[-1]
        if isinstance(target, _Name):
            raise _RefusedError("it changes a function")
        if not isinstance(target, _DType | _Array) or not isinstance(state, tuple):
            raise _RefusedError(f"it sets the state of a {type(target).__name__}")
        self.pay(state)
        target.set_state(*state)

    def pay(self, arguments: Iterable[Any]) -> None:
        """Allow for what is made of arguments: all in all no more than the file has to read."""
        self.unread -= sum(
            len(part)
            for part in arguments
            if isinstance(part, str | bytes | bytearray | list | tuple)
        )
        if self.unread < 0:
            raise ValueError("it makes more of its content than it has")


class _DType:
    """A dtype as a pickle tells it: `numpy.dtype("u2", False, True)`, and then its state."""

    def __init__(self, code: Any, *_: object) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise _RefusedError(f"it has an array of {shown(code)}, not of numbers or texts")
        self._code = code
        self._order = "="

    def set_state(
        self, _: Any, order: Any, subarray: Any, names: Any, fields: Any, *__: Any
    ) -> None:
        plain = subarray is None and names is None and fields is None
        if type(order) is not str or order not in _ORDERS or not plain:
            raise _RefusedError("it has an array of structures, not of numbers or texts")
        self._order = order

    def make(self) -> np.dtype[Any]:
        return np.dtype(self._code).newbyteorder(_ORDERS[self._order])


class _Array(np.ndarray[Any, np.dtype[Any]]):
    """An array whose state, set after it is made, comes from a pickle."""

    def set_state(self, _: Any, shape: Any, dtype: Any, fortran: Any, content: Any) -> None:
        content, made = _checked(content, dtype, shape)
        columns = isinstance(fortran, int) and bool(fortran)
        # The stubs ask for NumPy's own bool, which NumPy does not accept here.
        self.__setstate__((1, shape, made, columns, bytes(content)))  # type: ignore[arg-type]


def _checked(content: Any, dtype: Any, shape: Any) -> tuple[bytes | bytearray, np.dtype[Any]]:
    """Return the bytes and dtype of an array, once they fit its shape."""
    if not isinstance(dtype, _DType):
        raise TypeError(f"the dtype of an array is a {type(dtype).__name__}")
    if isinstance(content, str):
        content = content.encode("latin1")  # written by Python 2
    if type(content) not in (bytes, bytearray) or type(shape) is not tuple:
        raise TypeError("an array is without content or shape")
    made = dtype.make()
    if not all(type(side) is int for side in shape):
        raise ValueError(f"an array cannot have the shape {shown(shape)}")
    if min(shape, default=0) < 0 or _product(shape) * made.itemsize != len(content):
        raise ValueError(f"an array {shown(shape)} of {made} cannot have {len(content):,} bytes")
    return content, made


def _product(shape: tuple[int, ...]) -> int:
    """Multiply the sides of an array, of which NumPy takes at most 64, below 2**63."""
    if len(shape) > 64 or max(shape, default=0) >= 2**63:
        raise ValueError(f"an array cannot have the shape {shown(shape)}")
    return math.prod(shape)


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


def _encode(text: Any, codec: Any = "latin1") -> bytes:
    if not isinstance(text, str) or not isinstance(codec, str) or codec not in _LATIN1:
        raise _RefusedError(f"it asks for the codec {shown(codec)}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""  # others are told by their text


def _complex(real: Any, imaginary: Any) -> complex:
    if not isinstance(real, int | float) or not isinstance(imaginary, int | float):
        raise TypeError("a complex number is not made of numbers")
    return complex(real, imaginary)


def _dictionary(items: tuple[Any, ...]) -> dict[Any, Any]:
    """Make a dictionary of keys and values in turn."""
    return dict(zip(map(_key, items[::2]), items[1::2], strict=True))


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    """Make a dictionary of pairs, as Python 2 writes ordered ones."""
    if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
        raise TypeError("a dictionary is not made of pairs")
    return {_key(key): value for key, value in pairs}


def _members(items: Any = ()) -> Iterable[Any]:
    if not isinstance(items, list | tuple):
        raise TypeError(f"a set is made of a {type(items).__name__}")
    return map(_key, items)


def _key(value: Any) -> Any:
    """Return a key of a dictionary or member of a set, of a kind that is found in bounded time."""
    if value is None or isinstance(value, str | bytes | float):
        return value
    if isinstance(value, int | np.integer) and abs(int(value)) < _LARGEST_KEY:
        return value
    raise _RefusedError(f"it has {shown(value)} as a key, not a number, a text or bytes")


def _no_array(*_: object) -> NoReturn:
    raise _RefusedError("it makes an array in an unknown way")


def _outside(_: _Machine) -> NoReturn:
    raise _RefusedError("it asks for an object kept outside of it")


def _long(machine: _Machine, form: str) -> None:
    machine.push(int.from_bytes(machine.counted(form), "little", signed=True))


def _truth_or_integer(machine: _Machine) -> None:
    digits = machine.digits()
    machine.push(digits == b"01" if digits in (b"00", b"01") else int(digits))


def _start(machine: _Machine) -> None:
    if (protocol := machine.number("<B")) > 5:
        raise ValueError(f"it is of the protocol {protocol}")


def _frame(machine: _Machine) -> None:
    if machine.number("<Q") > machine.stream.left:
        raise EOFError("it ends too early")


def _extension(machine: _Machine, form: str) -> NoReturn:
    raise _RefusedError(f"it asks for the extension {machine.number(form)}")


def _name(machine: _Machine) -> None:
    module, name = machine.line(), machine.line()
    machine.find(module.decode(), name.decode())


def _instance(machine: _Machine) -> None:
    _name(machine)
    (function,) = machine.taken(1)
    machine.call(function, tuple(machine.marked_items()))


def _object(machine: _Machine) -> None:
    function, *arguments = machine.marked_items()
    machine.call(function, tuple(arguments))


def _unicode(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


_Instruction = Callable[[_Machine], Any]

_INSTRUCTIONS: dict[bytes, _Instruction] = {
    # numbers and other constants
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": _truth_or_integer,
    b"L": lambda m: m.push(m.integer()),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: _long(m, "<B"),
    b"\x8b": lambda m: _long(m, "<i"),
    b"F": lambda m: m.push(float(m.digits())),
    b"G": lambda m: m.push(m.number(">d")),
    # texts and bytes
    b"S": lambda m: m.push(m.text(m.line())),
    b"T": lambda m: m.push(m.counted("<i").decode("latin1")),
    b"U": lambda m: m.push(m.counted("<B").decode("latin1")),
    b"B": lambda m: m.push(m.counted("<I")),
    b"C": lambda m: m.push(m.counted("<B")),
    b"\x8e": lambda m: m.push(m.counted("<Q")),
    b"\x96": lambda m: m.push(bytearray(m.counted("<Q"))),
    b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    b"X": lambda m: m.push(_unicode(m.counted("<I"))),
    b"\x8c": lambda m: m.push(_unicode(m.counted("<B"))),
    b"\x8d": lambda m: m.push(_unicode(m.counted("<Q"))),
    # lists, tuples, dictionaries, sets
    b"]": lambda m: m.push([]),
    b")": lambda m: m.push(()),
    b"}": lambda m: m.push({}),
    b"\x8f": lambda m: m.push(set()),
    b"l": lambda m: m.push(m.marked_items()),
    b"t": lambda m: m.push(tuple(m.marked_items())),
    b"\x85": lambda m: m.push(m.taken(1)),
    b"\x86": lambda m: m.push(m.taken(2)),
    b"\x87": lambda m: m.push(m.taken(3)),
    b"d": lambda m: m.push(_dictionary(tuple(m.marked_items()))),
    b"\x91": lambda m: m.push(frozenset(map(_key, m.marked_items()))),
    b"a": lambda m: m.extend(m.taken(1)),
    b"e": lambda m: m.extend(m.marked_items()),
    b"s": lambda m: m.update(m.taken(2)),
    b"u": lambda m: m.update(m.marked_items()),
    b"\x90": lambda m: m.add(m.marked_items()),
    # the stack and the memo
    b"(": _Machine.mark,
    b"0": _Machine.pop,
    b"1": _Machine.marked_items,
    b"2": lambda m: m.push(m.stack[-1]),
    b"p": lambda m: m.remember(m.integer()),
    b"q": lambda m: m.remember(m.number("<B")),
    b"r": lambda m: m.remember(m.number("<I")),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"g": lambda m: m.push(m.memo[m.integer()]),
    b"h": lambda m: m.push(m.memo[m.number("<B")]),
    b"j": lambda m: m.push(m.memo[m.number("<I")]),
    # names, and what is made by them
    b"c": _name,
    b"\x93": lambda m: m.find(*m.taken(2)),
    b"R": lambda m: m.call(*m.taken(2)),
    b"\x81": lambda m: m.call(*m.taken(2)),
    b"i": _instance,
    b"o": _object,
    b"b": _Machine.build,
    b"\x82": lambda m: _extension(m, "<B"),
    b"\x83": lambda m: _extension(m, "<H"),
    b"\x84": lambda m: _extension(m, "<I"),
    b"P": _outside,
    b"Q": _outside,
    b"\x97": _outside,
    b"\x98": _outside,
    # the form of the file
    b"\x80": _start,
    b"\x95": _frame,
}

_ORDERS: dict[str, Literal["<", ">", "="]] = {"<": "<", ">": ">", "=": "=", "|": "="}
_NDARRAY = _Name(_no_array)

_NAMES: dict[tuple[str, str], _Name] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Name(_DType),
    ("_codecs", "encode"): _Name(_encode),
    ("collections", "OrderedDict"): _Name(_ordered),
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _Name(_reconstruct)
    _NAMES[f"{_core}.multiarray", "scalar"] = _Name(_scalar)
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _Name(_from_buffer)
for _builtins in ("builtins", "__builtin__"):
    _NAMES[_builtins, "bytes"] = _Name(_no_bytes)
    _NAMES[_builtins, "complex"] = _Name(_complex)
    _NAMES[_builtins, "set"] = _Name(lambda items=(): set(_members(items)))
    _NAMES[_builtins, "frozenset"] = _Name(lambda items=(): frozenset(_members(items)))
