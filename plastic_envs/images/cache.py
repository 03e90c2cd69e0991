"""Images on disk, as this package keeps them: made once, checked and memory-mapped when read.

An entry is two files: `NAME.npy` with the images and `NAME.json` with the classes and a checksum.
Each is written aside and renamed, the second last, so an entry is whole or not there; processes
that share a cache share its pages in memory.
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

from plastic_envs.images.base import ImageClasses

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "PLASTIC_ENVS_CACHE"
"""Environment variable that moves the cache."""

_FORMAT = "plastic-images-1"


def cache_folder() -> Path:
    """Return the folder of the cache: `$PLASTIC_ENVS_CACHE`, or one in the user's cache folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen).expanduser() if chosen else user_cache_path("plastic-envs")


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
    folder = cache_folder()
    try:
        return _read(folder, name)
    except FileNotFoundError:
        logger.info("preparing the images of %s, once; they are kept in %s", name, folder)
    except (ValueError, EOFError) as error:
        logger.warning("making %s in %s anew, since it is damaged: %s", name, folder, error)
    except OSError as error:
        logger.warning("%s cannot be read from %s: %s", name, folder, error)
    classes = build()
    try:
        _write(folder, name, classes)
        return _read(folder, name)
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be kept in %s (set %s): %s", name, folder, FOLDER_VARIABLE, error)
        return classes


def _read(folder: Path, name: str) -> ImageClasses:
    notes: Any = json.loads((folder / f"{name}.json").read_text())
    images: Any = np.lib.format.open_memmap(folder / f"{name}.npy", mode="r")
    try:
        if notes["format"] != _FORMAT or notes["checksum"] != zlib.crc32(images.data):
            raise ValueError("the checksum is wrong")
        offsets = np.array(notes["offsets"], np.int64)
        return ImageClasses(images, offsets, tuple(notes["names"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{name}.json is not whole") from error


def _write(folder: Path, name: str, classes: ImageClasses) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.ascontiguousarray(classes.images)
    notes = {
        "format": _FORMAT,
        "checksum": zlib.crc32(images.data),
        "offsets": classes.offsets.tolist(),
        "names": list(classes.names),
    }
    _put(folder / f"{name}.npy", lambda file: np.save(file, images, allow_pickle=False))
    _put(folder / f"{name}.json", lambda file: file.write(json.dumps(notes).encode()))


def _put(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file aside and move it into place; nothing is left of one that fails."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with aside.open("wb") as file:
            write(file)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
