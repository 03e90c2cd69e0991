"""Files that are whole or not there, and folders that one process writes at a time."""

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plastic_envs.checks import shown

logger = logging.getLogger(__name__)

LOCK_NAME = "lock"

_POLL = 0.1  # seconds
_LOCK_BYTE = 2**30  # which Windows locks, behind what the file says
_BUSY = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK}
_LARGEST_TEXT = 2**20  # bytes


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a write that fails, as on a full disk, say which file it was."""
    try:
        yield
    except OSError as error:
        named = OSError(f"{path} cannot be written: {error.strerror or error}")
        named.errno = error.errno
        raise named from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file aside, make sure that it is on the disk, and move it into place.

    Raises:
        OSError: If that fails; what was there before stays.
    """
    aside = path.with_name(path.name + ".tmp")
    with naming(path):
        try:
            with aside.open("wb") as file:
                _write(file.fileno(), content)
            aside.replace(path)
        except BaseException:
            with suppress(OSError):
                aside.unlink()
            raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file as `write_bytes` does."""
    write_bytes(path, text.encode())


def append_text(path: Path, text: str) -> None:
    """Add to a file, and make sure that it is on the disk."""
    with naming(path), path.open("ab") as file:
        _write(file.fileno(), text.encode())


def read_text(path: Path) -> str:
    """Read a small text file.

    Raises:
        ValueError: If it is no text, or larger than 1 MiB.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_TEXT + 1)
    if len(content) > _LARGEST_TEXT:
        raise ValueError("it is larger than 1 MiB")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no text ({error.reason} at byte {error.start})") from error


@contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Keep other processes from writing to a folder.

    The operating system holds the lock, on the file `lock`, and releases it when the process ends,
    however it ends. Where it cannot lock, as on some network file systems, that is logged.

    Args:
        folder: The folder, which exists.
        patience: Seconds to wait for another process to end.

    Raises:
        BlockingIOError: If another process is still at work there.
        OSError: If nothing can be written there.
    """
    path, end = folder / LOCK_NAME, time.monotonic() + patience
    while True:
        with naming(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _take(descriptor, folder):
                if _is_at(descriptor, path):
                    break
            elif time.monotonic() >= end:
                raise BlockingIOError(
                    f"{folder} is in use: another process {_owner(descriptor)}is writing this run. "
                    "Wait until it ends, or choose another folder (--out)"
                )
            else:
                time.sleep(_POLL)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    try:
        with suppress(OSError):  # of use to people alone
            os.ftruncate(descriptor, 0)
            owner = {"pid": os.getpid(), "host": socket.gethostname()}
            os.write(descriptor, json.dumps(owner).encode())
        yield
    finally:
        with suppress(OSError):  # Windows removes no open files
            path.unlink()
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> bool:
    """Lock a file unless another process has; say whether that did not fail."""
    try:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            os.lseek(descriptor, _LOCK_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, ImportError) as error:
        if isinstance(error, OSError) and error.errno in _BUSY:
            return False
        logger.warning(
            "%s cannot be locked (%s): let no other program write this run meanwhile", folder, error
        )
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Say whether an open file is still there: whoever held the lock removes it at the end."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _owner(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 1000, 0))
        return f"({shown(owner['pid'])} on {shown(owner['host'])}) "
    except (OSError, AttributeError, ValueError, TypeError, KeyError):
        return ""


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)


def _sync_folder(path: Path) -> None:
    """Make sure that a renamed file is found under its name; not everywhere possible."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
