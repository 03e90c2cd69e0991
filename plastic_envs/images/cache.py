"""Images on disk, as this package keeps them: made once, checked and memory-mapped when read.

An entry is two files: `NAME.npy` with the images and `NAME.json` with the classes and a checksum of
both. Each is written aside and renamed, the second last, so an entry is whole or not there;
processes that share a cache share its pages in memory.
"""

import hashlib
import json
import logging
import os
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from platformdirs import user_cache_path

from plastic_envs.images.base import ImageArray, ImageClasses
from plastic_envs.images.reading import expanded, npy_array, open_file

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "PLASTIC_ENVS_CACHE"
"""Environment variable that moves the cache."""

_FORMAT = "plastic-images-2"
_MOST_NOTES = 2**26  # bytes of an entry's classes


def cache_folder() -> Path:
    """Return the folder of the cache: `$PLASTIC_ENVS_CACHE`, or one in the user's cache folder.

    Raises:
        ValueError: If there is none, for want of a home.
    """
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return expanded(chosen).absolute()
    try:
        folder = expanded(str(user_cache_path("plastic-envs")))
    except RuntimeError as error:
        raise ValueError(f"the user has no folder for caches: {error}") from error
    if not folder.is_absolute():  # XDG_CACHE_HOME or HOME is wrong
        raise ValueError(f"the user's folder for caches is {folder}, which is not a whole path")
    return folder


def fingerprint(*parts: object) -> str:
    """Return a short hexadecimal digest of what the images depend on: settings, versions, files."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def file_stamp(path: Path) -> tuple[str, int, int]:
    """Return what tells a file from a changed one: its path, size and time of change (ns)."""
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def cached(name: str, build: Callable[[], ImageClasses]) -> ImageClasses:
    """Return the images of an entry, memory-mapped; build the entry if there is none.

    A damaged entry is reported and built anew. Where nothing can be written, the images are
    returned all the same, in memory.

    Args:
        name: Name of the entry; it must change with whatever the images depend on.
        build: Makes the images.
    """
    try:
        folder = cache_folder()
    except (ValueError, OSError) as error:
        logger.warning("%s is kept in memory only (set %s): %s", name, FOLDER_VARIABLE, error)
        return build()
    try:
        return _read(folder, name)
    except FileNotFoundError:
        logger.info("preparing the images of %s, once; they are kept in %s", name, folder)
    except OSError as error:
        logger.warning("%s cannot be read from %s: %s", name, folder, error)
    except Exception as error:  # noqa: BLE001 (whatever it is: the entry is made anew)
        logger.warning("making %s in %s anew, since it is damaged: %s", name, folder, error)
    classes = build()
    try:
        _write(folder, name, classes)
        return _read(folder, name)
    except Exception as error:  # noqa: BLE001 (the images are there all the same)
        logger.warning("%s cannot be kept in %s (set %s): %s", name, folder, FOLDER_VARIABLE, error)
        return classes


def _read(folder: Path, name: str) -> ImageClasses:
    with open_file(folder / f"{name}.json", "is damaged", _MOST_NOTES) as file:
        notes: Any = json.loads(file.read())
        offsets, names = notes["offsets"], notes["names"]
        if notes["format"] != _FORMAT:
            raise ValueError("it is of another version")
    with open_file(folder / f"{name}.npy", "is damaged") as file:
        images = npy_array(np.memmap(file, np.uint8, "r"))
        if notes["checksum"] != _checksum(images, offsets, names):
            raise ValueError("the checksum is wrong")
        return ImageClasses(images, offsets, names)


def _write(folder: Path, name: str, classes: ImageClasses) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.ascontiguousarray(classes.images)
    offsets, names = classes.offsets.tolist(), list(classes.names)
    checksum = _checksum(images, offsets, names)
    notes = {"format": _FORMAT, "checksum": checksum, "offsets": offsets, "names": names}
    _put(folder / f"{name}.npy", lambda file: np.save(file, images, allow_pickle=False))
    _put(folder / f"{name}.json", lambda file: file.write(json.dumps(notes).encode()))


def _checksum(images: ImageArray, offsets: list[int], names: list[str]) -> int:
    notes = json.dumps([images.shape, offsets, names])
    return zlib.crc32(notes.encode(), zlib.crc32(images.data))


def _put(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file aside and move it into place; nothing is left of one that fails."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with aside.open("wb") as file:
            write(file)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
