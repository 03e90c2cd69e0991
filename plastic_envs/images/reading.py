"""How files that come from anybody are read: within limits, and with one error that names the file.

A file may be damaged, something else than it seems, or made to do harm. Whatever a reader (NumPy,
Pillow, zipfile, …) raises about it becomes an `UnreadableError`, and what is taken from it is
bounded by its size or by a limit that stands here or with its reader.
"""

import io
import math
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from plastic_envs.checks import check_path, shown

MOST_IMAGES = 2**35
"""Bytes that the images of one split may have in memory."""

_UNPACKED, _RATIO = 2**30, 64  # what is packed may become so many bytes, or so many times its size
_PIECE = 2**20  # bytes read at a time
_DIRECTORY = 2**23  # bytes of the list of an archive's members: about 100,000 of them
_HEADER = 2**16 + 16  # bytes of the longest header of an array
_ROOT = 4096  # characters of a path
_SAID = 600  # characters of another's error


class UnreadableError(ValueError):
    """A file is damaged, too large or of another form; the message begins with its name."""


@contextmanager
def reading(name: object, problem: str) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into the error that names the file.

    Args:
        name: Of the file.
        problem: What is wrong with a file that fails here, such as "is damaged".

    Raises:
        OSError: If another file cannot be opened.
        UnreadableError: In place of any other exception.
    """
    try:
        yield
    except UnreadableError:
        raise
    except Exception as error:  # libraries raise nearly all there are about damaged files
        if isinstance(error, OSError) and error.filename is not None:
            raise  # another file could not be opened, and is named
        raise UnreadableError(f"{name} {problem}: {_said(error)}") from error


@contextmanager
def open_file(path: Path, problem: str, most: int | None = None) -> Iterator[BinaryIO]:
    """Open a file to read it, as `reading` does.

    Args:
        path: The file.
        problem: As in `reading`.
        most: Bytes that it may have.

    Raises:
        OSError: If it is missing or cannot be opened.
        UnreadableError: If it is none (a pipe, a device), is too large, or fails to be read.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError(f"{path} is not a file, but a pipe or a device")
        if most is not None and status.st_size > most:
            raise UnreadableError(
                f"{path} has {status.st_size:,} bytes, more than the {most:,} that are read"
            )
        with reading(path, problem):
            yield file


def size_of(file: BinaryIO) -> int:
    """Return the bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def most_unpacked(packed: int) -> int:
    """Return how many bytes may come out of packed ones: 64 times as many, and always 1 GiB."""
    return min(MOST_IMAGES, max(_UNPACKED, _RATIO * packed))


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def readline(self, size: int, /) -> bytes: ...


class Part:
    """A part of a stream: its next `left` bytes, which must be there."""

    def __init__(self, stream: "_Readable", left: int) -> None:
        self._stream = stream
        self.left = left

    def read(self, size: int) -> bytes:
        """Return the next bytes.

        Raises:
            EOFError: If there are not so many.
        """
        content = self._stream.read(self._taken(size))
        if len(content) != size:
            raise EOFError("it ends too early")
        return content

    def readline(self, size: int) -> bytes:
        """Return the bytes up to the end of the line, at most `size`."""
        line = self._stream.readline(min(size, self.left))
        self._taken(len(line))
        return line

    def read_most(self) -> bytes:
        """Return some of the next bytes; none at the end of the stream."""
        content = self._stream.read(min(_PIECE, self.left))
        self._taken(len(content))
        if not self.left:
            raise EOFError("it has more than is read of it")
        return content

    def skip(self, size: int) -> None:
        """Leave out the next bytes."""
        if size > self.left:
            raise EOFError(f"a member has more than the {self.left:,} bytes that are read")
        for start in range(0, size, _PIECE):
            self.read(min(_PIECE, size - start))

    def _taken(self, size: int) -> int:
        if not 0 <= size <= self.left:
            raise EOFError(f"{size:,} bytes are asked for, where {self.left:,} are left")
        self.left -= size
        return size


@contextmanager
def open_zip(
    path: Path, problem: str, most: int | None = None
) -> Iterator[tuple[zipfile.ZipFile, int]]:
    """Open a zip archive, as `open_file` does; gives it and the bytes that may come out of it."""
    with (
        open_file(path, problem, most) as file,
        _Pieces(io.FileIO(file.fileno(), closefd=False)) as pieces,
        zipfile.ZipFile(pieces) as archive,
    ):
        yield archive, most_unpacked(size_of(file))


def read_member(archive: zipfile.ZipFile, name: str, most: int) -> NDArray[np.uint8]:
    """Return the bytes of a member of an archive, of which there may be `most`."""
    member = archive.getinfo(name)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{shown(name)} is packed in a way that is not read (only deflated is)")
    if member.file_size > most:
        raise ValueError(
            f"{shown(name)} has {member.file_size:,} bytes, more than the {most:,} that are read"
        )
    content = np.empty(member.file_size, np.uint8)  # takes no memory before it is written to
    end = 0
    with archive.open(member) as file:
        while piece := file.read(_PIECE):
            content[end : end + len(piece)] = np.frombuffer(piece, np.uint8)
            end += len(piece)
    if end != len(content):
        raise EOFError(f"{shown(name)} ends too early")
    return content


def npy_array(content: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the array of numbers or texts in the content of an .npy file, without a copy."""
    header = io.BytesIO(content[:_HEADER].tobytes())
    version = np.lib.format.read_magic(header)
    if version != (1, 0):  # others are for arrays of structures
        raise ValueError(f"it is of the version {version} of arrays, not of 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
    if dtype.hasobject:
        raise ValueError("it is an array of objects, not of numbers or texts (`astype(str)`)")
    values = content[header.tell() :]
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"an array {dtype} {shown(shape)} cannot have {len(values):,} bytes")
    return values.view(dtype).reshape(shape, order="F" if fortran else "C")


def check_root(root: object) -> str | None:
    """Return a place as text, so that equal places are equal; None stays.

    Raises:
        ValueError: If it is no path.
    """
    if root is None:
        return None
    text = check_path("root", root)
    if not 0 < len(text) <= _ROOT:
        raise ValueError(f"root must be a path, got {shown(root)}")
    return text


def expanded(path: str) -> Path:
    """Return a path with `~` replaced by a home.

    Raises:
        ValueError: If there is no such home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"there is no home for the `~` of {shown(path)} (HOME is not set, or there is no such "
            "user): give the path without it"
        ) from error


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe that nobody writes to is not waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _said(error: Exception) -> str:
    text = str(error)
    if len(text) > _SAID:
        text = f"{text[:_SAID]}…"
    return text if type(error) is ValueError and text else f"{type(error).__name__}: {text}"


class _Pieces(io.BufferedReader):
    """A file that gives no more at once than the list of an archive's members may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = _DIRECTORY
        if size > _DIRECTORY:
            raise ValueError(f"{size:,} bytes are to be read at once, more than {_DIRECTORY:,}")
        return super().read(size)
